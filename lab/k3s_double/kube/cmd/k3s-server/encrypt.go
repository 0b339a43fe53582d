package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/pager"
	"k8s.io/client-go/util/retry"

	"edgefleet.local/k3s_double/encryption"
)

const (
	controlPlane = "node-role.kubernetes.io/control-plane"
	// How often the API server took over a changed encryption configuration.
	reloadMetric  = "apiserver_encryption_config_controller_automatic_reloads_total"
	reloadSuccess = `status="success"`
)

// encryptionCluster is what exchanging the key for secrets needs of the API.
type encryptionCluster struct {
	client kubernetes.Interface
	node   string
}

func (c *encryptionCluster) Annotations(ctx context.Context) (map[string]string, error) {
	nodes, err := c.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: controlPlane + "=true"})
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for _, node := range nodes.Items {
		if text, ok := node.Annotations[encryption.Annotation]; ok {
			found[node.Name] = text
		}
	}
	return found, nil
}

func (c *encryptionCluster) Annotate(ctx context.Context, text string) error {
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		node, err := c.client.CoreV1().Nodes().Get(ctx, c.node, metav1.GetOptions{})
		if err != nil {
			return err
		}
		set(&node.Annotations, encryption.Annotation, text)
		_, err = c.client.CoreV1().Nodes().Update(ctx, node, metav1.UpdateOptions{})
		return err
	})
}

// RewriteSecrets updates each without a change: the API server stores it anew when its key is not the first one.
func (c *encryptionCluster) RewriteSecrets(ctx context.Context) error {
	list := func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
		return c.client.CoreV1().Secrets("").List(ctx, options)
	}
	return pager.New(list).EachListItem(ctx, metav1.ListOptions{}, func(item runtime.Object) error {
		secret := item.(*corev1.Secret)
		_, err := c.client.CoreV1().Secrets(secret.Namespace).Update(ctx, secret, metav1.UpdateOptions{})
		if err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) { // somebody else wrote or deleted it
			return fmt.Errorf("secret %s/%s: %w", secret.Namespace, secret.Name, err)
		}
		return nil
	})
}

func (c *encryptionCluster) Reloads(ctx context.Context) (int, error) {
	metrics, err := c.client.Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return 0, err
	}
	total := 0.0
	for lines := bufio.NewScanner(bytes.NewReader(metrics)); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), "} ")
		if !strings.HasPrefix(name, reloadMetric) || !strings.Contains(name, reloadSuccess) {
			continue
		}
		count, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, err
		}
		total += count
	}
	return int(total), nil
}
