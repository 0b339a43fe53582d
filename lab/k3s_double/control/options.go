// Package control turns the settings of `k3s server` and `k3s agent` into what they do: folders, certificates, and the
// arguments of each component.
package control

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"edgefleet.local/k3s_double/config"
	"edgefleet.local/k3s_double/supervisor"
)

// Options are the settings, checked and completed. What an agent learns from its server is empty until it has joined.
type Options struct {
	Role        config.Role
	DataDir     string
	NodeName    string
	NodeIPs     []string
	ExternalIPs []string
	Labels      []string
	Taints      []string

	ClusterCIDRs, ServiceCIDRs, ClusterDNS []string
	ClusterDomain                          string
	NodePortRange                          supervisor.PortRange

	BindAddress      string
	Port             int
	AdvertiseAddress string
	AdvertisePort    int
	SANs             []string

	Kubeconfig, KubeconfigMode, KubeconfigGroup string

	RuntimeEndpoint, ImageEndpoint string
	ResolvConf                     string
	CredentialBin, CredentialConf  string
	ProtectKernelDefaults          bool

	FlannelBackend, FlannelIface, FlannelConf, FlannelCNIConf string

	// An agent's way to its server.
	ServerURL        string
	LoadBalancer     bool
	LoadBalancerPort int

	Disable            map[string]bool
	CloudController    bool
	KubeProxy          bool
	NetworkPolicy      bool
	EgressSelectorMode string
	SecretsEncryption  bool
	LocalStoragePath   string // empty: no local volumes
	Debug              bool
	Verbosity          int
	VModule            string

	APIServerArgs, ControllerManagerArgs, SchedulerArgs, KubeletArgs, KubeProxyArgs []string

	settings config.Settings
}

// Host is what the server finds out about the machine.
type Host struct {
	Hostname string
	// Address is the one on an interface, or on that with the default route; asked for only without node-ip.
	Address func(iface string) (string, error)
	// NodeID is what with-node-id adds to the name; kept on the machine.
	NodeID func() (string, error)
	// Exists says whether a path is there.
	Exists func(string) bool
}

// Things that real K3s does and the double can't: refused, as ignoring them would give another cluster than asked for.
var refused = map[string]string{
	"cluster-init":               "embedded etcd",
	"cluster-reset":              "embedded etcd",
	"cluster-reset-restore-path": "embedded etcd",
	"datastore-endpoint":         "an external datastore",
	"disable-apiserver":          "a server without its API server",
	"disable-controller-manager": "a server without its controller manager",
	"disable-scheduler":          "a server without its scheduler",
	"disable-etcd":               "embedded etcd",
	"disable-agent":              "a server without its agent",
	"rootless":                   "rootless mode",
	"docker":                     "cri-dockerd",
	"vpn-auth":                   "a VPN",
	"vpn-auth-file":              "a VPN",
	"kine-tls":                   "kine over TLS",
}

// Keys that act here, or whose effect holds anyway because the double has nothing of what they turn off.
var acting = []string{
	"config", "debug", "v", "vmodule", "bind-address", "https-listen-port", "advertise-address", "advertise-port",
	"tls-san", "data-dir", "cluster-cidr", "service-cidr", "service-node-port-range", "cluster-dns", "cluster-domain",
	"flannel-backend", "flannel-iface", "flannel-conf", "flannel-cni-conf", "write-kubeconfig", "write-kubeconfig-mode",
	"write-kubeconfig-group", "token", "token-file", "agent-token", "agent-token-file", "server",
	"kube-apiserver-arg", "kube-controller-manager-arg", "kube-controller-arg", "kube-scheduler-arg", "disable",
	"disable-cloud-controller", "disable-kube-proxy", "disable-network-policy", "disable-helm-controller",
	"embedded-registry", "node-name", "with-node-id", "node-label", "node-taint", "image-credential-provider-bin-dir",
	"image-credential-provider-config", "container-runtime-endpoint", "image-service-endpoint", "node-ip",
	"node-external-ip", "resolv-conf", "kubelet-arg", "kube-proxy-arg", "protect-kernel-defaults", "secrets-encryption",
	"default-local-storage-path", "lb-server-port", "disable-apiserver-lb",
	// Without effect in K3s itself when the container runtime is external.
	"pause-image", "snapshotter", "default-runtime", "selinux", "disable-default-registry-endpoint",
	"airgap-extra-registry", "private-registry", "prefer-bundled-bin",
}

var egressModes = []string{"agent", "cluster", "pod", "disabled"}

