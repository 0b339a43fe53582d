package pki

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"
)

var (
	start  = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	server = Leaf{CommonName: "edge1", Names: []string{"edge1", "10.0.0.1", "edge1", ""}, Usage: x509.ExtKeyUsageServerAuth}
)

func ensure(t *testing.T, authority *Authority, base string, leaf Leaf, now time.Time) bool {
	t.Helper()
	made, err := authority.EnsureLeaf(base, leaf, now)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func authority(t *testing.T, base string) *Authority {
	t.Helper()
	made, err := EnsureAuthority(base, "k3s-server-ca", start)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func TestLeafIsSignedForItsNames(t *testing.T) {
	folder := t.TempDir()
	ca := authority(t, filepath.Join(folder, "ca"))
	base := filepath.Join(folder, "leaf")
	ensure(t, ca, base, server, start)
	leaf, _, err := readCert(base + ".crt")
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca.Cert)
	for _, name := range []string{"edge1", "10.0.0.1"} {
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: name, CurrentTime: start.Add(time.Hour)}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for file, mode := range map[string]os.FileMode{base + ".crt": 0o644, base + ".key": 0o600} {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: got %v, %v", file, info.Mode(), err)
		}
	}
}

func TestLeafIsMadeAnewOnlyWhenNeeded(t *testing.T) {
	day := 24 * time.Hour
	other := server
	other.Names = append([]string{"10.0.0.2"}, server.Names...)
	renamed := server
	renamed.CommonName = "edge2"
	grouped := server
	grouped.Organization = []string{"system:masters"}
	several := server
	several.Organization = []string{"system:masters", "others"}
	for name, test := range map[string]struct {
		leaf Leaf
		at   time.Time
		want bool
	}{
		"nothing changed":  {server, start, false},
		"91 days left":     {server, start.Add(274 * day), false},
		"90 days left":     {server, start.Add(275 * day), true},
		"expired":          {server, start.Add(400 * day), true},
		"another name":     {other, start, true},
		"another subject":  {renamed, start, true},
		"another group":    {grouped, start, true},
		"several groups":   {several, start, false},
		"same names mixed": {Leaf{"edge1", nil, []string{"10.0.0.1", "edge1"}, server.Usage}, start, false},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			ca, base := authority(t, filepath.Join(folder, "ca")), filepath.Join(folder, "leaf")
			ensure(t, ca, base, server, start)
			if name == "several groups" {
				ensure(t, ca, base, several, start)
			}
			if got := ensure(t, ca, base, test.leaf, test.at); got != test.want {
				t.Errorf("made anew: %v, want %v", got, test.want)
			}
		})
	}
}

func TestAuthorityStaysAndItsChangeIsNoticed(t *testing.T) {
	folder := t.TempDir()
	base := filepath.Join(folder, "leaf")
	first := authority(t, filepath.Join(folder, "ca"))
	ensure(t, first, base, server, start)
	again := authority(t, filepath.Join(folder, "ca"))
	if !again.Cert.Equal(first.Cert) {
		t.Error("an authority is made once")
	}
	if ensure(t, again, base, server, start) {
		t.Error("its leaf is good")
	}
	if !ensure(t, authority(t, filepath.Join(folder, "ca2")), base, server, start) {
		t.Error("a leaf of another authority is made anew")
	}
}

func TestTruncatedFiles(t *testing.T) {
	folder := t.TempDir()
	ca, base := authority(t, filepath.Join(folder, "ca")), filepath.Join(folder, "leaf")
	ensure(t, ca, base, server, start)
	if err := os.WriteFile(base+".crt", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if !ensure(t, ca, base, server, start) {
		t.Error("a damaged leaf is made anew")
	}
	if err := os.WriteFile(filepath.Join(folder, "ca.crt"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := EnsureAuthority(filepath.Join(folder, "ca"), "x", start); err == nil {
		t.Error("a damaged authority is never replaced without being asked")
	}
}
