// Package manifests says which files of server/manifests count, and under which names.
package manifests

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Files are the manifests in a folder, also in its sub folders and in linked folders at its top. Names with a dot in front
// are left out, and those with a .skip file beside them.
func Files(folder string) ([]string, error) {
	found := search{skip: map[string]bool{}}
	if err := filepath.WalkDir(folder, found.visit); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		path := filepath.Join(folder, entry.Name())
		info, err := os.Stat(path)
		if err != nil || !info.IsDir() || entry.Type()&fs.ModeSymlink == 0 || strings.HasPrefix(entry.Name(), ".") {
			continue
		}
		// The separator at the end leads through the link.
		if err := filepath.WalkDir(path+string(filepath.Separator), found.visit); err != nil {
			return nil, err
		}
	}
	files := slices.DeleteFunc(found.files, func(path string) bool { return found.skipped(folder, path) })
	slices.Sort(files)
	return files, nil
}

type search struct {
	files []string
	skip  map[string]bool
}

func (s *search) visit(path string, entry fs.DirEntry, err error) error {
	if err != nil {
		return err
	}
	name := entry.Name()
	switch {
	case entry.IsDir():
		// The folder that the search begins with may be called anything.
		if strings.HasPrefix(name, ".") && len(name) > 1 {
			return filepath.SkipDir
		}
	case strings.HasPrefix(name, "."):
	case strings.HasSuffix(name, ".skip"):
		s.skip[filepath.Clean(strings.TrimSuffix(path, ".skip"))] = true
	case slices.Contains([]string{".yaml", ".yml", ".json"}, strings.ToLower(filepath.Ext(name))):
		s.files = append(s.files, filepath.Clean(path))
	}
	return nil
}

// skipped also holds for what lies in a skipped folder.
func (s *search) skipped(folder, path string) bool {
	for ; len(path) > len(folder); path = filepath.Dir(path) {
		if s.skip[path] {
			return true
		}
	}
	return false
}

// Addon is the name that a file's objects are kept under: its own up to the first dot, without its folder. Files of one
// name in two folders share it.
func Addon(path string) string {
	name, _, _ := strings.Cut(filepath.Base(path), ".")
	return name
}

// Disabled holds for files and for folders of a disabled name, whoever put them there.
func Disabled(folder, path string, names map[string]bool) bool {
	relative, err := filepath.Rel(folder, path)
	if err != nil {
		return false
	}
	first, _, _ := strings.Cut(relative, string(filepath.Separator))
	return names[Addon(path)] || names[first] || names[filepath.Base(path)]
}
