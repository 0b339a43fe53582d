package main

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	corev1apply "k8s.io/client-go/applyconfigurations/core/v1"

	"edgefleet.local/k3s_double/control"
	"edgefleet.local/k3s_double/encryption"
)

const (
	finalizer     = "wrangler.cattle.io/node"
	uninitialized = "node.cloudprovider.kubernetes.io/uninitialized"
	resync        = 15 * time.Second
)

// errNotYet: what is to be updated is being made.
var errNotYet = errors.New("not there yet")

// nodeKeeper does for nodes what a K3s server does: the roles of this one, the work of the cloud controller, the names of
// all for CoreDNS.
type nodeKeeper struct {
	client  kubernetes.Interface
	cloud   kubernetes.Interface // as the cloud controller
	options *control.Options
	stage   string // of the encryption of secrets; told once after each start
	store   cache.Store
}

func newNodeKeeper(client kubernetes.Interface, options *control.Options) (*nodeKeeper, error) {
	cloud, err := clientOf(options.Path("server/cred/cloud-controller.kubeconfig"))
	if err != nil {
		return nil, err
	}
	keeper := &nodeKeeper{client: client, cloud: cloud, options: options}
	if options.SecretsEncryption {
		keeper.stage, err = options.Encryption().Stage()
	}
	return keeper, err
}

// run looks at each node when it changes and every 15 s; what fails is tried again then.
func (k *nodeKeeper) run(ctx context.Context) {
	source := cache.NewListWatchFromClient(k.client.CoreV1().RESTClient(), "nodes", "", fields.Everything())
	changed := make(chan struct{}, 1)
	poke := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	store, informer := cache.NewInformer(source, &corev1.Node{}, 0, cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { poke() }, UpdateFunc: func(_, _ any) { poke() }, DeleteFunc: func(any) { poke() },
	})
	k.store = store
	go informer.Run(ctx.Done())
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-time.After(resync):
		}
		if err := k.lookAtAll(ctx); err != nil && ctx.Err() == nil {
			if !errors.Is(err, errNotYet) {
				log.Printf("Failed to update nodes, trying again: %v", err)
			}
			time.AfterFunc(time.Second, poke)
		}
	}
}

func (k *nodeKeeper) lookAtAll(ctx context.Context) error {
	hosts := map[string]string{}
	for _, item := range k.store.List() {
		node := item.(*corev1.Node).DeepCopy()
		if node.DeletionTimestamp != nil {
			if err := k.letGo(ctx, node); err != nil {
				return err
			}
			continue
		}
		if err := k.lookAt(ctx, node); err != nil {
			return fmt.Errorf("node %s: %w", node.Name, err)
		}
		for _, address := range node.Status.Addresses {
			if address.Type == corev1.NodeInternalIP && hosts[node.Name] == "" {
				hosts[node.Name] = address.Address
			}
		}
	}
	return k.publishHosts(ctx, hosts)
}

func (k *nodeKeeper) lookAt(ctx context.Context, node *corev1.Node) error {
	before := node.DeepCopy()
	if !slices.Contains(node.Finalizers, finalizer) {
		node.Finalizers = append(node.Finalizers, finalizer)
	}
	mine := node.Name == k.options.NodeName
	if mine {
		set(&node.Labels, controlPlane, "true")
		set(&node.Labels, "node-role.kubernetes.io/master", "true")
		if k.stage != "" {
			set(&node.Annotations, encryption.Annotation, k.stage)
		}
	}
	if !sameNode(before, node) {
		updated, err := k.client.CoreV1().Nodes().Update(ctx, node, metav1.UpdateOptions{})
		if err != nil {
			return ignoreConflict(err)
		}
		node = updated
	}
	if mine {
		k.stage = ""
	}
	if k.options.CloudController {
		return k.actAsCloud(ctx, node)
	}
	return nil
}

