package gate

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edgefleet.local/k3s_double/pki"
	"edgefleet.local/k3s_double/supervisor"
)

// lab is a gate with an API server behind it that tells what it got.
type lab struct {
	folder string
	url    string
	client *pki.Authority
	got    *http.Request
}

func leaf(t *testing.T, authority *pki.Authority, base string, name string, groups ...string) tls.Certificate {
	t.Helper()
	usage := x509.ExtKeyUsageClientAuth
	names := []string{}
	if len(groups) > 0 && groups[0] == "server" {
		usage, names, groups = x509.ExtKeyUsageServerAuth, []string{"127.0.0.1"}, nil
	}
	wanted := pki.Leaf{CommonName: name, Organization: groups, Names: names, Usage: usage}
	if _, err := authority.EnsureLeaf(base, wanted, time.Now()); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(base+".crt", base+".key")
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

func open(t *testing.T) *lab {
	t.Helper()
	l := &lab{folder: t.TempDir()}
	file := func(name string) string { return filepath.Join(l.folder, name) }
	authority := func(name string) *pki.Authority {
		made, err := pki.EnsureAuthority(file(name), name, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	serverCA, clientCA, headerCA := authority("server-ca"), authority("client-ca"), authority("header-ca")
	l.client = clientCA
	serving := leaf(t, serverCA, file("serving"), "api", "server")
	leaf(t, headerCA, file("proxy"), "system:auth-proxy")

	api := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.got = r
		if r.Header.Get("Upgrade") != "" {
			w.Header().Set("Connection", "Upgrade")
			w.Header().Set("Upgrade", r.Header.Get("Upgrade"))
			w.WriteHeader(http.StatusSwitchingProtocols)
			return
		}
		_, _ = io.WriteString(w, "api")
	}))
	api.TLS = &tls.Config{Certificates: []tls.Certificate{serving}, ClientAuth: tls.RequestClientCert}
	api.StartTLS()
	t.Cleanup(api.Close)
	address, err := url.Parse(api.URL)
	if err != nil {
		t.Fatal(err)
	}
	callers := x509.NewCertPool()
	callers.AddCert(clientCA.Cert)
	web, err := New("127.0.0.1:0", address, Files{
		ServerCert: file("serving.crt"), ServerKey: file("serving.key"), ServerCA: file("server-ca.crt"),
		ProxyCert: file("proxy.crt"), ProxyKey: file("proxy.key"),
	}, &supervisor.Server{ClientCAs: callers}, log.New(io.Discard, "", 0))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", web.Addr)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = web.ServeTLS(listener, "", "") }()
	t.Cleanup(func() { web.Close() })
	l.url = "https://" + listener.Addr().String()
	return l
}

func (l *lab) get(t *testing.T, path string, header http.Header, certificates ...tls.Certificate) (int, string) {
	t.Helper()
	pool := x509.NewCertPool()
	ca, err := os.ReadFile(filepath.Join(l.folder, "server-ca.crt"))
	if err != nil || !pool.AppendCertsFromPEM(ca) {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: certificates}}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequest(http.MethodGet, l.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if header != nil {
		request.Header = header
	}
	answer, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode == http.StatusSwitchingProtocols {
		return answer.StatusCode, ""
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}

func TestOwnPaths(t *testing.T) {
	l := open(t)
	if code, body := l.get(t, "/ping", nil); code != 200 || body != "pong" {
		t.Errorf("got %d %q", code, body)
	}
	ca, err := os.ReadFile(filepath.Join(l.folder, "server-ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	if code, body := l.get(t, "/cacerts", nil); code != 200 || !bytes.Equal([]byte(body), ca) {
		t.Errorf("got %d %q", code, body)
	}
	if code, body := l.get(t, "/v1-k3s/config", nil); code != 403 || !strings.Contains(body, `"message":"forbidden"`) {
		t.Errorf("the supervisor's: got %d %q", code, body)
	}
	if code, body := l.get(t, "/v1-k3s/nonsense", nil); code != 200 || body != "api" {
		t.Errorf("what it doesn't know is the API server's: got %d %q", code, body)
	}
}

func TestCallerWithCertificate(t *testing.T) {
	l := open(t)
	caller := leaf(t, l.client, filepath.Join(l.folder, "admin"), "system:admin", "system:masters", "others")
	forged := http.Header{"X-Remote-User": {"root"}, "X-Remote-Extra-X": {"y"}, "Authorization": {"Bearer t"}}
	if code, body := l.get(t, "/api", forged, caller); code != 200 || body != "api" {
		t.Fatalf("got %d %q", code, body)
	}
	if user := l.got.Header.Values("X-Remote-User"); len(user) != 1 || user[0] != "system:admin" {
		t.Errorf("got %q", user)
	}
	if groups := l.got.Header.Values("X-Remote-Group"); len(groups) != 2 || groups[1] != "system:masters" {
		t.Errorf("got %q", groups)
	}
	if l.got.Header.Get("X-Remote-Extra-X") != "" {
		t.Error("a forged header reached the API server")
	}
	if shown := l.got.TLS.PeerCertificates; len(shown) == 0 || shown[0].Subject.CommonName != "system:auth-proxy" {
		t.Errorf("the API server needs the proxy's certificate: %v", shown)
	}
}

func TestCallerWithoutGoodCertificate(t *testing.T) {
	l := open(t)
	strangers, err := pki.EnsureAuthority(filepath.Join(l.folder, "strangers"), "strangers", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	stranger := leaf(t, strangers, filepath.Join(l.folder, "stranger"), "system:admin", "system:masters")
	for name, certificates := range map[string][]tls.Certificate{"none": nil, "stranger": {stranger}} {
		header := http.Header{"X-Remote-User": {"root"}, "X-Remote-Group": {"system:masters"}, "Authorization": {"Bearer t"}}
		if code, _ := l.get(t, "/api", header, certificates...); code != 200 {
			t.Errorf("%s: got %d", name, code)
		}
		if l.got.Header.Get("X-Remote-User") != "" || l.got.Header.Get("X-Remote-Group") != "" {
			t.Errorf("%s: named itself", name)
		}
		if len(l.got.TLS.PeerCertificates) != 0 {
			t.Errorf("%s: got the proxy's certificate", name)
		}
		if l.got.Header.Get("Authorization") != "Bearer t" {
			t.Errorf("%s: its token is lost", name)
		}
	}
}

func TestUpgradeOfAnyProtocol(t *testing.T) {
	l := open(t)
	header := http.Header{"Connection": {"Upgrade"}, "Upgrade": {"SPDY/3.1"}}
	if code, _ := l.get(t, "/exec", header); code != http.StatusSwitchingProtocols {
		t.Errorf("got %d", code)
	}
}

func TestNoAPIServerYet(t *testing.T) {
	l := open(t)
	nobody := &url.URL{Scheme: "https", Host: "127.0.0.1:1"}
	recorder := httptest.NewRecorder()
	proxy(nobody, &tls.Config{}, log.New(io.Discard, "", 0)).ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, l.url, nil))
	if recorder.Code != http.StatusServiceUnavailable || !strings.Contains(recorder.Body.String(), `"message":"starting"`) {
		t.Errorf("got %d %s", recorder.Code, recorder.Body)
	}
}
