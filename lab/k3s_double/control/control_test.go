package control

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"edgefleet.local/k3s_double/config"
	"edgefleet.local/k3s_double/pki"
)

var testHost = Host{
	Hostname: "Edge1",
	Address:  func(string) (string, error) { return "192.0.2.7", nil },
	NodeID:   func() (string, error) { return "0a1b2c3d", nil },
	Exists:   func(string) bool { return false },
}

// options reads a configuration file's text; the runtime endpoint is there unless the text has one.
func options(t *testing.T, text string, host Host) (*Options, error) {
	t.Helper()
	if !strings.Contains(text, "container-runtime-endpoint") {
		text += "\ncontainer-runtime-endpoint: /run/containerd/containerd.sock\n"
	}
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	parsed, err := config.Parse(config.Server, []string{"--config", path}, func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	return NewOptions(parsed.Settings, host)
}

func good(t *testing.T, text string) *Options {
	t.Helper()
	o, err := options(t, text, testHost)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestCompletedFromTheHost(t *testing.T) {
	o := good(t, "")
	if o.NodeName != "edge1" || o.NodeIPs[0] != "192.0.2.7" || o.AdvertiseAddress != "192.0.2.7" || o.AdvertisePort != 6443 {
		t.Errorf("got %+v", o)
	}
	if o.ClusterDNS[0] != "10.43.0.10" || o.APIServiceIP() != "10.43.0.1" {
		t.Errorf("got %s and %s", o.ClusterDNS, o.APIServiceIP())
	}
	for _, name := range []string{"127.0.0.1", "::1", "localhost", "edge1", "192.0.2.7"} {
		if !slices.Contains(o.SANs, name) {
			t.Errorf("the serving certificate lacks %s", name)
		}
	}
}

func TestRefused(t *testing.T) {
	for text, want := range map[string]string{
		"container-runtime-endpoint: ''":       "container-runtime-endpoint is not set",
		"embedded-registry: true":              "--embedded-registry requires the embedded containerd",
		"server: https://x:6443":               "server: joining another server is not in this double yet",
		"with-node-id: true\nrootless: true":   "rootless: rootless mode is not in this double yet",
		"flannel-backend: wireguard-native":    "flannel-backend: wireguard-native is not in this double yet",
		"flannel-backend: calico":              "Cannot configure unknown flannel backend 'calico'",
		"egress-selector-mode: tunnel":         `invalid egress-selector-mode "tunnel"`,
		"cluster-init: true":                   "cluster-init: embedded etcd is not in this double yet",
		"cluster-cidr: 10.42.0.0":              `invalid cluster-cidr "10.42.0.0"`,
		"node-ip: edge1":                       `invalid node-ip "edge1"`,
		"service-cidr: fd00::/112":             "must be of one address family",
		"node-ip: fd00::1":                     "must be of one address family",
		"cluster-dns: fd00::a":                 "not of the address family of service-cidr",
		"service-node-port-range: 30000":       "invalid service-node-port-range",
		"service-node-port-range: 32767-30000": "invalid service-node-port-range",
		"service-cidr: 10.43.0.0/30":           "has no address number 10",
	} {
		if _, err := options(t, text, testHost); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
	lost := testHost
	lost.Address = func(string) (string, error) { return "", errors.New("no default routes") }
	if _, err := options(t, "", lost); err == nil || !strings.Contains(err.Error(), "set node-ip") {
		t.Errorf("got %v", err)
	}
	if _, err := options(t, "cluster-init: false\nserver: ''", testHost); err != nil {
		t.Errorf("what is turned off is no hindrance: %v", err)
	}
}

func TestWithoutEffect(t *testing.T) {
	o := good(t, "etcd-snapshot-retention: 3\ntoken: x\nsnapshotter: native\nhelm-job-image: y\n")
	if got := o.WithoutEffect(); !slices.Equal(got, []string{"etcd-snapshot-retention", "helm-job-image"}) {
		t.Errorf("got %q", got)
	}
}

func TestEveryKeyIsKnownOnce(t *testing.T) {
	known := map[string]bool{}
	for _, key := range config.Keys {
		known[key.Name] = true
	}
	for name := range refused {
		if !known[name] || slices.Contains(acting, name) {
			t.Errorf("refused: %s", name)
		}
	}
	for _, name := range acting {
		if !known[name] {
			t.Errorf("acting: %s", name)
		}
	}
}

func hasAll(t *testing.T, args []string, wanted ...string) {
	t.Helper()
	for _, want := range wanted {
		if !slices.Contains(args, want) {
			t.Errorf("no %s in %q", want, args)
		}
	}
}

func TestDefaultArguments(t *testing.T) {
	o := good(t, "")
	hasAll(t, o.APIServer(), "--bind-address=127.0.0.1", "--secure-port=6444", "--anonymous-auth=false",
		"--enable-admission-plugins=NodeRestriction", "--authorization-mode=Node,RBAC", "--etcd-servers=unix://kine.sock",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local", "--profiling=false",
		"--api-audiences=https://kubernetes.default.svc.cluster.local,k3s", "--service-node-port-range=30000-32767")
	hasAll(t, o.ControllerManager(), "--controllers=*,tokencleaner,-service,-route,-cloud-node-lifecycle",
		"--leader-elect=false", "--secure-port=10257", "--cluster-cidr=10.42.0.0/16")
	hasAll(t, o.Scheduler(), "--leader-elect=false", "--secure-port=10259")
	hasAll(t, o.Kubelet(testHost), "--cgroup-driver=cgroupfs", "--eviction-hard=imagefs.available<5%,nodefs.available<5%",
		"--container-runtime-endpoint=unix:///run/containerd/containerd.sock", "--fail-swap-on=false",
		"--containerd=/run/containerd/containerd.sock", "--cloud-provider=external", "--hostname-override=edge1")
	hasAll(t, o.KubeProxyArguments(), "--proxy-mode=iptables", "--conntrack-max-per-core=0")
}

func TestSettingsReachTheComponents(t *testing.T) {
	o := good(t, strings.Join([]string{
		"disable-cloud-controller: true", "secrets-encryption: true", "protect-kernel-defaults: true", "v: 4",
		"node-label: [a=b, c=d]", "node-taint: ['k=v:NoSchedule']", "cluster-domain: edge.local",
		"kubelet-arg: [cgroup-driver=systemd, 'eviction-hard+=memory.available<100Mi']",
		"kube-apiserver-arg: [audit-log-path=/x]", "kube-controller-arg: [node-cidr-mask-size=25]",
	}, "\n"))
	hasAll(t, o.APIServer(), "--encryption-provider-config=/var/lib/rancher/k3s/server/cred/encryption-config.json",
		"--audit-log-path=/x", "--v=4", "--service-account-issuer=https://kubernetes.default.svc.edge.local")
	hasAll(t, o.ControllerManager(), "--controllers=*,tokencleaner", "--node-cidr-mask-size=25")
	kubelet := o.Kubelet(testHost)
	hasAll(t, kubelet, "--cgroup-driver=systemd", "--eviction-hard=memory.available<100Mi", "--protect-kernel-defaults=true",
		"--eviction-hard=imagefs.available<5%,nodefs.available<5%", "--node-labels=a=b,c=d",
		"--register-with-taints=k=v:NoSchedule", "--cluster-domain=edge.local")
	if slices.Contains(kubelet, "--cloud-provider=external") || !o.Disable["ccm"] {
		t.Error("the cloud controller is off")
	}
}

func TestTokenFiles(t *testing.T) {
	o := good(t, "data-dir: "+t.TempDir()+"\ntoken: K10::server:secret\n")
	for _, folder := range []string{"server/tls", "server/cred"} {
		if err := os.MkdirAll(o.Path(folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	authority, err := pki.EnsureAuthority(o.TLS("server-ca"), "ca", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := o.ensureToken(); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("K10%x::server:secret\n", sha256.Sum256(authority.PEM))
	for _, name := range []string{"token", "node-token", "agent-token"} {
		if got, err := os.ReadFile(o.Path("server", name)); err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, want)
		}
	}
	if info, err := os.Stat(o.Path("server/token")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v", info, err)
	}
	changed := good(t, "data-dir: "+o.DataDir+"\ntoken: another\n")
	if err := changed.ensureToken(); err == nil || !strings.Contains(err.Error(), "encrypted with different token") {
		t.Errorf("a changed token is refused: %v", err)
	}
	unset := good(t, "data-dir: "+o.DataDir+"\n")
	if err := unset.ensureToken(); err != nil {
		t.Errorf("without one the old stays: %v", err)
	}
	apart := good(t, "data-dir: "+o.DataDir+"\nagent-token: theirs\n")
	if err := apart.ensureToken(); err != nil {
		t.Fatal(err)
	}
	want = fmt.Sprintf("K10%x::node:theirs\n", sha256.Sum256(authority.PEM))
	if got, err := os.ReadFile(o.Path("server/agent-token")); err != nil || string(got) != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	passwd, err := os.ReadFile(o.Path("server/cred/passwd"))
	if err != nil || string(passwd) != "theirs,node,node,k3s:agent\nsecret,server,server,k3s:server\n" {
		t.Errorf("got %q, %v", passwd, err)
	}
}

func TestTokenRotation(t *testing.T) {
	o := good(t, "data-dir: "+t.TempDir()+"\ntoken: secret\n")
	for _, folder := range []string{"server/tls", "server/cred"} {
		if err := os.MkdirAll(o.Path(folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := pki.EnsureAuthority(o.TLS("server-ca"), "ca", time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := o.RotateToken("new"); err == nil {
		t.Error("there is no token yet")
	}
	if err := o.ensureToken(); err != nil {
		t.Fatal(err)
	}
	if err := o.RotateToken("new"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"token", "agent-token"} {
		if got, err := os.ReadFile(o.Path("server", name)); err != nil || !strings.HasSuffix(string(got), "::server:new\n") {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	if err := o.ensureToken(); err == nil {
		t.Error("it starts with the old token")
	}
	if err := o.RotateToken(""); err != nil {
		t.Fatal(err)
	}
	passwd, err := os.ReadFile(o.Path("server/cred/passwd"))
	if err != nil || strings.Contains(string(passwd), "new") || len(strings.Split(strings.Split(string(passwd), "\n")[1], ",")[0]) != 32 {
		t.Errorf("got %q, %v", passwd, err)
	}
}

func TestTokenFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	o := good(t, "token: ignored\ntoken-file: "+file)
	fileWait = 200 * time.Millisecond
	if _, err := o.givenPassword("token"); err == nil || !strings.Contains(err.Error(), "token-file: open "+file) {
		t.Errorf("got %v", err)
	}
	fileWait = 5 * time.Second
	time.AfterFunc(100*time.Millisecond, func() { _ = os.WriteFile(file, []byte("secret\n"), 0o600) })
	if got, err := o.givenPassword("token"); err != nil || got != "secret" {
		t.Errorf("a file that comes later is waited for: got %q, %v", got, err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := o.givenPassword("token"); err == nil || !strings.Contains(err.Error(), "is empty") {
		t.Errorf("got %v", err)
	}
}

func TestMaskedArgs(t *testing.T) {
	got := MaskedArgs("server", []string{"--token=s", "--node-label=a=b"}, []string{"-t", "s", "--debug"})
	want := []string{"server", "--token", "********", "--node-label", "a=b", "-t", "********", "--debug"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestAllRoutable(t *testing.T) {
	for text, want := range map[string]bool{
		"nameserver 192.0.2.1\n":                        true,
		"search x\nnameserver 10.0.0.1 # the router\n":  true,
		"nameserver 192.0.2.1\nnameserver 127.0.0.53\n": false,
		"nameserver fe80::1\n":                          false,
		"nameserver 169.254.1.1\n":                      false,
		"nameserver name\n":                             false,
		"# nameserver 192.0.2.1\n":                      false,
		"":                                              false,
	} {
		if got := AllRoutable(text); got != want {
			t.Errorf("%q: got %v", text, got)
		}
	}
}
