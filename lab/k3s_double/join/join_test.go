package join

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"edgefleet.local/k3s_double/pki"
	"edgefleet.local/k3s_double/supervisor"
	"edgefleet.local/k3s_double/token"
)

// cluster is a supervisor as a server has it.
type cluster struct {
	folder, url string
	supervisor  *supervisor.Server
	passwords   map[string]string // by node
	gone        map[string]bool   // nodes that were deleted
	paths       []string
}

func (c *cluster) HasNode(_ context.Context, name string) (bool, error) { return !c.gone[name], nil }

func (c *cluster) EnsurePassword(_ context.Context, name, password string) error {
	if old, ok := c.passwords[name]; ok && old != password {
		return fmt.Errorf("%w %s", supervisor.ErrRejected, name)
	}
	c.passwords[name] = password
	return nil
}

func open(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{folder: t.TempDir(), passwords: map[string]string{}, gone: map[string]bool{}}
	file := func(name string) string { return filepath.Join(c.folder, name) }
	var authorities [2]*pki.Authority
	for i, name := range []string{"server-ca", "client-ca"} {
		var err error
		if authorities[i], err = pki.EnsureAuthority(file(name), name, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	serving := pki.Leaf{CommonName: "api", Names: []string{"127.0.0.1"}, Usage: x509.ExtKeyUsageServerAuth}
	if _, err := authorities[0].EnsureLeaf(file("serving"), serving, time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"client-kube-proxy", "client-k3s-controller"} {
		leaf := pki.Leaf{CommonName: name, Usage: x509.ExtKeyUsageClientAuth}
		if _, err := authorities[1].EnsureLeaf(file(name), leaf, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	passwd := "agentpass,node,node,k3s:agent\nserverpass,server,server,k3s:server\n"
	if err := os.WriteFile(file("passwd"), []byte(passwd), 0o600); err != nil {
		t.Fatal(err)
	}
	networks, err := supervisor.Networks([]string{"10.42.0.0/16"})
	if err != nil {
		t.Fatal(err)
	}
	callers := x509.NewCertPool()
	callers.AddCert(authorities[1].Cert)
	c.supervisor = &supervisor.Server{
		Passwd: file("passwd"), ClientCAs: callers, Serving: authorities[0], Client: authorities[1], TLS: file,
		Config:     supervisor.Config{ClusterDomain: "edge.local", ClusterIPRanges: networks, ClusterDNS: net.ParseIP("10.43.0.10")},
		APIServers: []string{"192.0.2.1:6443"},
	}
	c.supervisor.Ready(c)
	pair, err := tls.LoadX509KeyPair(file("serving.crt"), file("serving.key"))
	if err != nil {
		t.Fatal(err)
	}
	handler := c.supervisor.Handler(http.NotFoundHandler())
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/cacerts" {
			_, _ = w.Write(authorities[0].PEM)
			return
		}
		c.paths = append(c.paths, strings.TrimPrefix(r.URL.Path, prefix))
		handler.ServeHTTP(w, r)
	}))
	web.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequestClientCert}
	web.StartTLS()
	t.Cleanup(web.Close)
	c.url = web.URL
	return c
}

