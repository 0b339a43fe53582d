package encryption

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"slices"
	"strings"
	"sync"
	"time"
)

// Stages, in their order.
const (
	StageStart     = "start"
	stagePrepare   = "prepare"
	stageRotate    = "rotate"
	stageRequested = "reencrypt_request"
	stageActive    = "reencrypt_active"
	stageFinished  = "reencrypt_finished"
	// Asked for by commands only: all of them in one.
	stageRotateKeys = "rotate_keys"
)

// Annotation is where a server's node tells its stage.
const Annotation = "k3s.io/encryption-config-hash"

// State is what `k3s secrets-encrypt status` shows. Without Enable there is no configuration.
type State struct {
	Stage        string   `json:"stage"`
	ActiveKey    string   `json:"activekey"`
	Enable       *bool    `json:"enable,omitempty"`
	HashMatch    bool     `json:"hashmatch,omitempty"`
	HashError    string   `json:"hasherror,omitempty"`
	InactiveKeys []string `json:"inactivekeys,omitempty"`
}

// Request asks for the next stage, or to switch encryption on or off.
type Request struct {
	Stage  *string `json:"stage,omitempty"`
	Enable *bool   `json:"enable,omitempty"`
	Force  bool    `json:"force"`
	Skip   bool    `json:"skip"`
}

// Cluster is what the stages need of the API.
type Cluster interface {
	// Annotations are those of the servers' nodes, by name.
	Annotations(ctx context.Context) (map[string]string, error)
	// Annotate sets this server's.
	Annotate(ctx context.Context, text string) error
	// RewriteSecrets writes all of them anew, with the key that is first now.
	RewriteSecrets(ctx context.Context) error
	// Reloads counts how often the API server has taken over a changed configuration.
	Reloads(ctx context.Context) (int, error)
}

// Manager goes through the stages.
type Manager struct {
	Files
	Node    string // this server's
	Cluster Cluster
	// The API server looks for changes once a minute.
	ReloadTimeout, ReloadPoll time.Duration

	mutex sync.Mutex
}

// Status looks at the files and the nodes.
func (m *Manager) Status(ctx context.Context) (any, error) {
	keys, enabled, err := m.read()
	if errors.Is(err, fs.ErrNotExist) {
		return State{}, nil
	} else if err != nil {
		return nil, err
	}
	state := State{Enable: &enabled, HashMatch: true}
	annotations, err := m.Cluster.Annotations(ctx)
	if err != nil {
		return nil, err
	}
	if err := same(annotations); err != nil {
		state.HashMatch, state.HashError = false, err.Error()
	}
	if state.Stage, _, err = m.own(annotations); err != nil {
		return nil, err
	}
	for i, key := range keys {
		if i == 0 && enabled {
			state.ActiveKey = key.Name
		} else {
			state.InactiveKeys = append(state.InactiveKeys, key.Name)
		}
	}
	return state, nil
}

// same refuses servers at different stages.
func same(annotations map[string]string) error {
	names := make([]string, 0, len(annotations))
	for name := range annotations {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if annotations[name] != annotations[names[0]] {
			return fmt.Errorf("hash does not match between %s and %s", names[0], name)
		}
	}
	return nil
}

func (m *Manager) own(annotations map[string]string) (stage, hash string, err error) {
	text, ok := annotations[m.Node]
	if !ok {
		return "", "", fmt.Errorf("missing annotation on node %s", m.Node)
	}
	stage, hash, ok = strings.Cut(text, "-")
	if !ok {
		return "", "", fmt.Errorf("invalid annotation %s found on node %s", text, m.Node)
	}
	return stage, hash, nil
}

// Change does what is asked for. Rewriting the secrets goes on after it returns.
func (m *Manager) Change(ctx context.Context, body []byte) error {
	var request Request
	if err := json.Unmarshal(body, &request); err != nil {
		return err
	}
	m.mutex.Lock()
	defer m.mutex.Unlock()
	switch {
	case request.Stage == nil && request.Enable == nil:
		return nil
	case request.Stage == nil:
		return m.enable(ctx, *request.Enable)
	}
	switch *request.Stage {
	case stagePrepare:
		return m.prepare(ctx, request.Force)
	case stageRotate:
		return m.rotate(ctx, request.Force)
	case stageActive:
		if err := m.check(ctx, stageRotate); err != nil && !request.Force {
			return err
		}
		return m.reencrypt(ctx, request.Skip)
	case stageRotateKeys:
		return m.rotateKeys(ctx)
	}
	return fmt.Errorf("unknown stage %s requested", *request.Stage)
}

// check wants all servers at one of these stages, with the configuration that is there now.
func (m *Manager) check(ctx context.Context, stages ...string) error {
	annotations, err := m.Cluster.Annotations(ctx)
	if err != nil {
		return err
	}
	if err := same(annotations); err != nil {
		return err
	}
	stage, old, err := m.own(annotations)
	if err != nil {
		return err
	}
	hash, err := m.hash()
	if err != nil {
		return err
	}
	if !slices.Contains(stages, stage) {
		return fmt.Errorf("incorrect stage: %s found on node %s", stage, m.Node)
	}
	if hash != old {
		return fmt.Errorf("invalid hash: %s found on node %s", old, m.Node)
	}
	return nil
}

