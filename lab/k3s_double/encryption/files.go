// Package encryption keeps the key that secrets are encrypted with in the datastore, and exchanges it in K3s's stages.
package encryption

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"edgefleet.local/k3s_double/pki"
)

const (
	firstKey = "aescbckey"
	keyBytes = 32
)

// Key is one of the configuration. The first one encrypts, all decrypt.
type Key struct {
	Name   string `json:"name"`
	Secret string `json:"secret"`
}

// Files are the API server's configuration, and the stage that the exchange of keys has reached.
type Files struct{ Config, State string }

type configuration struct {
	Kind       string     `json:"kind"`
	APIVersion string     `json:"apiVersion"`
	Resources  []resource `json:"resources"`
}

type resource struct {
	Resources []string   `json:"resources"`
	Providers []provider `json:"providers"`
}

// provider is either of both. `identity` leaves secrets as they are.
type provider struct {
	AESCBC   *aescbc   `json:"aescbc,omitempty"`
	Identity *struct{} `json:"identity,omitempty"`
}

type aescbc struct {
	Keys []Key `json:"keys"`
}

// Ensure makes the first key, once.
func (f Files) Ensure() error {
	if _, err := os.Stat(f.Config); errors.Is(err, fs.ErrNotExist) {
		key, err := newKey(firstKey)
		if err != nil {
			return err
		}
		if err := f.write([]Key{key}, true); err != nil {
			return err
		}
		return f.setState(StageStart)
	} else if err != nil {
		return err
	}
	if _, err := os.Stat(f.State); errors.Is(err, fs.ErrNotExist) { // killed in between
		return f.setState(StageStart)
	} else if err != nil {
		return err
	}
	return nil
}

func newKey(name string) (Key, error) {
	raw := make([]byte, keyBytes)
	_, err := rand.Read(raw)
	return Key{name, base64.StdEncoding.EncodeToString(raw)}, err
}

// read gives the keys, and whether they are in use.
func (f Files) read() (keys []Key, enabled bool, err error) {
	text, err := os.ReadFile(f.Config)
	if err != nil {
		return nil, false, err
	}
	var content configuration
	if err := json.Unmarshal(text, &content); err != nil {
		return nil, false, fmt.Errorf("%s: %w", f.Config, err)
	}
	if len(content.Resources) != 1 || len(content.Resources[0].Providers) != 2 {
		return nil, false, fmt.Errorf("%s: want one resource with two providers, aescbc and identity", f.Config)
	}
	for i, one := range content.Resources[0].Providers {
		if one.AESCBC != nil {
			return one.AESCBC.Keys, i == 0, nil
		}
	}
	return nil, false, fmt.Errorf("%s: no provider aescbc", f.Config)
}

func (f Files) write(keys []Key, enabled bool) error {
	providers := []provider{{AESCBC: &aescbc{keys}}, {Identity: &struct{}{}}}
	if !enabled {
		providers[0], providers[1] = providers[1], providers[0]
	}
	text, err := json.Marshal(configuration{
		Kind: "EncryptionConfiguration", APIVersion: "apiserver.config.k8s.io/v1",
		Resources: []resource{{Resources: []string{"secrets"}, Providers: providers}},
	})
	if err != nil {
		return err
	}
	return pki.WriteFile(f.Config, text, 0o600)
}

func (f Files) hash() (string, error) {
	text, err := os.ReadFile(f.Config)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

// setState records a stage, with the hash of the configuration as it is then.
func (f Files) setState(stage string) error {
	hash, err := f.hash()
	if err != nil {
		return err
	}
	return pki.WriteFile(f.State, []byte(stage+"-"+hash), 0o600)
}

// Stage is what a server's node carries: the stage and the hash.
func (f Files) Stage() (string, error) {
	text, err := os.ReadFile(f.State)
	return string(text), err
}
