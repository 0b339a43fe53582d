package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1apply "k8s.io/client-go/applyconfigurations/core/v1"
	discoveryv1apply "k8s.io/client-go/applyconfigurations/discovery/v1"
	"k8s.io/client-go/kubernetes"

	"edgefleet.local/k3s_double/control"
	"edgefleet.local/k3s_double/pki"
)

const (
	manager = "k3s"
	comment = "flanneld" // K3s's clean-up script looks for "flannel" in rules
)

// publishAPIAddress makes the Service `kubernetes` lead to the port that everybody can reach.
func publishAPIAddress(ctx context.Context, client kubernetes.Interface, o *control.Options) error {
	force := metav1.ApplyOptions{FieldManager: manager, Force: true}
	port := int32(o.AdvertisePort)
	endpoints := corev1apply.Endpoints("kubernetes", "default").
		WithLabels(map[string]string{discoveryv1.LabelSkipMirror: "true"}).
		WithSubsets(corev1apply.EndpointSubset().
			WithAddresses(corev1apply.EndpointAddress().WithIP(o.AdvertiseAddress)).
			WithPorts(corev1apply.EndpointPort().WithName("https").WithPort(port).WithProtocol(corev1.ProtocolTCP)))
	if _, err := client.CoreV1().Endpoints("default").Apply(ctx, endpoints, force); err != nil {
		return fmt.Errorf("endpoints of the API: %w", err)
	}
	family := discoveryv1.AddressTypeIPv4
	if address, err := netip.ParseAddr(o.AdvertiseAddress); err == nil && address.Is6() {
		family = discoveryv1.AddressTypeIPv6
	}
	slice := discoveryv1apply.EndpointSlice("kubernetes", "default").
		WithLabels(map[string]string{discoveryv1.LabelServiceName: "kubernetes"}).
		WithAddressType(family).
		WithEndpoints(discoveryv1apply.Endpoint().WithAddresses(o.AdvertiseAddress).
			WithConditions(discoveryv1apply.EndpointConditions().WithReady(true))).
		WithPorts(discoveryv1apply.EndpointPort().WithName("https").WithPort(port).WithProtocol(corev1.ProtocolTCP))
	_, err := client.DiscoveryV1().EndpointSlices("default").Apply(ctx, slice, force)
	if err != nil {
		return fmt.Errorf("endpoint slice of the API: %w", err)
	}
	return nil
}

// configurePods gives containerd the way to wire pods: a bridge over the node's range, in the place and under the name
// that K3s's flannel uses. It is called again and again, and changes only what is missing.
func configurePods(o *control.Options, podCIDR string) error {
	type object = map[string]any
	content, err := json.MarshalIndent(object{
		"name": "cbr0", "cniVersion": "1.0.0",
		"plugins": []object{
			{
				"type": "bridge", "bridge": "cni0", "isDefaultGateway": true, "forceAddress": true, "hairpinMode": true,
				"ipam": object{"type": "host-local", "ranges": [][]object{{{"subnet": podCIDR}}}},
			},
			{"type": "portmap", "capabilities": object{"portMappings": true}},
			{"type": "bandwidth", "capabilities": object{"bandwidth": true}},
		},
	}, "", "  ")
	if err != nil {
		return err
	}
	if err := writeChanged(o.Path("agent/etc/cni/net.d/10-flannel.conflist"), content); err != nil {
		return err
	}
	if err := os.MkdirAll("/run/flannel", 0o755); err != nil {
		return err
	}
	prefix, err := netip.ParsePrefix(podCIDR)
	if err != nil {
		return err
	}
	gateway := netip.PrefixFrom(prefix.Masked().Addr().Next(), prefix.Bits())
	subnet := fmt.Sprintf("FLANNEL_NETWORK=%s\nFLANNEL_SUBNET=%s\nFLANNEL_MTU=1500\nFLANNEL_IPMASQ=true\n",
		o.ClusterCIDRs[0], gateway)
	if err := writeChanged("/run/flannel/subnet.env", []byte(subnet)); err != nil {
		return err
	}
	for _, one := range podChains(o.ClusterCIDRs[0], podCIDR) {
		if err := one.ensure(); err != nil {
			return err
		}
	}
	return nil
}

func writeChanged(path string, content []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
		return nil
	}
	return pki.WriteFile(path, content, 0o644)
}

// chain is one of our own: what it holds, and from where it is reached.
type chain struct {
	table, name, from string
	rules             [][]string
}

// podChains let pods be forwarded, and hide them behind the node's address when they talk to the outside.
func podChains(cluster, node string) []chain {
	return []chain{
		{"filter", "FLANNEL-FWD", "FORWARD", [][]string{
			{"-s", cluster, "-j", "ACCEPT"},
			{"-d", cluster, "-j", "ACCEPT"},
		}},
		{"nat", "FLANNEL-POSTRTG", "POSTROUTING", [][]string{
			{"-m", "mark", "--mark", "0x4000/0x4000", "-j", "RETURN"}, // kube-proxy's
			{"-s", node, "-d", cluster, "-j", "RETURN"},
			{"-s", cluster, "-d", node, "-j", "RETURN"},
			{"!", "-s", cluster, "-d", node, "-j", "RETURN"},
			{"-s", cluster, "!", "-d", "224.0.0.0/4", "-j", "MASQUERADE", "--random-fully"},
			{"!", "-s", cluster, "-d", cluster, "-j", "MASQUERADE", "--random-fully"},
		}},
	}
}

// ensure puts the chain back when any of it is gone, after a firewall was loaded anew for example.
func (c chain) ensure() error {
	if !c.whole() {
		_ = iptables(c.table, "-N", c.name) // fails where it exists
		if err := iptables(c.table, "-F", c.name); err != nil {
			return err
		}
		for _, rule := range c.rules {
			if err := iptables(c.table, "-A", commented(c.name, rule)...); err != nil {
				return err
			}
		}
	}
	jump := commented(c.from, []string{"-j", c.name})
	if iptables(c.table, "-C", jump...) == nil {
		return nil
	}
	return iptables(c.table, "-A", jump...)
}

func (c chain) whole() bool {
	for _, rule := range c.rules {
		if iptables(c.table, "-C", commented(c.name, rule)...) != nil {
			return false
		}
	}
	return true
}

func commented(chain string, rule []string) []string {
	return append(append([]string{chain}, rule...), "-m", "comment", "--comment", comment)
}

func iptables(table, action string, args ...string) error {
	command := exec.Command("iptables", append([]string{"-w", "10", "-t", table, action}, args...)...)
	output, err := command.CombinedOutput()
	if err == nil {
		return nil
	}
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("iptables is not on this host: install it (apt-get install iptables)")
	}
	return fmt.Errorf("iptables -t %s %s %s: %w: %s", table, action, strings.Join(args, " "), err, bytes.TrimSpace(output))
}
