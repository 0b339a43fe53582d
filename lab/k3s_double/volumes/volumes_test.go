package volumes

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBase(t *testing.T) {
	config := `{"nodePathMap":[{"node":"edge1","paths":["/fast"]},{"node":"edge2","paths":[]},
		{"node":"DEFAULT_PATH_FOR_NON_LISTED_NODES","paths":["/storage"]}]}`
	for node, want := range map[string]string{"edge1": "/fast", "edge3": "/storage"} {
		if got, err := Base(config, node); err != nil || got != want {
			t.Errorf("%s: got %s, %v", node, got, err)
		}
	}
	for text, want := range map[string]string{
		config: "no local path available on node edge2", "{}": "no local path available", "{": "config.json of ConfigMap",
	} {
		if _, err := Base(text, "edge2"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestMakeAndRemove(t *testing.T) {
	base := filepath.Join(t.TempDir(), "storage")
	folder, err := Make(base, "pvc-1", "exams", "data")
	if err != nil || folder != filepath.Join(base, "pvc-1_exams_data") {
		t.Fatalf("got %s, %v", folder, err)
	}
	for path, want := range map[string]os.FileMode{base: 0o700, folder: 0o777} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: got %v, %v", path, info, err)
		}
	}
	if err := os.WriteFile(filepath.Join(folder, "answers"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if again, err := Make(base, "pvc-1", "exams", "data"); err != nil || again != folder {
		t.Errorf("made again: %s, %v", again, err)
	}
	if _, err := os.Stat(filepath.Join(folder, "answers")); err != nil {
		t.Errorf("what is in it stays: %v", err)
	}
	for _, wrong := range []string{"/", base, "pvc-1_x", filepath.Join(base, "pvc-2_exams_data")} {
		if err := Remove(wrong, "pvc-1"); err == nil || !strings.Contains(err.Error(), "is no folder of this provisioner") {
			t.Errorf("%s: got %v", wrong, err)
		}
	}
	if err := Remove(folder, "pvc-1"); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(base); err != nil || len(entries) > 0 {
		t.Errorf("got %v, %v", entries, err)
	}
}