// NewOptions checks a server's settings and completes them from the host.
func NewOptions(s config.Settings, host Host) (*Options, error) {
	if s.String("server") != "" {
		return nil, fmt.Errorf("server: joining another server is not in this double yet")
	}
	o, err := nodeOptions(config.Server, s, host)
	if err != nil {
		return nil, err
	}
	o.ClusterCIDRs, o.ServiceCIDRs, o.ClusterDNS = s.Split("cluster-cidr"), s.Split("service-cidr"), s.Split("cluster-dns")
	o.ClusterDomain, o.Port = s.String("cluster-domain"), s.Int("https-listen-port")
	o.AdvertiseAddress, o.AdvertisePort = s.String("advertise-address"), s.Int("advertise-port")
	o.Kubeconfig, o.KubeconfigMode = s.String("write-kubeconfig"), s.String("write-kubeconfig-mode")
	o.KubeconfigGroup = s.String("write-kubeconfig-group")
	o.CloudController, o.KubeProxy = !s.Bool("disable-cloud-controller"), !s.Bool("disable-kube-proxy")
	o.NetworkPolicy, o.SecretsEncryption = !s.Bool("disable-network-policy"), s.Bool("secrets-encryption")
	o.FlannelBackend, o.EgressSelectorMode = s.String("flannel-backend"), s.String("egress-selector-mode")
	o.APIServerArgs, o.SchedulerArgs = s.List("kube-apiserver-arg"), s.List("kube-scheduler-arg")
	o.ControllerManagerArgs = append(slices.Clone(s.List("kube-controller-manager-arg")), s.List("kube-controller-arg")...)
	for _, name := range s.Split("disable") {
		o.Disable[name] = true
	}
	if !o.Disable["local-storage"] {
		o.LocalStoragePath = firstOf(s.String("default-local-storage-path"), o.Path("storage"))
	}
	if !o.CloudController {
		o.Disable["ccm"] = true
	}
	if s.Bool("embedded-registry") {
		return nil, fmt.Errorf("invalid flag use; --embedded-registry requires the embedded containerd, " +
			"container-runtime-endpoint names another")
	}
	if !slices.Contains(egressModes, o.EgressSelectorMode) {
		return nil, fmt.Errorf("invalid egress-selector-mode %q: want one of %s", o.EgressSelectorMode, strings.Join(egressModes, ", "))
	}
	if o.NodePortRange, err = supervisor.NewPortRange(s.String("service-node-port-range")); err != nil {
		return nil, err
	}
	if err := o.checkNetwork(); err != nil {
		return nil, err
	}
	if err := o.completeAddresses(); err != nil {
		return nil, err
	}
	o.SANs = append(s.Split("tls-san"), append([]string{"127.0.0.1", "::1", "localhost", o.NodeName, o.AdvertiseAddress}, o.NodeIPs...)...)
	return o, nil
}

// nodeOptions are those that server and agent have in common.
func nodeOptions(role config.Role, s config.Settings, host Host) (*Options, error) {
	for key, what := range refused {
		if value := s.String(key); s.IsSet(key) && value != "" && value != "false" {
			return nil, fmt.Errorf("%s: %s is not in this double yet", key, what)
		}
	}
	o := &Options{
		Role:     role,
		DataDir:  s.String("data-dir"),
		NodeName: strings.ToLower(firstOf(s.String("node-name"), host.Hostname)),
		Labels:   s.List("node-label"), Taints: s.List("node-taint"),
		NodeIPs: s.Split("node-ip"), ExternalIPs: s.Split("node-external-ip"),
		BindAddress:     s.String("bind-address"),
		RuntimeEndpoint: s.String("container-runtime-endpoint"), ImageEndpoint: s.String("image-service-endpoint"),
		ResolvConf:            s.String("resolv-conf"),
		CredentialBin:         s.String("image-credential-provider-bin-dir"),
		CredentialConf:        s.String("image-credential-provider-config"),
		ProtectKernelDefaults: s.Bool("protect-kernel-defaults"),
		FlannelIface:          s.String("flannel-iface"), FlannelConf: s.String("flannel-conf"),
		FlannelCNIConf:   s.String("flannel-cni-conf"),
		LoadBalancerPort: s.Int("lb-server-port"),
		Debug:            s.Bool("debug"), Verbosity: s.Int("v"), VModule: s.String("vmodule"),
		KubeletArgs: s.List("kubelet-arg"), KubeProxyArgs: s.List("kube-proxy-arg"),
		Disable: map[string]bool{}, settings: s,
	}
	if s.Bool("with-node-id") {
		id, err := host.NodeID()
		if err != nil {
			return nil, err
		}
		o.NodeName += "-" + id
	}
	if err := o.checkRuntime(); err != nil {
		return nil, err
	}
	return o, o.findAddress(host)
}

func (o *Options) checkRuntime() error {
	if o.RuntimeEndpoint == "" {
		return fmt.Errorf("container-runtime-endpoint is not set: this double carries no containerd of its own; " +
			"name the socket of the host's, such as /run/containerd/containerd.sock")
	}
	if o.ImageEndpoint == "" {
		o.ImageEndpoint = o.RuntimeEndpoint
	}
	return nil
}

