package encryption

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// nodes is a cluster of servers whose secrets are counted.
type nodes struct {
	mutex       sync.Mutex
	annotations map[string]string
	stages      []string
	rewritten   int
	reloads     int
	reloading   bool
	failure     error
}

func (n *nodes) Annotations(context.Context) (map[string]string, error) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	return n.annotations, nil
}

func (n *nodes) Annotate(_ context.Context, text string) error {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	n.annotations["edge1"] = text
	stage, _, _ := strings.Cut(text, "-")
	n.stages = append(n.stages, stage)
	return nil
}

func (n *nodes) RewriteSecrets(context.Context) error {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	n.rewritten++
	return n.failure
}

func (n *nodes) Reloads(context.Context) (int, error) {
	if n.reloading {
		n.reloads++
	}
	return n.reloads, nil
}

func start(t *testing.T) (*Manager, *nodes) {
	t.Helper()
	folder := t.TempDir()
	files := Files{filepath.Join(folder, "config.json"), filepath.Join(folder, "state.json")}
	if err := files.Ensure(); err != nil {
		t.Fatal(err)
	}
	stage, err := files.Stage()
	if err != nil {
		t.Fatal(err)
	}
	cluster := &nodes{annotations: map[string]string{"edge1": stage}, reloading: true}
	return &Manager{
		Files: files, Node: "edge1", Cluster: cluster, ReloadTimeout: time.Second, ReloadPoll: time.Millisecond,
	}, cluster
}

func change(t *testing.T, m *Manager, body string) error {
	t.Helper()
	return m.Change(context.Background(), []byte(body))
}

func status(t *testing.T, m *Manager) State {
	t.Helper()
	state, err := m.Status(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return state.(State)
}

// awaitStage waits for what goes on in the background.
func awaitStage(t *testing.T, m *Manager, want string) State {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		state := status(t, m)
		if state.Stage == want {
			return state
		}
		if time.Now().After(deadline) {
			t.Fatalf("stage is %s, not %s", state.Stage, want)
		}
	}
}

func TestFirstKey(t *testing.T) {
	m, _ := start(t)
	text, err := os.ReadFile(m.Config)
	if err != nil {
		t.Fatal(err)
	}
	begin := `{"kind":"EncryptionConfiguration","apiVersion":"apiserver.config.k8s.io/v1","resources":[{"resources":["secrets"],` +
		`"providers":[{"aescbc":{"keys":[{"name":"aescbckey","secret":"`
	if !strings.HasPrefix(string(text), begin) || !strings.HasSuffix(string(text), `"}]}},{"identity":{}}]}]}`) {
		t.Errorf("got %s", text)
	}
	for _, path := range []string{m.Config, m.State} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: got %v, %v", path, info, err)
		}
	}
	if err := m.Ensure(); err != nil {
		t.Fatal(err)
	}
	if again, err := os.ReadFile(m.Config); err != nil || string(again) != string(text) {
		t.Error("the key is made once")
	}
	if state := status(t, m); state.Stage != "start" || !*state.Enable || !state.HashMatch || state.ActiveKey != "aescbckey" {
		t.Errorf("got %+v", state)
	}
}

func TestKilledBeforeTheState(t *testing.T) {
	m, _ := start(t)
	if err := os.Remove(m.State); err != nil {
		t.Fatal(err)
	}
	if err := m.Ensure(); err != nil {
		t.Fatal(err)
	}
	if stage, err := m.Stage(); err != nil || !strings.HasPrefix(stage, "start-") {
		t.Errorf("got %s, %v", stage, err)
	}
}

func TestNoConfiguration(t *testing.T) {
	m := &Manager{Files: Files{Config: filepath.Join(t.TempDir(), "none")}}
	if state := status(t, m); state.Enable != nil {
		t.Errorf("got %+v", state)
	}
	if err := change(t, m, `{"enable":true}`); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestStages(t *testing.T) {
	m, cluster := start(t)
	for stage, want := range map[string]string{"rotate": "incorrect stage: start", "reencrypt_active": "incorrect stage: start",
		"nonsense": "unknown stage nonsense"} {
		if err := change(t, m, `{"stage":"`+stage+`"}`); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", stage, err)
		}
	}
	if err := change(t, m, `{"stage":"prepare"}`); err != nil {
		t.Fatal(err)
	}
	state := status(t, m)
	if state.Stage != "prepare" || state.ActiveKey != "aescbckey" || len(state.InactiveKeys) != 1 {
		t.Fatalf("got %+v", state)
	}
	added := state.InactiveKeys[0]
	if err := change(t, m, `{"stage":"rotate"}`); err != nil {
		t.Fatal(err)
	}
	if state = status(t, m); state.Stage != "rotate" || state.ActiveKey != added || !slices.Equal(state.InactiveKeys, []string{"aescbckey"}) {
		t.Fatalf("got %+v", state)
	}
	if err := change(t, m, `{"stage":"reencrypt_active"}`); err != nil {
		t.Fatal(err)
	}
	state = awaitStage(t, m, "reencrypt_finished")
	if state.ActiveKey != added || len(state.InactiveKeys) != 0 || cluster.rewritten != 1 {
		t.Errorf("got %+v", state)
	}
	want := []string{"prepare", "rotate", "reencrypt_request", "reencrypt_active", "reencrypt_finished"}
	if !slices.Equal(cluster.stages, want) {
		t.Errorf("got %q", cluster.stages)
	}
	if err := change(t, m, `{"stage":"prepare"}`); err != nil {
		t.Errorf("after the last stage comes the first: %v", err)
	}
}

