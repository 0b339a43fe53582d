package unpack

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func payload(t *testing.T, headers ...tar.Header) *bytes.Reader {
	t.Helper()
	var buffer bytes.Buffer
	encoder, err := zstd.NewWriter(&buffer)
	if err != nil {
		t.Fatal(err)
	}
	writer := tar.NewWriter(encoder)
	for _, header := range headers {
		content := "x"
		if header.Typeflag != tar.TypeReg {
			content = ""
		}
		header.Size = int64(len(content))
		if err := writer.WriteHeader(&header); err != nil {
			t.Fatal(err)
		}
		if _, err := writer.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(writer.Close(), encoder.Close()); err != nil {
		t.Fatal(err)
	}
	return bytes.NewReader(buffer.Bytes())
}

var (
	program = tar.Header{Typeflag: tar.TypeReg, Name: "bin/ctr", Mode: 0o755}
	link    = tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/kubectl", Linkname: "ctr"}
)

func ensure(t *testing.T, folder, hash string) string {
	t.Helper()
	dir, err := Ensure(folder, hash, payload(t, program, link))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func target(t *testing.T, folder, name string) string {
	t.Helper()
	target, err := os.Readlink(filepath.Join(folder, "data", name))
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Base(target)
}

func TestProgramsAreThere(t *testing.T) {
	dir := ensure(t, t.TempDir(), "one")
	info, err := os.Stat(filepath.Join(dir, "bin/kubectl"))
	if err != nil || info.Mode().Perm() != 0o755 {
		t.Fatalf("got %v, %v", info, err)
	}
}

func TestCurrentMovesOnlyWithTheFirstUnpacking(t *testing.T) {
	folder := t.TempDir()
	ensure(t, folder, "one")
	ensure(t, folder, "two")
	if target(t, folder, "current") != "two" || target(t, folder, "previous") != "one" {
		t.Error("the newer version is current")
	}
	if dir := ensure(t, folder, "one"); filepath.Base(dir) != "one" {
		t.Errorf("got %s", dir)
	}
	if target(t, folder, "current") != "two" {
		t.Error("going back leaves current at the newer version")
	}
}

func TestWhatAKilledRunLeftIsReplaced(t *testing.T) {
	folder := t.TempDir()
	if err := os.MkdirAll(filepath.Join(folder, "data/one-tmp/bin/ctr"), 0o755); err != nil {
		t.Fatal(err)
	}
	ensure(t, folder, "one")
}

func TestBadPayloadLeavesNothing(t *testing.T) {
	outside := tar.Header{Typeflag: tar.TypeReg, Name: "../../x", Mode: 0o644}
	whole := payload(t, program)
	for name, bad := range map[string]*bytes.Reader{
		"leaves the folder": payload(t, outside),
		"truncated":         bytes.NewReader([]byte("(\xb5/\xfd")),
		"cut off": func() *bytes.Reader {
			b := make([]byte, whole.Len()/2)
			_, _ = whole.Read(b)
			return bytes.NewReader(b)
		}(),
	} {
		folder := t.TempDir()
		if _, err := Ensure(folder, "one", bad); err == nil {
			t.Errorf("%s: accepted", name)
		}
		entries, err := os.ReadDir(filepath.Join(folder, "data"))
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			if !strings.HasPrefix(entry.Name(), ".") {
				t.Errorf("%s: %s is left", name, entry.Name())
			}
		}
	}
}