func (c *cluster) token(t *testing.T, user, password string) string {
	t.Helper()
	authority, err := os.ReadFile(filepath.Join(c.folder, "server-ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	full, err := token.Format(authority, user, password)
	if err != nil {
		t.Fatal(err)
	}
	return full
}

// agent is a folder to join into.
func agent(t *testing.T, text string) (string, Credentials) {
	folder := t.TempDir()
	return folder, Credentials{"node", text, filepath.Join(folder, "client-kubelet.crt"), filepath.Join(folder, "client-kubelet.key")}
}

var me = Node{Name: "Agent1", Password: "0123", Addresses: []string{"192.0.2.7"}}

func TestJoin(t *testing.T) {
	c := open(t)
	// The user of the token is the server's: an agent calls itself node all the same.
	folder, credentials := agent(t, c.token(t, "server", "agentpass"))
	client, err := Connect(c.url, credentials)
	if err != nil {
		t.Fatal(err)
	}
	settings, err := client.Join(folder, me)
	if err != nil {
		t.Fatal(err)
	}
	if settings.ClusterDomain != "edge.local" || settings.ClusterIPRanges[0].String() != "10.42.0.0/16" {
		t.Errorf("got %+v", settings)
	}
	order := []string{"config", "client-ca.crt", "server-ca.crt", "serving-kubelet.crt", "client-kubelet.crt",
		"client-kube-proxy.crt", "client-k3s-controller.crt"}
	if !slices.Equal(c.paths, order) {
		t.Errorf("got %q", c.paths)
	}
	if servers, err := client.APIServers(); err != nil || !slices.Equal(servers, []string{"192.0.2.1:6443"}) {
		t.Errorf("got %q, %v", servers, err)
	}
	if err := client.Ready(); err != nil {
		t.Error(err)
	}
	kubelet, err := tls.LoadX509KeyPair(credentials.CertFile, credentials.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	subject, err := x509.ParseCertificate(kubelet.Certificate[0])
	if err != nil || subject.Subject.CommonName != "system:node:agent1" || subject.Subject.Organization[0] != "system:nodes" {
		t.Errorf("got %+v, %v", subject.Subject, err)
	}
	serving, err := tls.LoadX509KeyPair(filepath.Join(folder, "serving-kubelet.crt"), filepath.Join(folder, "serving-kubelet.key"))
	if err != nil {
		t.Fatal(err)
	}
	shown, err := x509.ParseCertificate(serving.Certificate[0])
	if err != nil || shown.VerifyHostname("192.0.2.7") != nil || shown.VerifyHostname("agent1") != nil {
		t.Errorf("got %+v, %v", shown, err)
	}
	for _, name := range []string{"client-ca.crt", "client-kubelet.key", "client-kube-proxy.key", "client-k3s-controller.crt"} {
		if info, err := os.Stat(filepath.Join(folder, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: got %v, %v", name, info, err)
		}
	}
}

func TestRefused(t *testing.T) {
	c := open(t)
	join := func(text string, node Node) error {
		folder, credentials := agent(t, text)
		client, err := Connect(c.url, credentials)
		if err != nil {
			return err
		}
		_, err = client.Join(folder, node)
		return err
	}
	if err := join("agentpass", me); err != nil {
		t.Fatalf("a bare password is enough: %v", err)
	}
	stranger := me
	stranger.Password = "4567"
	for want, err := range map[string]error{
		"/v1-k3s/config: 401 Unauthorized":  join("wrong", me),
		"token CA hash does not match":      join("K10"+strings.Repeat("0", 64)+"::node:agentpass", me),
		"Node password rejected, duplicate": join("agentpass", stranger),
		"token must not be empty":           join("", me),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	_, credentials := agent(t, "agentpass")
	if _, err := Connect("https://127.0.0.1:1", credentials); err == nil || !strings.HasPrefix(err.Error(), "failed to get CA certs") {
		t.Errorf("nobody there: got %v", err)
	}
}

func TestRejoin(t *testing.T) {
	c := open(t)
	folder, credentials := agent(t, "agentpass")
	client, err := Connect(c.url, credentials)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Join(folder, me); err != nil {
		t.Fatal(err)
	}
	if err := (Credentials{User: "node", CertFile: credentials.CertFile, KeyFile: credentials.KeyFile}).Usable(); err != nil {
		t.Errorf("with a certificate no token is needed: %v", err)
	}
	byCertificate := Credentials{User: "node", CertFile: credentials.CertFile, KeyFile: credentials.KeyFile}
	if client, err = Connect(c.url, byCertificate); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Join(folder, me); err != nil {
		t.Errorf("by certificate alone: %v", err)
	}
	other := me
	other.Name = "agent2"
	if _, err := client.Join(folder, other); err == nil || !strings.Contains(err.Error(), "400 Bad Request") {
		t.Errorf("a certificate is for one node: got %v", err)
	}
	c.gone["agent1"] = true
	if _, err := client.Join(folder, me); err == nil || !strings.Contains(err.Error(), "403 Forbidden") &&
		!strings.Contains(err.Error(), "Node password rejected") {
		t.Errorf("a node that was deleted needs a token: got %v", err)
	}
	if client, err = Connect(c.url, credentials); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Join(folder, me); err != nil {
		t.Errorf("with certificate and token: %v", err)
	}
}

func TestUsable(t *testing.T) {
	_, credentials := agent(t, "")
	if err := credentials.Usable(); err == nil || err.Error() != "--token is required" {
		t.Errorf("got %v", err)
	}
}
