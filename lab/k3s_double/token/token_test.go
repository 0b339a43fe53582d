package token

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edgefleet.local/k3s_double/pki"
)

var hash = strings.Repeat("0a", 32)

func TestParse(t *testing.T) {
	for text, want := range map[string]Token{
		"secret":                             {"", "", "secret"},
		"se:cr::et":                          {"", "", "se:cr::et"},
		"K10" + hash + "::server:secret":     {hash, "server", "secret"},
		"K10" + hash + "::node:se:cr":        {hash, "node", "se:cr"},
		"K10::node:secret":                   {"", "node", "secret"},
		"K10:::secret":                       {"", "", "secret"},
		"abcdef.0123456789abcdef0":           {"", "", "abcdef.0123456789abcdef0"},
		"K10" + hash + "::server:a.b:c.d::e": {hash, "server", "a.b:c.d::e"},
	} {
		if got, err := Parse(text); err != nil || got != want {
			t.Errorf("%q: got %+v, %v", text, got, err)
		}
	}
}

func TestBadTokens(t *testing.T) {
	for text, want := range map[string]string{
		"":                        "token must not be empty",
		"K10abc::server:secret":   "invalid token CA hash length",
		"K10" + hash + "::server": "invalid token format",
		"K10" + hash + "::node:":  "invalid token format",
		"K10secret":               "invalid token format",
		"abcdef.0123456789abcdef": "form of a bootstrap token",
		"K10" + hash + "::abcdef.0123456789abcdef": "form of a bootstrap token",
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}

func TestHashIsOfTheFilesBytes(t *testing.T) {
	base := filepath.Join(t.TempDir(), "ca")
	authority, err := pki.EnsureAuthority(base, "ca", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("%x", sha256.Sum256(authority.PEM))
	full, err := Format(authority.PEM, "server", "secret")
	if err != nil || full != "K10"+want+"::server:secret" {
		t.Fatalf("got %s, %v", full, err)
	}
	parsed, err := Parse(full)
	if err != nil {
		t.Fatal(err)
	}
	if err := parsed.Check(authority.PEM); err != nil {
		t.Errorf("the own hash is refused: %v", err)
	}
	other, err := pki.EnsureAuthority(filepath.Join(t.TempDir(), "other"), "ca", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := parsed.Check(other.PEM); err == nil || !strings.Contains(err.Error(), "token CA hash does not match") {
		t.Errorf("another authority's hash is accepted: %v", err)
	}
	if err := (Token{}).Check(other.PEM); err != nil {
		t.Errorf("no hash means no check: %v", err)
	}
}

func TestHashOfAChainIsTheRoots(t *testing.T) {
	folder := t.TempDir()
	root, err := pki.EnsureAuthority(filepath.Join(folder, "root"), "root", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	// A leaf's file is a chain: what is below the root may change without changing the hash.
	var chains [2][]byte
	for i, name := range []string{"a", "b"} {
		leaf := pki.Leaf{CommonName: name}
		if _, err := root.EnsureLeaf(filepath.Join(folder, name), leaf, time.Now()); err != nil {
			t.Fatal(err)
		}
		if chains[i], err = os.ReadFile(filepath.Join(folder, name+".crt")); err != nil {
			t.Fatal(err)
		}
	}
	want := fmt.Sprintf("%x", sha256.Sum256(root.Cert.Raw))
	for _, chain := range chains {
		if got, err := Hash(chain); err != nil || got != want {
			t.Errorf("got %s, %v, want %s", got, err, want)
		}
	}
	if _, err := Hash([]byte("no certificate")); err == nil {
		t.Error("no certificate, no hash")
	}
}
