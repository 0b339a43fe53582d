package control

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"time"

	"edgefleet.local/k3s_double/config"
	"edgefleet.local/k3s_double/join"
	"edgefleet.local/k3s_double/pki"
	"edgefleet.local/k3s_double/supervisor"
)

// NewAgentOptions checks an agent's settings and completes them from the host.
func NewAgentOptions(s config.Settings, host Host) (*Options, error) {
	o, err := nodeOptions(config.Agent, s, host)
	if err != nil {
		return nil, err
	}
	o.ServerURL, o.LoadBalancer = s.String("server"), !s.Bool("disable-apiserver-lb")
	if o.ServerURL == "" {
		return nil, errors.New("--server is required")
	}
	server, err := url.Parse(o.ServerURL)
	if err != nil {
		return nil, fmt.Errorf("Invalid server url, failed to parse: %s", o.ServerURL)
	}
	if server.Scheme != "https" {
		return nil, fmt.Errorf("only https:// URLs are supported, invalid scheme: %s", o.ServerURL)
	}
	return o, nil
}

// Credentials are an agent's for joining. A token-file that isn't there yet is waited for.
func (o *Options) Credentials() (join.Credentials, error) {
	credentials := join.Credentials{
		User: "node", Token: o.settings.String("token"),
		CertFile: o.Path("agent/client-kubelet.crt"), KeyFile: o.Path("agent/client-kubelet.key"),
	}
	if path := o.settings.String("token-file"); path != "" {
		var err error
		if credentials.Token, err = readAwaited("token-file", path); err != nil {
			return credentials, err
		}
	}
	return credentials, credentials.Usable()
}

// SupervisorURL is where an agent finds its server: behind the load balancer, if it has one.
func (o *Options) SupervisorURL() string {
	if o.LoadBalancer {
		return "https://" + o.LoadBalancerAddress()
	}
	return o.ServerURL
}

// LoadBalancerAddress is an agent's local port.
func (o *Options) LoadBalancerAddress() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(o.LoadBalancerPort))
}

// Learn takes over what the server says of the cluster; CheckLearnt says whether this node fits in.
func (o *Options) Learn(settings supervisor.Config) {
	o.ClusterCIDRs, o.ServiceCIDRs = supervisor.Texts(settings.ClusterIPRanges), supervisor.Texts(settings.ServiceIPRanges)
	o.ClusterDNS, o.ClusterDomain = supervisor.Texts(settings.ClusterDNSs), settings.ClusterDomain
	o.NodePortRange = settings.ServiceNodePortRange
	o.CloudController, o.KubeProxy = !settings.DisableCCM, !settings.DisableKubeProxy
	o.NetworkPolicy, o.FlannelBackend = !settings.DisableNPC, settings.FlannelBackend
	o.LocalStoragePath = settings.LocalStoragePath
}

// CheckLearnt refuses a node whose addresses are of another family than the cluster's.
func (o *Options) CheckLearnt() error {
	if err := o.checkNetwork(); err != nil {
		return err
	}
	_, err := o.checkFamilies()
	return err
}

// Teach is what the server says of the cluster.
func (o *Options) Teach() (supervisor.Config, error) {
	pods, err := supervisor.Networks(o.ClusterCIDRs)
	if err != nil {
		return supervisor.Config{}, err
	}
	services, err := supervisor.Networks(o.ServiceCIDRs)
	if err != nil {
		return supervisor.Config{}, err
	}
	dns := supervisor.Addresses(o.ClusterDNS)
	settings := supervisor.Config{
		ClusterIPRange: pods[0], ClusterIPRanges: pods, ServiceIPRange: services[0], ServiceIPRanges: services,
		ServiceNodePortRange: o.NodePortRange, ClusterDNS: dns[0], ClusterDNSs: dns, ClusterDomain: o.ClusterDomain,
		HTTPSPort: o.Port, SupervisorPort: o.Port, DisableCCM: !o.CloudController, DisableNPC: !o.NetworkPolicy,
		DisableKubeProxy: !o.KubeProxy, FlannelBackend: o.FlannelBackend, EgressSelectorMode: o.EgressSelectorMode,
		EncryptSecrets: o.SecretsEncryption, ExtraAPIArgs: o.APIServerArgs, ExtraControllerArgs: o.ControllerManagerArgs,
		ExtraSchedulerAPIArgs: o.SchedulerArgs, LocalStoragePath: o.LocalStoragePath,
	}
	return settings, nil
}

// NodePassword is by which the server knows this node again. It outlives the data directory.
func (o *Options) NodePassword() (string, error) {
	if err := os.MkdirAll(nodeFolder, 0o755); err != nil {
		return "", err
	}
	return ensureText(nodeFolder+"/password", 16, 0o600)
}

// NodeID is what with-node-id adds to a node's name.
func NodeID() (string, error) {
	if err := os.MkdirAll(nodeFolder, 0o755); err != nil {
		return "", err
	}
	return ensureText(nodeFolder+"/id", 4, 0o644)
}

// PrepareAgent writes what the components of an agent read, but for what comes from the server.
func (o *Options) PrepareAgent() error {
	if err := makeFolders([]folder{
		{o.DataDir, 0o755}, {o.Path("agent"), 0o700}, {o.Path("agent/etc"), 0o755},
		{o.Path("agent/pod-manifests"), 0o755}, {o.Path("agent/images"), 0o755},
	}); err != nil {
		return err
	}
	return o.writeCrictl()
}

// WriteAgentKubeconfigs points the agent's components to the API.
func (o *Options) WriteAgentKubeconfigs() error {
	ca := o.Path("agent/server-ca.crt")
	return o.writeComponentKubeconfigs([]kubeconfigFile{
		{"agent/kubelet.kubeconfig", o.SupervisorURL(), ca, o.Path("agent/client-kubelet")},
		{"agent/kubeproxy.kubeconfig", o.SupervisorURL(), ca, o.Path("agent/client-kube-proxy")},
		{"agent/k3scontroller.kubeconfig", o.SupervisorURL(), ca, o.Path("agent/client-k3s-controller")},
	})
}

// fileWait is how long a token file may take to appear.
var fileWait = 4 * time.Minute

// readAwaited reads a file, and waits for it if it isn't there.
func readAwaited(key, path string) (string, error) {
	for deadline := time.Now().Add(fileWait); ; time.Sleep(min(2*time.Second, fileWait/10)) {
		text, err := os.ReadFile(path)
		if err == nil {
			return trimmed(text), nil
		}
		if !errors.Is(err, os.ErrNotExist) || time.Now().After(deadline) {
			return "", fmt.Errorf("%s: %w", key, err)
		}
		fmt.Fprintf(os.Stderr, "k3s: Waiting for %s to be available\n", path)
	}
}

// ensureText is a file's content, made at random if there is none.
func ensureText(path string, bytes int, mode os.FileMode) (string, error) {
	old, err := os.ReadFile(path)
	if err == nil {
		return trimmed(old), nil
	} else if !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	text, err := randomHex(bytes)
	if err != nil {
		return "", err
	}
	return text, pki.WriteFile(path, []byte(text+"\n"), mode)
}
