package control

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"edgefleet.local/k3s_double/config"
	"edgefleet.local/k3s_double/encryption"
	"edgefleet.local/k3s_double/pki"
)

const (
	defaultKubeconfig = "/etc/rancher/k3s/k3s.yaml"
	nodeFolder        = "/etc/rancher/node"
)

// Prepare writes everything that the components read: folders, certificates, kubeconfigs, token, encryption key.
func (o *Options) Prepare(now time.Time) error {
	steps := []func() error{
		o.makeServerFolders,
		func() error { return o.ensureCertificates(now) },
		o.ensureToken,
		o.writeKubeconfigs,
		o.ensureEncryption,
		o.copyToAgent,
		o.writeCrictl,
		func() error {
			_, err := ensureText(o.Path("server/cred/ipsec.psk"), 48, 0o600)
			return err
		},
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

type folder struct {
	path string
	mode os.FileMode
}

func (o *Options) makeServerFolders() error {
	return makeFolders([]folder{
		{"/etc/rancher/k3s", 0o755}, {o.DataDir, 0o755},
		{o.Path("server"), 0o700}, {o.Path("server/tls"), 0o700}, {o.Path("server/tls/temporary-certs"), 0o700},
		{o.Path("server/cred"), 0o700}, {o.Path("server/etc"), 0o700}, {o.Path("server/db"), 0o700},
		{o.Path("server/manifests"), 0o700}, {o.Path("server/static"), 0o700},
		{o.Path("agent"), 0o700}, {o.Path("agent/etc"), 0o755},
		{o.Path("agent/pod-manifests"), 0o755}, {o.Path("agent/images"), 0o755},
	})
}

func makeFolders(folders []folder) error {
	for _, one := range folders {
		if err := os.MkdirAll(one.path, one.mode); err != nil {
			return err
		}
	}
	return nil
}

// Authorities are the three of a cluster.
type Authorities struct{ Client, Server, RequestHeader *pki.Authority }

// Authorities loads them, or makes them.
func (o *Options) Authorities(now time.Time) (all Authorities, err error) {
	for _, one := range []struct {
		authority **pki.Authority
		file      string
		name      string
	}{
		{&all.Client, "client-ca", "k3s-client-ca"},
		{&all.Server, "server-ca", "k3s-server-ca"},
		{&all.RequestHeader, "request-header-ca", "k3s-request-header-ca"},
	} {
		if *one.authority, err = pki.EnsureAuthority(o.TLS(one.file), one.name, now); err != nil {
			return all, err
		}
	}
	return all, nil
}

func (o *Options) ensureCertificates(now time.Time) error {
	all, err := o.Authorities(now)
	if err != nil {
		return err
	}
	if err := o.ensureServiceKey(); err != nil {
		return err
	}
	apiNames := append([]string{"kubernetes.default.svc." + o.ClusterDomain, "kubernetes.default.svc", "kubernetes.default",
		"kubernetes", o.APIServiceIP()}, o.SANs...)
	kubeletNames := append([]string{o.NodeName, "localhost", "127.0.0.1"}, o.NodeIPs...)
	masters := []string{"system:masters"}
	for _, leaf := range []struct {
		authority *pki.Authority
		file      string
		leaf      pki.Leaf
	}{
		{all.Client, "client-admin", client("system:admin", masters)},
		{all.Client, "client-supervisor", client("system:k3s-supervisor", masters)},
		{all.Client, "client-controller", client("system:kube-controller-manager", nil)},
		{all.Client, "client-scheduler", client("system:kube-scheduler", nil)},
		{all.Client, "client-kube-apiserver", client("system:apiserver", masters)},
		{all.Client, "client-kube-proxy", client("system:kube-proxy", nil)},
		{all.Client, "client-k3s-controller", client("system:k3s-controller", nil)},
		{all.Client, "client-k3s-cloud-controller", client("k3s-cloud-controller-manager", nil)},
		{all.Client, "client-kubelet", client("system:node:"+o.NodeName, []string{"system:nodes"})},
		{all.RequestHeader, "client-auth-proxy", client("system:auth-proxy", nil)},
		{all.Server, "serving-kube-apiserver", serving("kube-apiserver", apiNames)},
		{all.Server, "serving-kubelet", serving(o.NodeName, kubeletNames)},
	} {
		if _, err := leaf.authority.EnsureLeaf(o.TLS(leaf.file), leaf.leaf, now); err != nil {
			return err
		}
	}
	return nil
}

func client(name string, groups []string) pki.Leaf {
	return pki.Leaf{CommonName: name, Organization: groups, Usage: x509.ExtKeyUsageClientAuth}
}

func serving(name string, names []string) pki.Leaf {
	return pki.Leaf{CommonName: name, Names: names, Usage: x509.ExtKeyUsageServerAuth}
}

// ensureServiceKey makes the key that signs service account tokens. service.current.key signs, service.key verifies.
func (o *Options) ensureServiceKey() error {
	if _, err := pki.EnsureKey(o.TLS("service.key")); err != nil {
		return err
	}
	if exists(o.TLS("service.current.key")) {
		return nil
	}
	return copyFile(o.TLS("service.key"), o.TLS("service.current.key"))
}

func (o *Options) writeKubeconfigs() error {
	api := fmt.Sprintf("https://127.0.0.1:%d", APIServerPort)
	supervisor := fmt.Sprintf("https://127.0.0.1:%d", o.Port)
	ca := o.TLS("server-ca.crt")
	agentCA := o.Path("agent/server-ca.crt")
	err := o.writeComponentKubeconfigs([]kubeconfigFile{
		{"server/cred/admin.kubeconfig", api, ca, o.TLS("client-admin")},
		{"server/cred/supervisor.kubeconfig", supervisor, ca, o.TLS("client-supervisor")},
		{"server/cred/controller.kubeconfig", api, ca, o.TLS("client-controller")},
		{"server/cred/scheduler.kubeconfig", api, ca, o.TLS("client-scheduler")},
		{"server/cred/api-server.kubeconfig", api, ca, o.TLS("client-kube-apiserver")},
		{"server/cred/cloud-controller.kubeconfig", api, ca, o.TLS("client-k3s-cloud-controller")},
		{"agent/kubelet.kubeconfig", api, agentCA, o.Path("agent/client-kubelet")},
		{"agent/kubeproxy.kubeconfig", api, agentCA, o.Path("agent/client-kube-proxy")},
		{"agent/k3scontroller.kubeconfig", api, agentCA, o.Path("agent/client-k3s-controller")},
	})
	if err != nil {
		return err
	}
	return o.writeAdminKubeconfig()
}

type kubeconfigFile struct{ path, server, ca, pair string }

func (o *Options) writeComponentKubeconfigs(files []kubeconfigFile) error {
	for _, one := range files {
		text := kubeconfig("local", "user", "Default", one.server,
			"certificate-authority: "+one.ca,
			"client-certificate: "+one.pair+".crt", "client-key: "+one.pair+".key")
		if err := pki.WriteFile(o.Path(one.path), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// writeAdminKubeconfig is for people: everything is inside. With another path the default one becomes a link to it.
func (o *Options) writeAdminKubeconfig() error {
	data := map[string]string{}
	for _, name := range []string{"server-ca.crt", "client-admin.crt", "client-admin.key"} {
		content, err := os.ReadFile(o.TLS(name))
		if err != nil {
			return err
		}
		data[name] = base64.StdEncoding.EncodeToString(content)
	}
	address := firstOf(o.BindAddress, "127.0.0.1")
	text := kubeconfig("default", "default", "default", fmt.Sprintf("https://%s:%d", address, o.Port),
		"certificate-authority-data: "+data["server-ca.crt"],
		"client-certificate-data: "+data["client-admin.crt"], "client-key-data: "+data["client-admin.key"])
	target := firstOf(o.Kubeconfig, defaultKubeconfig)
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	mode := os.FileMode(0o600)
	if number, err := strconv.ParseUint(o.KubeconfigMode, 8, 32); err == nil {
		mode = os.FileMode(number)
	} else if o.KubeconfigMode != "" {
		fmt.Fprintf(os.Stderr, "k3s: write-kubeconfig-mode %q is not octal, %s stays 0600\n", o.KubeconfigMode, target)
	}
	if err := pki.WriteFile(target, []byte(text), mode); err != nil {
		return err
	}
	if o.KubeconfigGroup != "" {
		if err := giveToGroup(target, o.KubeconfigGroup); err != nil {
			fmt.Fprintln(os.Stderr, "k3s: write-kubeconfig-group:", err)
		}
	}
	if target == defaultKubeconfig {
		return nil
	}
	return ensureLink(target, defaultKubeconfig)
}

func giveToGroup(path, name string) error {
	group, err := user.LookupGroup(name)
	if err != nil {
		return err
	}
	number, err := strconv.Atoi(group.Gid)
	if err != nil {
		return err
	}
	return os.Chown(path, -1, number)
}

func kubeconfig(cluster, account, context, server, authority, certificate, key string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Config
clusters:
- name: %[1]s
  cluster:
    server: %[4]s
    %[5]s
users:
- name: %[2]s
  user:
    %[6]s
    %[7]s
contexts:
- name: %[3]s
  context:
    cluster: %[1]s
    user: %[2]s
current-context: %[3]s
preferences: {}
`, cluster, account, context, server, authority, certificate, key)
}

// Encryption are the files about the key for secrets.
func (o *Options) Encryption() encryption.Files {
	return encryption.Files{Config: o.EncryptionConfig(), State: o.Path("server/cred/encryption-state.json")}
}

func (o *Options) ensureEncryption() error {
	if !o.SecretsEncryption {
		return nil
	}
	return o.Encryption().Ensure()
}

// copyToAgent gives the node its own copies, as an agent would get them from its server.
func (o *Options) copyToAgent() error {
	for _, name := range []string{
		"client-ca.crt", "server-ca.crt", "serving-kubelet.crt", "serving-kubelet.key", "client-kubelet.crt",
		"client-kubelet.key", "client-kube-proxy.crt", "client-kube-proxy.key", "client-k3s-controller.crt",
		"client-k3s-controller.key",
	} {
		if err := copyFile(o.TLS(name), o.Path("agent", name)); err != nil {
			return err
		}
	}
	return nil
}

func (o *Options) writeCrictl() error {
	text := "runtime-endpoint: " + o.RuntimeEndpoint + "\n"
	if o.ImageEndpoint != o.RuntimeEndpoint {
		text += "image-endpoint: " + o.ImageEndpoint + "\n"
	}
	return pki.WriteFile(o.Path("agent/etc/crictl.yaml"), []byte(text), 0o600)
}

// MaskedArgs is the command line and file as K3s shows them on the node, secrets left out.
func MaskedArgs(command string, fromFile, args []string) []string {
	secret := map[string]bool{
		"token": true, "t": true, "agent-token": true, "datastore-endpoint": true, "etcd-s3-access-key": true,
		"etcd-s3-secret-key": true, "vpn-auth": true,
	}
	masked := []string{command}
	hideNext := false
	for _, arg := range append(append([]string(nil), fromFile...), args...) {
		name, value, joined := strings.Cut(arg, "=")
		switch hidden := secret[strings.TrimLeft(name, "-")]; {
		case hideNext:
			masked = append(masked, "********")
		case joined && hidden:
			masked = append(masked, name, "********")
		case joined:
			masked = append(masked, name, value)
		default:
			masked = append(masked, name)
		}
		hideNext = !joined && secret[strings.TrimLeft(name, "-")] && strings.HasPrefix(name, "-")
	}
	return masked
}

// FileArgs are the flags that the configuration file stands for.
func FileArgs(args []string, env func(string) (string, bool)) ([]string, error) {
	return config.FileArgs(config.FilePath(args, env))
}

func randomHex(bytes int) (string, error) {
	raw := make([]byte, bytes)
	_, err := rand.Read(raw)
	return hex.EncodeToString(raw), err
}

func copyFile(from, to string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return pki.WriteFile(to, content, 0o600)
}

func ensureLink(target, link string) error {
	if old, err := os.Readlink(link); err == nil && old == target {
		return nil
	}
	if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.Symlink(target, link)
}

func trimmed(text []byte) string { return strings.TrimSpace(string(text)) }

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
