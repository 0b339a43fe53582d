package supervisor

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edgefleet.local/k3s_double/pki"
)

// What needs TLS is tested where agents join.

type core struct{}

func (core) HasNode(context.Context, string) (bool, error) { return true, nil }

func (core) EnsurePassword(_ context.Context, name, _ string) error {
	if name == "broken" {
		return errors.New("no API")
	}
	return nil
}

type encryption struct{ asked string }

func (e *encryption) Status(context.Context) (any, error) {
	return map[string]string{"stage": "start"}, nil
}

func (e *encryption) Change(_ context.Context, request []byte) error {
	e.asked = string(request)
	if strings.Contains(e.asked, "bad") {
		return errors.New("a secret reason")
	}
	return nil
}

func server(t *testing.T) (*Server, *encryption) {
	t.Helper()
	folder := t.TempDir()
	passwd := filepath.Join(folder, "passwd")
	if err := os.WriteFile(passwd, []byte("a,node,node,k3s:agent\ns,server,server,k3s:server\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	authority, err := pki.EnsureAuthority(filepath.Join(folder, "ca"), "ca", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	keys := &encryption{}
	return &Server{
		Passwd: passwd, Client: authority, Serving: authority, Encryption: keys,
		TLS: func(name string) string { return filepath.Join(folder, name) },
	}, keys
}

func ask(s *Server, method, path, user, password, body string, header ...string) *http.Response {
	request := httptest.NewRequest(method, path, strings.NewReader(body))
	if user != "" {
		request.SetBasicAuth(user, password)
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	recorder := httptest.NewRecorder()
	s.Handler(http.NotFoundHandler()).ServeHTTP(recorder, request)
	return recorder.Result()
}

func TestWhoMayAskForWhat(t *testing.T) {
	s, _ := server(t)
	s.Ready(core{})
	for _, test := range []struct {
		path, user, password string
		want                 int
	}{
		{"config", "node", "a", 200},
		{"config", "node", "wrong", 401},
		{"config", "nobody", "a", 401},
		{"config", "", "", 403},
		{"config", "server", "s", 403},
		{"encrypt/status", "server", "s", 200},
		{"encrypt/status", "node", "a", 403},
		{"encrypt/status", "server", "a", 401},
		{"connect", "node", "a", 403},
		{"nonsense", "node", "a", 404},
	} {
		if got := ask(s, http.MethodGet, "/v1-k3s/"+test.path, test.user, test.password, ""); got.StatusCode != test.want {
			t.Errorf("%+v: got %d", test, got.StatusCode)
		}
	}
}

func TestBeforeTheAPIAnswers(t *testing.T) {
	s, _ := server(t)
	named := []string{nodeName, "edge1", nodePassword, "p"}
	for path, want := range map[string]int{
		"config": 200, "readyz": 503, "client-kubelet.crt": 503, "serving-kubelet.crt": 503,
	} {
		if got := ask(s, http.MethodGet, "/v1-k3s/"+path, "node", "a", "", named...); got.StatusCode != want {
			t.Errorf("%s: got %d", path, got.StatusCode)
		}
	}
	if got := ask(s, http.MethodGet, "/v1-k3s/encrypt/status", "server", "s", ""); got.StatusCode != 503 {
		t.Errorf("got %d", got.StatusCode)
	}
	s.Ready(core{})
	if got := ask(s, http.MethodGet, "/v1-k3s/readyz", "node", "a", ""); got.StatusCode != 200 {
		t.Errorf("got %d", got.StatusCode)
	}
	if got := ask(s, http.MethodGet, "/v1-k3s/client-kubelet.crt", "node", "a", "", named...); got.StatusCode != 200 {
		t.Errorf("got %d", got.StatusCode)
	}
}

func TestWhatANodeMustSay(t *testing.T) {
	s, _ := server(t)
	s.Ready(core{})
	for name, test := range map[string]struct {
		header []string
		want   int
	}{
		"nothing":     {nil, 400},
		"no password": {[]string{nodeName, "edge1"}, 400},
		"bad address": {[]string{nodeName, "edge1", nodePassword, "p", nodeIP, "edge1"}, 500},
		"two":         {[]string{nodeName, "edge1", nodePassword, "p", nodeIP, "192.0.2.7,fd00::7"}, 200},
		"API away":    {[]string{nodeName, "broken", nodePassword, "p"}, 500},
	} {
		got := ask(s, http.MethodGet, "/v1-k3s/serving-kubelet.crt", "node", "a", "", test.header...)
		if got.StatusCode != test.want {
			t.Errorf("%s: got %d", name, got.StatusCode)
		}
	}
}

func TestEncryptionRequests(t *testing.T) {
	s, keys := server(t)
	s.Ready(core{})
	if got := ask(s, http.MethodGet, "/v1-k3s/encrypt/config", "server", "s", ""); got.StatusCode != 400 || keys.asked != "" {
		t.Errorf("got %d", got.StatusCode)
	}
	if got := ask(s, http.MethodPut, "/v1-k3s/encrypt/config", "server", "s", "{}"); got.StatusCode != 200 || keys.asked != "{}" {
		t.Errorf("got %d", got.StatusCode)
	}
	got := ask(s, http.MethodPut, "/v1-k3s/encrypt/config", "server", "s", "bad")
	text, err := io.ReadAll(got.Body)
	if err != nil || got.StatusCode != 400 || !strings.HasPrefix(string(text), "secrets-encrypt error ID ") ||
		strings.Contains(string(text), "secret reason") {
		t.Errorf("got %d %s, %v", got.StatusCode, text, err)
	}
}

func TestTokenRequests(t *testing.T) {
	s, _ := server(t)
	asked := "nothing"
	s.RotateToken = func(password string) error {
		asked = password
		if password == "bad" {
			return errors.New("secret reason")
		}
		return nil
	}
	for _, test := range []struct {
		method, user, password, body string
		code                         int
		asked                        string
	}{
		{http.MethodGet, "server", "s", "", 400, "nothing"},
		{http.MethodPut, "node", "a", `{"newToken": "x"}`, 403, "nothing"},
		{http.MethodPut, "server", "s", `{}`, 400, "nothing"},
		{http.MethodPut, "server", "s", `{"newToken": "x"}`, 200, "x"},
		{http.MethodPut, "server", "s", `{"newToken": ""}`, 200, ""},
		{http.MethodPut, "server", "s", `{"newToken": "bad"}`, 500, "bad"},
	} {
		if got := ask(s, test.method, "/v1-k3s/token", test.user, test.password, test.body); got.StatusCode != test.code || asked != test.asked {
			t.Errorf("%+v: got %d, asked for %q", test, got.StatusCode, asked)
		}
	}
}

func TestPortRange(t *testing.T) {
	if got, err := NewPortRange("30000-32767"); err != nil || got != (PortRange{30000, 2768}) || got.String() != "30000-32767" {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, text := range []string{"", "30000", "x-y", "32767-30000", "0-1", "1-65536"} {
		if _, err := NewPortRange(text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}
