package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/flannel-io/flannel/pkg/backend"
	_ "github.com/flannel-io/flannel/pkg/backend/hostgw"
	_ "github.com/flannel-io/flannel/pkg/backend/vxlan"
	"github.com/flannel-io/flannel/pkg/ip"
	"github.com/flannel-io/flannel/pkg/subnet"
	"github.com/flannel-io/flannel/pkg/subnet/kube"
	"github.com/flannel-io/flannel/pkg/trafficmngr/iptables"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"edgefleet.local/k3s_double/control"
	"edgefleet.local/k3s_double/pki"
)

const (
	flannelPrefix = "flannel.alpha.coreos.com"
	subnetFile    = "/run/flannel/subnet.env"
	// Rules that a firewall threw away come back after so many seconds.
	ruleResync = 15
)

// startNetwork connects the pods of all nodes by flannel, as K3s does, and returns once this node's pods can be wired.
func startNetwork(ctx context.Context, kubelet kubernetes.Interface, o *control.Options, failed chan<- error) error {
	podCIDR, err := awaitPodCIDR(ctx, kubelet, o.NodeName)
	if err != nil {
		return fmt.Errorf("flannel failed to wait for PodCIDR assignment: %w", err)
	}
	conf, err := flannelConf(o)
	if err != nil {
		return err
	}
	outside, err := outsideInterface(o)
	if err != nil {
		return err
	}
	if err := os.Setenv("NODE_NAME", o.NodeName); err != nil { // flannel looks there
		return err
	}
	// What runs from here on outlives this start, but not the process.
	background := context.WithoutCancel(ctx)
	kubeconfig := o.Path("agent/kubelet.kubeconfig")
	subnets, err := kube.NewSubnetManager(background, "", kubeconfig, flannelPrefix, conf, false)
	if err != nil {
		return err
	}
	config, err := subnets.GetNetworkConfig(background)
	if err != nil {
		return err
	}
	kind, err := backend.NewManager(background, subnets, outside).GetBackend(config.BackendType)
	if err != nil {
		return err
	}
	network, err := kind.RegisterNetwork(background, &sync.WaitGroup{}, config)
	if err != nil {
		return fmt.Errorf("flannel %s: %w", config.BackendType, err)
	}
	if err := ensureRules(background, config, network); err != nil {
		return err
	}
	lease := network.Lease()
	err = subnet.WriteSubnetFile(subnetFile, config, true, lease.Subnet, lease.IPv6Subnet, network.MTU())
	if err != nil {
		return err
	}
	go func() {
		network.Run(background)
		failed <- errors.New("flannel exited")
	}()
	return writeCNI(o, podCIDR, network.MTU())
}

func awaitPodCIDR(ctx context.Context, kubelet kubernetes.Interface, name string) (string, error) {
	var podCIDR string
	return podCIDR, waitFor(ctx, 300*time.Millisecond, func() error {
		node, err := kubelet.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if podCIDR = node.Spec.PodCIDR; podCIDR == "" {
			return fmt.Errorf("node %s has no PodCIDR: is the cluster-cidr used up?", name)
		}
		return nil
	})
}

// flannelConf is the operator's file, or one that is written here.
func flannelConf(o *control.Options) (string, error) {
	if o.FlannelConf != "" {
		return o.FlannelConf, nil
	}
	four, err := netip.ParsePrefix(o.ClusterCIDRs[0])
	if err != nil {
		return "", err
	}
	conf := map[string]any{
		"Network": o.ClusterCIDRs[0], "EnableIPv4": four.Addr().Is4(), "EnableIPv6": !four.Addr().Is4(),
		"IPv6Network": "::/0", "Backend": map[string]string{"Type": o.FlannelBackend},
	}
	if !four.Addr().Is4() {
		conf["Network"], conf["IPv6Network"] = "0.0.0.0/0", o.ClusterCIDRs[0]
	}
	content, err := json.MarshalIndent(conf, "", "\t")
	if err != nil {
		return "", err
	}
	path := o.Path("agent/etc/flannel/net-conf.json")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	return path, writeChanged(path, content)
}

// outsideInterface is where the other nodes are reached: flannel-iface, or that with the default route.
func outsideInterface(o *control.Options) (*backend.ExternalInterface, error) {
	var found *net.Interface
	var err error
	if o.FlannelIface != "" {
		found, err = net.InterfaceByName(o.FlannelIface)
	} else {
		found, err = ip.GetDefaultGatewayInterface()
	}
	if err != nil {
		return nil, fmt.Errorf("flannel failed to find the interface to other nodes: %w; "+
			"K3s needs a default route, or flannel-iface", err)
	}
	outside := &backend.ExternalInterface{Iface: found}
	four, err := ip.GetInterfaceIP4Addrs(found)
	if err == nil {
		outside.IfaceAddr, outside.ExtAddr = four[0], four[0]
	} else {
		six, err := ip.GetInterfaceIP6Addrs(found)
		if err != nil {
			return nil, fmt.Errorf("flannel found no address on interface %s: %w", found.Name, err)
		}
		outside.IfaceV6Addr, outside.ExtV6Addr = six[0], six[0]
	}
	log.Printf("flannel: interface %s", found.Name)
	return outside, nil
}

// ensureRules lets pods be forwarded, hides them behind the node when they talk to the outside, and keeps it so.
func ensureRules(ctx context.Context, config *subnet.Config, network backend.Network) error {
	lease := network.Lease()
	// Not initialised: that would take the rules away at the end, while pods go on.
	rules := &iptables.IPTablesManager{}
	err := rules.SetupAndEnsureMasqRules(ctx, config.Network, lease.Subnet, config.Network,
		config.IPv6Network, lease.IPv6Subnet, config.IPv6Network, lease, ruleResync)
	if err != nil {
		return fmt.Errorf("flannel's rules: %w", err)
	}
	rules.SetupAndEnsureForwardRules(ctx, config.Network, config.IPv6Network, ruleResync)
	return nil
}

// writeCNI gives containerd the way to wire pods: a bridge over the node's range, in the place and under the name that
// K3s's flannel uses, or the operator's own file.
func writeCNI(o *control.Options, podCIDR string, mtu int) error {
	target := o.Path("agent/etc/cni/net.d/10-flannel.conflist")
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	if o.FlannelCNIConf != "" {
		content, err := os.ReadFile(o.FlannelCNIConf)
		if err != nil {
			return fmt.Errorf("flannel-cni-conf: %w", err)
		}
		return writeChanged(target, content)
	}
	type object = map[string]any
	content, err := json.MarshalIndent(object{
		"name": "cbr0", "cniVersion": "1.0.0",
		"plugins": []object{
			{
				"type": "bridge", "bridge": "cni0", "isDefaultGateway": true, "forceAddress": true, "hairpinMode": true,
				"mtu": mtu, "ipam": object{"type": "host-local", "ranges": [][]object{{{"subnet": podCIDR}}}},
			},
			{"type": "portmap", "capabilities": object{"portMappings": true}},
			{"type": "bandwidth", "capabilities": object{"bandwidth": true}},
		},
	}, "", "  ")
	if err != nil {
		return err
	}
	return writeChanged(target, content)
}

func writeChanged(path string, content []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
		return nil
	}
	return pki.WriteFile(path, content, 0o644)
}