// describeNode sets this node's labels, those of the configuration anew at each start, and K3s's annotations. It acts as
// the kubelet, and waits for its Node.
func describeNode(ctx context.Context, kubelet kubernetes.Interface, o *control.Options, args []string) error {
	nodes := kubelet.CoreV1().Nodes()
	return waitFor(ctx, 500*time.Millisecond, func() error {
		node, err := nodes.Get(ctx, o.NodeName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		before := node.DeepCopy()
		describe(node, o, args)
		if sameNode(before, node) {
			return nil
		}
		_, err = nodes.Update(ctx, node, metav1.UpdateOptions{})
		if err != nil && !apierrors.IsConflict(err) {
			log.Printf("Failed to set annotations and labels on node %s: %v", o.NodeName, err)
		}
		return err
	})
}

func describe(node *corev1.Node, o *control.Options, args []string) {
	for _, label := range o.Labels {
		name, value, _ := strings.Cut(label, "=")
		set(&node.Labels, name, value)
	}
	if o.CloudController {
		set(&node.Annotations, "k3s.io/hostname", o.NodeName)
		set(&node.Annotations, "k3s.io/internal-ip", strings.Join(o.NodeIPs, ","))
		if len(o.ExternalIPs) > 0 {
			set(&node.Annotations, "k3s.io/external-ip", strings.Join(o.ExternalIPs, ","))
		}
	}
	shown, env := mustJSON(args), mustJSON(k3sEnvironment())
	set(&node.Annotations, "k3s.io/node-args", shown)
	set(&node.Annotations, "k3s.io/node-env", env)
	hash := sha256.Sum256([]byte(shown + env))
	set(&node.Annotations, "k3s.io/node-config-hash", base32.StdEncoding.EncodeToString(hash[:]))
}

// k3sEnvironment are the variables that K3s reads, secrets left out.
func k3sEnvironment() map[string]string {
	shown := map[string]string{}
	for _, variable := range os.Environ() {
		name, value, _ := strings.Cut(variable, "=")
		if !strings.HasPrefix(name, "K3S_") {
			continue
		}
		if strings.Contains(name, "TOKEN") || strings.Contains(name, "DATASTORE") || strings.Contains(name, "VPN") {
			value = "********"
		}
		shown[name] = value
	}
	return shown
}

// actAsCloud gives a node its provider id, type and addresses, and then lets pods onto it.
func (k *nodeKeeper) actAsCloud(ctx context.Context, node *corev1.Node) error {
	internal, ok := node.Annotations["k3s.io/internal-ip"]
	if !ok {
		return nil // not described yet
	}
	addresses := addressesOf(node.Annotations["k3s.io/hostname"], internal, node.Annotations["k3s.io/external-ip"])
	if !slices.Equal(node.Status.Addresses, addresses) {
		node.Status.Addresses = addresses
		updated, err := k.cloud.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{})
		if err != nil {
			return ignoreConflict(err)
		}
		node = updated
	}
	before := node.DeepCopy()
	if node.Spec.ProviderID == "" {
		node.Spec.ProviderID = "k3s://" + node.Name
	}
	set(&node.Labels, "node.kubernetes.io/instance-type", "k3s")
	set(&node.Labels, "beta.kubernetes.io/instance-type", "k3s")
	node.Spec.Taints = slices.DeleteFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == uninitialized })
	if sameNode(before, node) && len(before.Spec.Taints) == len(node.Spec.Taints) && before.Spec.ProviderID != "" {
		return nil
	}
	_, err := k.cloud.CoreV1().Nodes().Update(ctx, node, metav1.UpdateOptions{})
	return ignoreConflict(err)
}

func addressesOf(hostname, internal, external string) []corev1.NodeAddress {
	var all []corev1.NodeAddress
	for _, one := range strings.Split(internal, ",") {
		all = append(all, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: one})
	}
	for _, one := range strings.Split(external, ",") {
		if one != "" {
			all = append(all, corev1.NodeAddress{Type: corev1.NodeExternalIP, Address: one})
		}
	}
	return append(all, corev1.NodeAddress{Type: corev1.NodeHostName, Address: hostname})
}

// letGo ends a node's deletion: what K3s keeps for it goes with it.
func (k *nodeKeeper) letGo(ctx context.Context, node *corev1.Node) error {
	if !slices.Contains(node.Finalizers, finalizer) {
		return nil
	}
	secret := node.Name + ".node-password.k3s"
	err := k.client.CoreV1().Secrets("kube-system").Delete(ctx, secret, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	node.Finalizers = slices.DeleteFunc(node.Finalizers, func(name string) bool { return name == finalizer })
	_, err = k.client.CoreV1().Nodes().Update(ctx, node, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return ignoreConflict(err)
}

// publishHosts keeps the key NodeHosts of CoreDNS's ConfigMap. Until the manifest has made the ConfigMap there is nothing
// to keep.
func (k *nodeKeeper) publishHosts(ctx context.Context, hosts map[string]string) error {
	lines := make([]string, 0, len(hosts))
	for name, address := range hosts {
		lines = append(lines, address+" "+name+"\n")
	}
	slices.Sort(lines)
	text := strings.Join(lines, "")
	configMaps := k.client.CoreV1().ConfigMaps("kube-system")
	current, err := configMaps.Get(ctx, "coredns", metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		if k.options.Disable["coredns"] {
			return nil
		}
		return errNotYet
	} else if err != nil {
		return err
	}
	if current.Data["NodeHosts"] == text {
		return nil
	}
	config := corev1apply.ConfigMap("coredns", "kube-system").WithData(map[string]string{"NodeHosts": text})
	_, err = configMaps.Apply(ctx, config, metav1.ApplyOptions{FieldManager: manager + "-nodes", Force: true})
	return err
}

func set(target *map[string]string, name, value string) {
	if *target == nil {
		*target = map[string]string{}
	}
	(*target)[name] = value
}

func sameNode(a, b *corev1.Node) bool {
	return maps.Equal(a.Labels, b.Labels) && maps.Equal(a.Annotations, b.Annotations) &&
		slices.Equal(a.Finalizers, b.Finalizers)
}

// ignoreConflict: the newer version of the object is on its way to us.
func ignoreConflict(err error) error {
	if apierrors.IsConflict(err) {
		return nil
	}
	return err
}

func mustJSON(value any) string {
	text, err := json.Marshal(value)
	if err != nil { // strings only
		panic(err)
	}
	return string(text)
}