// prepare adds a key that nothing is encrypted with yet.
func (m *Manager) prepare(ctx context.Context, force bool) error {
	if err := m.check(ctx, StageStart, stageFinished); err != nil && !force {
		return err
	}
	keys, _, err := m.read()
	if err != nil {
		return err
	}
	key, err := newKey(firstKey + "-" + time.Now().Format(time.RFC3339))
	if err != nil {
		return err
	}
	log.Printf("Adding secrets-encryption key %s", key.Name)
	if err := m.write(append(keys, key), true); err != nil {
		return err
	}
	return m.reach(ctx, stagePrepare)
}

// rotate makes the new key the one that encrypts.
func (m *Manager) rotate(ctx context.Context, force bool) error {
	if err := m.check(ctx, stagePrepare); err != nil && !force {
		return err
	}
	if err := m.lastKeyFirst(); err != nil {
		return err
	}
	return m.reach(ctx, stageRotate)
}

func (m *Manager) lastKeyFirst() error {
	keys, _, err := m.read()
	if err != nil {
		return err
	}
	last := len(keys) - 1
	log.Print("Encryption keys right rotated")
	return m.write(append([]Key{keys[last]}, keys[:last]...), true)
}

// reach records a stage, in the file first: the node's annotation is renewed from it at each start.
func (m *Manager) reach(ctx context.Context, stage string) error {
	if err := m.setState(stage); err != nil {
		return err
	}
	text, err := m.Stage()
	if err != nil {
		return err
	}
	return m.Cluster.Annotate(ctx, text)
}

// rotateKeys does all stages in one, and waits until the API server knows the new key.
func (m *Manager) rotateKeys(ctx context.Context) error {
	if err := m.check(ctx, StageStart, stageFinished); err != nil {
		return err
	}
	before, err := m.Cluster.Reloads(ctx)
	if err != nil {
		return err
	}
	keys, _, err := m.read()
	if err != nil {
		return err
	}
	key, err := newKey(firstKey + "-" + time.Now().Format(time.RFC3339))
	if err != nil {
		return err
	}
	log.Printf("Adding and rotating to secrets-encryption key %s", key.Name)
	if err := m.write(append([]Key{key}, keys...), true); err != nil {
		return err
	}
	if err := m.awaitReload(ctx, before); err != nil {
		return err
	}
	return m.reencrypt(ctx, false)
}

func (m *Manager) awaitReload(ctx context.Context, before int) error {
	ctx, cancel := context.WithTimeout(ctx, m.ReloadTimeout)
	defer cancel()
	for {
		now, err := m.Cluster.Reloads(ctx)
		if err == nil && now > before {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the API server has not reloaded its encryption configuration: %w", errors.Join(ctx.Err(), err))
		case <-time.After(m.ReloadPoll):
		}
	}
}

// enable switches the order of providers; keys stay, so that everything can still be read.
func (m *Manager) enable(ctx context.Context, wanted bool) error {
	keys, enabled, err := m.read()
	if err != nil {
		return err
	}
	if enabled == wanted {
		log.Printf("Secrets encryption is as wanted already: enabled=%t", wanted)
		return nil
	}
	if err := m.write(keys, wanted); err != nil {
		return err
	}
	return m.reencrypt(ctx, true)
}

// reencrypt rewrites the secrets in the background. With skip the keys stay and the stage is that of before.
func (m *Manager) reencrypt(ctx context.Context, skip bool) error {
	if err := m.tell(ctx, stageRequested); err != nil {
		return err
	}
	background := context.WithoutCancel(ctx)
	go func() {
		m.mutex.Lock()
		defer m.mutex.Unlock()
		if err := m.rewrite(background, skip); err != nil {
			log.Printf("Failed to reencrypt secrets: %v", err)
		}
	}()
	return nil
}

func (m *Manager) rewrite(ctx context.Context, skip bool) error {
	if err := m.tell(ctx, stageActive); err != nil {
		return err
	}
	if err := m.Cluster.RewriteSecrets(ctx); err != nil {
		return err
	}
	if skip {
		text, err := m.Stage()
		if err != nil {
			return err
		}
		return m.Cluster.Annotate(ctx, text)
	}
	keys, _, err := m.read()
	if err != nil {
		return err
	}
	if last := len(keys) - 1; last > 0 {
		log.Printf("Removing key: %s", keys[last].Name)
		if err := m.write(keys[:last], true); err != nil {
			return err
		}
	}
	return m.reach(ctx, stageFinished)
}

// tell annotates the node with a passing stage, which a restart takes back.
func (m *Manager) tell(ctx context.Context, stage string) error {
	keys, _, err := m.read()
	if err != nil {
		return err
	}
	text, err := json.Marshal(append(keys, Key{Name: stage}))
	if err != nil {
		return err
	}
	sum := sha256.Sum256(text)
	return m.Cluster.Annotate(ctx, stage+"-"+hex.EncodeToString(sum[:]))
}
