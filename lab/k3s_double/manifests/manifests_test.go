package manifests

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func folder(t *testing.T, names ...string) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "manifests")
	for _, name := range names {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func files(t *testing.T, root string) []string {
	t.Helper()
	found, err := Files(root)
	if err != nil {
		t.Fatal(err)
	}
	for i := range found {
		found[i] = strings.TrimPrefix(found[i], root+"/")
	}
	return found
}

func TestFiles(t *testing.T) {
	for name, test := range map[string]struct{ names, want []string }{
		"kinds":          {[]string{"b.yml", "a.yaml", "c.JSON", "d.txt", "e"}, []string{"a.yaml", "b.yml", "c.JSON"}},
		"sub folders":    {[]string{"x/y/a.yaml"}, []string{"x/y/a.yaml"}},
		"dot names":      {[]string{".a.yaml", ".x/a.yaml", "b.yaml"}, []string{"b.yaml"}},
		"skip":           {[]string{"a.yaml", "a.yaml.skip", "b.yaml"}, []string{"b.yaml"}},
		"skip a folder":  {[]string{"x/a.yaml", "x.skip", "y/a.yaml"}, []string{"y/a.yaml"}},
		"skip of no one": {[]string{"a.yaml", "z.yaml.skip"}, []string{"a.yaml"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := files(t, folder(t, test.names...)); !slices.Equal(got, test.want) {
				t.Fatalf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestLinkedFolderAtTheTop(t *testing.T) {
	root, other := folder(t, "a.yaml"), folder(t, "b.yaml")
	if err := os.Symlink(other, filepath.Join(root, "linked")); err != nil {
		t.Fatal(err)
	}
	if got := files(t, root); !slices.Equal(got, []string{"a.yaml", "linked/b.yaml"}) {
		t.Errorf("got %q", got)
	}
}

func TestDotInTheDataDirectory(t *testing.T) {
	root := filepath.Join(t.TempDir(), ".rancher", "manifests")
	if err := os.MkdirAll(root, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "a.yaml"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := files(t, root); !slices.Equal(got, []string{"a.yaml"}) {
		t.Errorf("got %q", got)
	}
}

func TestAddon(t *testing.T) {
	for path, want := range map[string]string{"/m/coredns.yaml": "coredns", "/m/x/a.b.yaml": "a", "a.json": "a"} {
		if got := Addon(path); got != want {
			t.Errorf("%s: got %s", path, got)
		}
	}
}

func TestDisabled(t *testing.T) {
	names := map[string]bool{"coredns": true, "metrics-server": true, "mine.yaml": true}
	for path, want := range map[string]bool{
		"/m/coredns.yaml": true, "/m/metrics-server/x.yaml": true, "/m/mine.yaml": true, "/m/other/coredns.yaml": true,
		"/m/ccm.yaml": false, "/m/x/metrics-server/y.yaml": false,
	} {
		if got := Disabled("/m", path, names); got != want {
			t.Errorf("%s: got %v", path, got)
		}
	}
}
