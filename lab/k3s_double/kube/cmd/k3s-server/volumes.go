package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v10/controller"

	"edgefleet.local/k3s_double/control"
	"edgefleet.local/k3s_double/volumes"
)

const (
	provisionerName  = "rancher.io/local-path"
	selectedNode     = "volume.kubernetes.io/selected-node"
	hostnameLabel    = "kubernetes.io/hostname"
	volumeType       = "volumeType"
	defaultVolume    = "defaultVolumeType"
	typeLocal        = "local"
	provisionWorkers = 2
)

// localVolumes makes the volumes of class local-path that belong to this node: a folder each. K3s has one provisioner
// for all nodes and a helper pod on the volume's; here each node's own process does both.
type localVolumes struct {
	client kubernetes.Interface
	node   string
}

// startVolumes runs it until the process ends.
func startVolumes(ctx context.Context, o *control.Options) error {
	client, err := clientOf(o.Path("agent/k3scontroller.kubeconfig"))
	if err != nil {
		return err
	}
	provisioner := &localVolumes{client: client, node: o.NodeName}
	background := context.WithoutCancel(ctx)
	run := controller.NewProvisionController(klog.FromContext(background), client, provisionerName, provisioner,
		controller.LeaderElection(false), controller.Threadiness(provisionWorkers))
	go run.Run(background)
	return nil
}

// ShouldProvision leaves other nodes' claims to them.
func (v *localVolumes) ShouldProvision(_ context.Context, claim *corev1.PersistentVolumeClaim) bool {
	return claim.Annotations[selectedNode] == v.node
}

// ShouldDelete leaves other nodes' volumes to them.
func (v *localVolumes) ShouldDelete(_ context.Context, volume *corev1.PersistentVolume) bool {
	affinity := volume.Spec.NodeAffinity
	if affinity == nil || affinity.Required == nil {
		return false
	}
	return slices.ContainsFunc(affinity.Required.NodeSelectorTerms, func(term corev1.NodeSelectorTerm) bool {
		return slices.ContainsFunc(term.MatchExpressions, func(need corev1.NodeSelectorRequirement) bool {
			return need.Key == hostnameLabel && slices.Contains(need.Values, v.node)
		})
	})
}

func (v *localVolumes) Provision(
	ctx context.Context, options controller.ProvisionOptions,
) (*corev1.PersistentVolume, controller.ProvisioningState, error) {
	volume, err := v.provision(ctx, options)
	return volume, controller.ProvisioningFinished, err
}

func (v *localVolumes) provision(ctx context.Context, options controller.ProvisionOptions) (*corev1.PersistentVolume, error) {
	claim := options.PVC
	if claim.Spec.Selector != nil {
		return nil, errors.New("claim.Spec.Selector is not supported")
	}
	for _, mode := range claim.Spec.AccessModes {
		if mode != corev1.ReadWriteOnce && mode != corev1.ReadWriteOncePod {
			return nil, fmt.Errorf("NodePath only supports ReadWriteOnce and ReadWriteOncePod (1.22+) access modes, not %s", mode)
		}
	}
	config, err := v.client.CoreV1().ConfigMaps(systemSpace).Get(ctx, "local-path-config", metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	base, err := volumes.Base(config.Data["config.json"], v.node)
	if err != nil {
		return nil, err
	}
	folder, err := volumes.Make(base, options.PVName, claim.Namespace, claim.Name)
	if err != nil {
		return nil, err
	}
	source := corev1.PersistentVolumeSource{}
	if chosen(claim.Annotations[volumeType], options.StorageClass.Annotations[defaultVolume]) == typeLocal {
		source.Local = &corev1.LocalVolumeSource{Path: folder}
	} else {
		kind := corev1.HostPathDirectoryOrCreate
		source.HostPath = &corev1.HostPathVolumeSource{Path: folder, Type: &kind}
	}
	mode := corev1.PersistentVolumeFilesystem
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: options.PVName},
		Spec: corev1.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: *options.StorageClass.ReclaimPolicy,
			AccessModes:                   claim.Spec.AccessModes,
			VolumeMode:                    &mode,
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: claim.Spec.Resources.Requests[corev1.ResourceStorage]},
			PersistentVolumeSource:        source,
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{
					{Key: hostnameLabel, Operator: corev1.NodeSelectorOpIn, Values: []string{v.node}},
				}}},
			}},
		},
	}, nil
}

func chosen(values ...string) string {
	for _, value := range values {
		if value != "" {
			return strings.ToLower(value)
		}
	}
	return ""
}

// Delete removes the folder. The volume itself goes after it.
func (v *localVolumes) Delete(_ context.Context, volume *corev1.PersistentVolume) error {
	var folder string
	switch source := volume.Spec.PersistentVolumeSource; {
	case source.HostPath != nil:
		folder = source.HostPath.Path
	case source.Local != nil:
		folder = source.Local.Path
	}
	return volumes.Remove(folder, volume.Name)
}
