package control

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"edgefleet.local/k3s_double/config"
	"edgefleet.local/k3s_double/supervisor"
)

func agentOptions(t *testing.T, text string, host Host) (*Options, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	text += "\ncontainer-runtime-endpoint: /run/containerd/containerd.sock\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	parsed, err := config.Parse(config.Agent, []string{"--config", path}, func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	return NewAgentOptions(parsed.Settings, host)
}

func goodAgent(t *testing.T, text string) *Options {
	t.Helper()
	o, err := agentOptions(t, "server: https://edge1:6443\n"+text, testHost)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestAgentRefused(t *testing.T) {
	for text, want := range map[string]string{
		"token: x":                  "--server is required",
		"server: http://edge1:6443": "only https:// URLs are supported",
		"server: https://edge1:6443\nvpn-auth: name=tailscale": "vpn-auth: a VPN is not in this double yet",
	} {
		if _, err := agentOptions(t, text, testHost); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}

func TestAgentsWay(t *testing.T) {
	if got := goodAgent(t, "").SupervisorURL(); got != "https://127.0.0.1:6444" {
		t.Errorf("got %s", got)
	}
	if got := goodAgent(t, "lb-server-port: 7000").SupervisorURL(); got != "https://127.0.0.1:7000" {
		t.Errorf("got %s", got)
	}
	if got := goodAgent(t, "disable-apiserver-lb: true").SupervisorURL(); got != "https://edge1:6443" {
		t.Errorf("got %s", got)
	}
}

func TestNodeNames(t *testing.T) {
	if got := goodAgent(t, "").NodeName; got != "edge1" {
		t.Errorf("got %s", got)
	}
	if got := goodAgent(t, "node-name: Agent7\nwith-node-id: true").NodeName; got != "agent7-0a1b2c3d" {
		t.Errorf("got %s", got)
	}
}

func TestAgentLearnsWhatItsServerTeaches(t *testing.T) {
	server := good(t, strings.Join([]string{
		"cluster-cidr: 10.10.0.0/16", "service-cidr: 10.11.0.0/16", "cluster-domain: edge.local", "disable-kube-proxy: true",
		"flannel-backend: host-gw", "disable-network-policy: true", "service-node-port-range: 30000-30100",
		"kube-apiserver-arg: [audit-log-path=/x]", "token: very-secret",
	}, "\n"))
	taught, err := server.Teach()
	if err != nil {
		t.Fatal(err)
	}
	sent, err := json.Marshal(taught)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"ClusterIPRange":{"IP":"10.10.0.0","Mask":"//8AAA=="}`, `"ClusterDNS":"10.11.0.10"`,
		`"ServiceNodePortRange":{"Base":30000,"Size":101}`, `"ExtraAPIArgs":["audit-log-path=/x"]`, `"HTTPSPort":6443`} {
		if !strings.Contains(string(sent), want) {
			t.Errorf("no %s in %s", want, sent)
		}
	}
	if strings.Contains(string(sent), "very-secret") {
		t.Error("the token is in it")
	}
	var received supervisor.Config
	if err := json.Unmarshal(sent, &received); err != nil {
		t.Fatal(err)
	}
	agent := goodAgent(t, "node-label: [a=b]\nnode-taint: ['k=v:NoSchedule']\nkubelet-arg: [max-pods=50]\n")
	agent.Learn(received)
	if err := agent.CheckLearnt(); err != nil {
		t.Fatal(err)
	}
	hasAll(t, agent.Kubelet(testHost), "--cluster-dns=10.11.0.10", "--cluster-domain=edge.local", "--node-labels=a=b",
		"--register-with-taints=k=v:NoSchedule", "--max-pods=50", "--cloud-provider=external", "--node-ip=192.0.2.7")
	hasAll(t, agent.KubeProxyArguments(), "--cluster-cidr=10.10.0.0/16")
	if agent.KubeProxy || agent.NetworkPolicy || agent.FlannelBackend != "host-gw" || agent.NodePortRange.String() != "30000-30100" {
		t.Errorf("got %+v", agent)
	}
	six := goodAgent(t, "node-ip: fd00::7")
	six.Learn(received)
	if err := six.CheckLearnt(); err == nil || !strings.Contains(err.Error(), "must be of one address family") {
		t.Errorf("got %v", err)
	}
}

func TestAgentCredentials(t *testing.T) {
	o := goodAgent(t, "data-dir: "+t.TempDir())
	if _, err := o.Credentials(); err == nil || err.Error() != "--token is required" {
		t.Errorf("got %v", err)
	}
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("from-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o = goodAgent(t, "token: from-text\ntoken-file: "+file)
	if got, err := o.Credentials(); err != nil || got.Token != "from-file" {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestAgentsKubeconfigs(t *testing.T) {
	o := goodAgent(t, "data-dir: "+t.TempDir())
	if err := o.PrepareAgent(); err != nil {
		t.Fatal(err)
	}
	if err := o.WriteAgentKubeconfigs(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(o.Path("agent/kubelet.kubeconfig"))
	if err != nil || !strings.Contains(string(text), "server: https://127.0.0.1:6444\n") {
		t.Errorf("got %s, %v", text, err)
	}
	entries, err := os.ReadDir(o.DataDir)
	if err != nil || !slices.Equal([]string{entries[0].Name()}, []string{"agent"}) || len(entries) != 1 {
		t.Errorf("an agent has no server folder: %v, %v", entries, err)
	}
}