func TestRotateKeys(t *testing.T) {
	m, _ := start(t)
	if err := change(t, m, `{"stage":"rotate_keys"}`); err != nil {
		t.Fatal(err)
	}
	if state := awaitStage(t, m, "reencrypt_finished"); state.ActiveKey == "aescbckey" || len(state.InactiveKeys) != 0 {
		t.Errorf("got %+v", state)
	}
}

func TestNoReload(t *testing.T) {
	m, cluster := start(t)
	cluster.reloading, m.ReloadTimeout = false, 10*time.Millisecond
	if err := change(t, m, `{"stage":"rotate_keys"}`); err == nil || !strings.Contains(err.Error(), "has not reloaded") {
		t.Fatalf("got %v", err)
	}
	if cluster.rewritten != 0 {
		t.Error("secrets were rewritten by an API server that doesn't know the new key")
	}
	if state := status(t, m); len(state.InactiveKeys) != 1 {
		t.Errorf("both keys stay: %+v", state)
	}
}

func TestFailedRewriteKeepsTheOldKey(t *testing.T) {
	m, cluster := start(t)
	cluster.failure = errors.New("no")
	if err := change(t, m, `{"stage":"rotate_keys"}`); err != nil {
		t.Fatal(err)
	}
	awaitStage(t, m, "reencrypt_active")
	m.mutex.Lock() // until the background has ended
	defer m.mutex.Unlock()
	if keys, _, err := m.read(); err != nil || len(keys) != 2 {
		t.Errorf("got %v, %v", keys, err)
	}
}

func TestDisableAndEnable(t *testing.T) {
	m, cluster := start(t)
	for _, wanted := range []bool{false, true, true} {
		body, err := json.Marshal(Request{Enable: &wanted})
		if err != nil {
			t.Fatal(err)
		}
		if err := change(t, m, string(body)); err != nil {
			t.Fatal(err)
		}
		if state := awaitStage(t, m, "start"); *state.Enable != wanted {
			t.Errorf("got %+v", state)
		}
	}
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if cluster.rewritten != 2 {
		t.Errorf("secrets are rewritten when something changes: %d times", cluster.rewritten)
	}
}

func TestServersThatDiffer(t *testing.T) {
	m, cluster := start(t)
	cluster.annotations["edge2"] = "start-abc"
	if state := status(t, m); state.HashMatch || state.HashError != "hash does not match between edge1 and edge2" {
		t.Errorf("got %+v", state)
	}
	if err := change(t, m, `{"stage":"prepare"}`); err == nil || !strings.Contains(err.Error(), "hash does not match") {
		t.Errorf("got %v", err)
	}
}

func TestShow(t *testing.T) {
	on := true
	var out strings.Builder
	show(State{Stage: "prepare", ActiveKey: "aescbckey", Enable: &on, HashMatch: true, InactiveKeys: []string{"aescbckey-2"}}, &out)
	want := `Encryption Status: Enabled
Current Rotation Stage: prepare
Server Encryption Hashes: All hashes match

Active  Key Type  Name
------  --------  ----
 *      AES-CBC   aescbckey
        AES-CBC   aescbckey-2

`
	if out.String() != want {
		t.Errorf("got\n%s", out.String())
	}
	out.Reset()
	if show(State{}, &out); out.String() != "Encryption Status: Disabled, no configuration file found\n" {
		t.Errorf("got %s", out.String())
	}
}

func TestCommandErrors(t *testing.T) {
	none := func(string) (string, bool) { return "", false }
	for want, args := range map[string][]string{
		`no subcommand "state"`:         {"state"},
		"flag provided but not defined": {"status", "--nonsense"},
		`unexpected argument "now"`:     {"rotate", "now"},
		`invalid output "yaml"`:         {"status", "-o", "yaml"},
		"server/token: no such file":    {"status", "-d", t.TempDir()},
		"failed to get CA certs":        {"status", "-t", "secret", "-s", "https://127.0.0.1:1"},
		"invalid token CA hash length":  {"status", "--token=K10a::b:c", "--server=https://127.0.0.1:1"},
	} {
		if err := Command(args, none, &strings.Builder{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", args, err, want)
		}
	}
}
