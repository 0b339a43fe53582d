package control

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"edgefleet.local/k3s_double/config"
	"edgefleet.local/k3s_double/pki"
)

const (
	defaultKubeconfig = "/etc/rancher/k3s/k3s.yaml"
	nodePassword      = "/etc/rancher/node/password"
)

// Prepare writes everything that the components read: folders, certificates, kubeconfigs, token, encryption key.
func (o *Options) Prepare(now time.Time) error {
	steps := []func() error{
		o.makeFolders,
		func() error { return o.ensureCertificates(now) },
		o.ensureToken,
		o.writeKubeconfigs,
		o.ensureEncryption,
		o.copyToAgent,
		o.writeCrictl,
		func() error { return ensureSecret("/etc/rancher/node/password", 16) },
		func() error { return ensureSecret(o.Path("server/cred/ipsec.psk"), 48) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (o *Options) makeFolders() error {
	for _, folder := range []struct {
		path string
		mode os.FileMode
	}{
		{"/etc/rancher/k3s", 0o755}, {filepath.Dir(nodePassword), 0o755}, {o.DataDir, 0o755},
		{o.Path("server"), 0o700}, {o.Path("server/tls"), 0o700}, {o.Path("server/tls/temporary-certs"), 0o700},
		{o.Path("server/cred"), 0o700}, {o.Path("server/etc"), 0o700}, {o.Path("server/db"), 0o700},
		{o.Path("server/manifests"), 0o700}, {o.Path("server/static"), 0o700},
		{o.Path("agent"), 0o700}, {o.Path("agent/etc"), 0o755}, {o.Path("agent/etc/cni/net.d"), 0o755},
		{o.Path("agent/pod-manifests"), 0o755}, {o.Path("agent/images"), 0o755},
	} {
		if err := os.MkdirAll(folder.path, folder.mode); err != nil {
			return err
		}
	}
	return nil
}

type authorities struct{ client, server, requestHeader *pki.Authority }

func (o *Options) authorities(now time.Time) (all authorities, err error) {
	for _, one := range []struct {
		authority **pki.Authority
		file      string
		name      string
	}{
		{&all.client, "client-ca", "k3s-client-ca"},
		{&all.server, "server-ca", "k3s-server-ca"},
		{&all.requestHeader, "request-header-ca", "k3s-request-header-ca"},
	} {
		if *one.authority, err = pki.EnsureAuthority(o.TLS(one.file), one.name, now); err != nil {
			return all, err
		}
	}
	return all, nil
}

func (o *Options) ensureCertificates(now time.Time) error {
	all, err := o.authorities(now)
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
		{all.client, "client-admin", client("system:admin", masters)},
		{all.client, "client-supervisor", client("system:k3s-supervisor", masters)},
		{all.client, "client-controller", client("system:kube-controller-manager", nil)},
		{all.client, "client-scheduler", client("system:kube-scheduler", nil)},
		{all.client, "client-kube-apiserver", client("system:apiserver", masters)},
		{all.client, "client-kube-proxy", client("system:kube-proxy", nil)},
		{all.client, "client-k3s-controller", client("system:k3s-controller", nil)},
		{all.client, "client-k3s-cloud-controller", client("k3s-cloud-controller-manager", nil)},
		{all.client, "client-kubelet", client("system:node:"+o.NodeName, []string{"system:nodes"})},
		{all.requestHeader, "client-auth-proxy", client("system:auth-proxy", nil)},
		{all.server, "serving-kube-apiserver", serving("kube-apiserver", apiNames)},
		{all.server, "serving-kubelet", serving(o.NodeName, kubeletNames)},
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

// ensureToken writes server/token, with the hash of the server's authority, and the links to it. A password that differs
// from the one of the first start is refused, as K3s can't read its datastore's bootstrap data with another.
func (o *Options) ensureToken() error {
	given, err := o.givenPassword()
	if err != nil {
		return err
	}
	passwd := o.Path("server/cred/passwd")
	old, err := oldPassword(passwd)
	if err != nil {
		return err
	}
	if old != "" && given != "" && old != given {
		return errors.New("bootstrap data already found and encrypted with different token")
	}
	password := firstOf(given, old)
	if password == "" {
		if password, err = randomHex(16); err != nil {
			return err
		}
	}
	lines := fmt.Sprintf("%s,node,node,k3s:agent\n%s,server,server,k3s:server\n", password, password)
	if err := pki.WriteFile(passwd, []byte(lines), 0o600); err != nil {
		return err
	}
	ca, err := os.ReadFile(o.TLS("server-ca.crt"))
	if err != nil {
		return err
	}
	token := fmt.Sprintf("K10%x::server:%s\n", sha256.Sum256(ca), password)
	if err := pki.WriteFile(o.Path("server/token"), []byte(token), 0o600); err != nil {
		return err
	}
	for _, link := range []string{"node-token", "agent-token"} {
		if err := ensureLink(o.Path("server/token"), o.Path("server", link)); err != nil {
			return err
		}
	}
	return nil
}

// givenPassword is the configured one; token-file beats token.
func (o *Options) givenPassword() (string, error) {
	token := o.settings.String("token")
	if path := o.settings.String("token-file"); path != "" {
		text, err := os.ReadFile(path)
		if err != nil {
			return "", fmt.Errorf("token-file: %w", err)
		}
		if token = strings.TrimSpace(string(text)); token == "" {
			return "", fmt.Errorf("token-file: %s is empty", path)
		}
	}
	if strings.HasPrefix(token, "K10") {
		_, credentials, ok := strings.Cut(token, "::")
		_, password, hasUser := strings.Cut(credentials, ":")
		if !ok || !hasUser || password == "" {
			return "", errors.New("invalid token: K10<hash>::<user>:<password> is the full form")
		}
		return password, nil
	}
	return token, nil
}

func oldPassword(passwd string) (string, error) {
	file, err := os.Open(passwd)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	} else if err != nil {
		return "", err
	}
	defer file.Close()
	records, err := csv.NewReader(file).ReadAll()
	if err != nil {
		return "", fmt.Errorf("%s: %w", passwd, err)
	}
	for _, record := range records {
		if len(record) > 1 && record[1] == "server" {
			return record[0], nil
		}
	}
	return "", nil
}

func (o *Options) writeKubeconfigs() error {
	api := fmt.Sprintf("https://127.0.0.1:%d", APIServerPort)
	supervisor := fmt.Sprintf("https://127.0.0.1:%d", o.Port)
	ca := o.TLS("server-ca.crt")
	agentCA := o.Path("agent/server-ca.crt")
	for _, one := range []struct{ path, server, ca, pair string }{
		{"server/cred/admin.kubeconfig", api, ca, o.TLS("client-admin")},
		{"server/cred/supervisor.kubeconfig", supervisor, ca, o.TLS("client-supervisor")},
		{"server/cred/controller.kubeconfig", api, ca, o.TLS("client-controller")},
		{"server/cred/scheduler.kubeconfig", api, ca, o.TLS("client-scheduler")},
		{"server/cred/api-server.kubeconfig", api, ca, o.TLS("client-kube-apiserver")},
		{"server/cred/cloud-controller.kubeconfig", api, ca, o.TLS("client-k3s-cloud-controller")},
		{"agent/kubelet.kubeconfig", api, agentCA, o.Path("agent/client-kubelet")},
		{"agent/kubeproxy.kubeconfig", api, agentCA, o.Path("agent/client-kube-proxy")},
		{"agent/k3scontroller.kubeconfig", api, agentCA, o.Path("agent/client-k3s-controller")},
	} {
		text := kubeconfig("local", "user", "Default", one.server,
			"certificate-authority: "+one.ca,
			"client-certificate: "+one.pair+".crt", "client-key: "+one.pair+".key")
		if err := pki.WriteFile(o.Path(one.path), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return o.writeAdminKubeconfig()
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

// ensureEncryption makes the key for secrets once.
func (o *Options) ensureEncryption() error {
	if !o.SecretsEncryption || exists(o.EncryptionConfig()) {
		return nil
	}
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return err
	}
	type object = map[string]any
	content, err := json.Marshal(object{
		"kind": "EncryptionConfiguration", "apiVersion": "apiserver.config.k8s.io/v1",
		"resources": []object{{"resources": []string{"secrets"}, "providers": []object{
			{"aescbc": object{"keys": []object{{"name": "aescbckey", "secret": base64.StdEncoding.EncodeToString(key)}}}},
			{"identity": object{}},
		}}},
	})
	if err != nil {
		return err
	}
	if err := pki.WriteFile(o.EncryptionConfig(), content, 0o600); err != nil {
		return err
	}
	state := fmt.Sprintf("start-%x", sha256.Sum256(content))
	return pki.WriteFile(o.Path("server/cred/encryption-state.json"), []byte(strconv.Quote(state)), 0o600)
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
func MaskedArgs(fromFile, args []string) []string {
	secret := map[string]bool{
		"token": true, "t": true, "agent-token": true, "datastore-endpoint": true, "etcd-s3-access-key": true,
		"etcd-s3-secret-key": true, "vpn-auth": true,
	}
	masked := []string{"server"}
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

func ensureSecret(path string, bytes int) error {
	if exists(path) {
		return nil
	}
	text, err := randomHex(bytes)
	if err != nil {
		return err
	}
	return pki.WriteFile(path, []byte(text+"\n"), 0o600)
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

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