func (o *Options) findAddress(host Host) error {
	if len(o.NodeIPs) > 0 {
		return nil
	}
	address, err := host.Address(o.FlannelIface)
	if err != nil {
		return fmt.Errorf("no address for this node: %w; set node-ip", err)
	}
	o.NodeIPs = []string{address}
	return nil
}

// checkNetwork: K3s finds out a little later, when the node starts.
func (o *Options) checkNetwork() error {
	switch o.FlannelBackend {
	case "none", "vxlan", "host-gw":
		return nil
	case "wireguard-native", "tailscale":
		return fmt.Errorf("flannel-backend: %s is not in this double yet; it has vxlan, host-gw and none", o.FlannelBackend)
	}
	return fmt.Errorf("Cannot configure unknown flannel backend '%s'", o.FlannelBackend)
}

// checkFamilies says of node-ip, cluster-cidr and the like which are IPv4, and refuses what is no address.
func (o *Options) checkFamilies() (map[string][]bool, error) {
	families := map[string][]bool{}
	for key, texts := range map[string][]string{
		"node-ip": o.NodeIPs, "cluster-cidr": o.ClusterCIDRs, "service-cidr": o.ServiceCIDRs, "cluster-dns": o.ClusterDNS,
	} {
		for _, text := range texts {
			four, err := isIPv4(text, strings.HasSuffix(key, "-cidr"))
			if err != nil {
				return nil, fmt.Errorf("invalid %s %q: %w", key, text, err)
			}
			families[key] = append(families[key], four)
		}
	}
	for _, key := range []string{"cluster-cidr", "service-cidr"} {
		if len(families[key]) == 0 {
			return nil, fmt.Errorf("%s is empty", key)
		}
	}
	if families["cluster-cidr"][0] != families["service-cidr"][0] || families["node-ip"][0] != families["cluster-cidr"][0] {
		return nil, fmt.Errorf("cluster-cidr %s, service-cidr %s and node-ip %s must be of one address family",
			o.ClusterCIDRs[0], o.ServiceCIDRs[0], o.NodeIPs[0])
	}
	return families, nil
}

func (o *Options) completeAddresses() error {
	families, err := o.checkFamilies()
	if err != nil {
		return err
	}
	if len(o.ClusterDNS) == 0 {
		address, err := nth(o.ServiceCIDRs[0], 10)
		if err != nil {
			return err
		}
		o.ClusterDNS = []string{address}
	} else if families["cluster-dns"][0] != families["service-cidr"][0] {
		return fmt.Errorf("cluster-dns %s is not of the address family of service-cidr %s", o.ClusterDNS[0], o.ServiceCIDRs[0])
	}
	o.AdvertiseAddress = firstOf(o.AdvertiseAddress, o.NodeIPs[0])
	if o.AdvertisePort == 0 {
		o.AdvertisePort = o.Port
	}
	return nil
}

func isIPv4(text string, cidr bool) (bool, error) {
	if cidr {
		prefix, err := netip.ParsePrefix(text)
		return prefix.Addr().Is4(), err
	}
	address, err := netip.ParseAddr(text)
	return address.Is4(), err
}

// nth is the n-th address of a network.
func nth(cidr string, n uint32) (string, error) {
	_, network, err := net.ParseCIDR(cidr)
	if err != nil {
		return "", err
	}
	ip := slices.Clone(network.IP)
	low := ip[len(ip)-4:]
	binary.BigEndian.PutUint32(low, binary.BigEndian.Uint32(low)+n)
	if !network.Contains(ip) {
		return "", fmt.Errorf("%s has no address number %d", cidr, n)
	}
	return ip.String(), nil
}

// APIServiceIP is where pods find the API.
func (o *Options) APIServiceIP() string {
	address, _ := nth(o.ServiceCIDRs[0], 1) // completeAddresses has parsed it
	return address
}

// WithoutEffect are the keys that were set and that the double takes no notice of.
func (o *Options) WithoutEffect() []string {
	var names []string
	for _, name := range o.settings.SetKeys() {
		if _, isRefused := refused[name]; !isRefused && !slices.Contains(acting, name) {
			names = append(names, name)
		}
	}
	return names
}

// Path is a place under the data directory.
func (o *Options) Path(parts ...string) string {
	return filepath.Join(append([]string{o.DataDir}, parts...)...)
}

// TLS is a place under server/tls.
func (o *Options) TLS(name string) string { return o.Path("server/tls", name) }

func firstOf(values ...string) string {
	for _, value := range values {
		if value != "" {
			return value
		}
	}
	return ""
}
