package balance

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// server answers each connection with its name.
func server(t *testing.T, name string) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(connection, name)
			connection.Close()
		}
	}()
	return listener
}

func balancer(t *testing.T, file, url string) *Balancer {
	t.Helper()
	b, err := Listen("127.0.0.1:0", file, url)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- b.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return b
}

func ask(t *testing.T, b *Balancer) string {
	t.Helper()
	connection, err := net.Dial("tcp", b.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	answer, _ := io.ReadAll(connection) // nobody there: closed without an answer
	return string(answer)
}

func TestLeadsToOneThatAnswers(t *testing.T) {
	one, two := server(t, "one"), server(t, "two")
	file := filepath.Join(t.TempDir(), "state.json")
	b := balancer(t, file, "https://"+one.Addr().String())
	if got := ask(t, b); got != "one" {
		t.Errorf("before it knows others: got %q", got)
	}
	if err := b.Set([]string{two.Addr().String()}); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, b); got != "two" {
		t.Errorf("known servers come first: got %q", got)
	}
	two.Close()
	if got := ask(t, b); got != "one" {
		t.Errorf("the configured one is the last resort: got %q", got)
	}
	one.Close()
	if got := ask(t, b); got != "" {
		t.Errorf("nobody is there: got %q", got)
	}
}

func TestTheServerThatAnsweredIsTriedFirst(t *testing.T) {
	one, two := server(t, "one"), server(t, "two")
	b := balancer(t, filepath.Join(t.TempDir(), "state.json"), "https://127.0.0.1:1")
	dead := server(t, "dead")
	dead.Close()
	if err := b.Set([]string{dead.Addr().String(), two.Addr().String(), one.Addr().String()}); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, b); got != "two" {
		t.Fatalf("got %q", got)
	}
	if b.state.ServerAddresses[0] != two.Addr().String() || len(b.state.ServerAddresses) != 3 {
		t.Errorf("got %q", b.state.ServerAddresses)
	}
}

func TestState(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state.json")
	b := balancer(t, file, "https://server:6443")
	if err := b.Set([]string{"192.0.2.1:6443"}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil || string(text) != `{"ServerURL":"https://server:6443","ServerAddresses":["192.0.2.1:6443"]}` {
		t.Fatalf("got %s, %v", text, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v", info, err)
	}
	if same := balancer(t, file, "https://server:6443"); same.state.ServerAddresses[0] != "192.0.2.1:6443" {
		t.Error("what was learnt is lost")
	}
	other := balancer(t, file, "https://other")
	if len(other.state.ServerAddresses) != 0 || other.fallback != "other:443" {
		t.Errorf("another server's addresses are used: %+v", other)
	}
}

func TestBrokenStateNamesTheFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state.json")
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen("127.0.0.1:0", file, "https://server"); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("got %v", err)
	}
}
