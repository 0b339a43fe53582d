// Package unpack puts the programs that the k3s file carries into its data directory, as K3s does.
package unpack

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// Ensure has <dataDir>/data/<hash> there and returns it. The link `current` moves, and `previous` keeps where it pointed,
// only when a version is unpacked for the first time: going back to one that is unpacked already leaves `current` at the
// newer one.
func Ensure(dataDir, hash string, payload io.Reader) (string, error) {
	data := filepath.Join(dataDir, "data")
	dir := filepath.Join(data, hash)
	if exists(dir) {
		return dir, nil
	}
	if err := os.MkdirAll(data, 0o755); err != nil {
		return "", err
	}
	unlock, err := lock(filepath.Join(data, ".lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	if exists(dir) { // another process was faster
		return dir, nil
	}
	temporary := dir + "-tmp"
	if err := os.RemoveAll(temporary); err != nil {
		return "", err
	}
	if err := extract(payload, temporary); err != nil {
		return "", errors.Join(fmt.Errorf("unpacking into %s: %w", temporary, err), os.RemoveAll(temporary))
	}
	if err := rotate(data, dir); err != nil {
		return "", err
	}
	return dir, os.Rename(temporary, dir)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func lock(path string) (func(), error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return func() { file.Close() }, nil
}

func rotate(data, dir string) error {
	current, previous := filepath.Join(data, "current"), filepath.Join(data, "previous")
	if old, err := os.Readlink(current); err == nil {
		if err := replaceLink(old, previous); err != nil {
			return err
		}
	}
	return replaceLink(dir, current)
}

func replaceLink(target, link string) error {
	temporary := link + ".new"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Symlink(target, temporary); err != nil {
		return err
	}
	return os.Rename(temporary, link)
}

func extract(payload io.Reader, dir string) error {
	decoder, err := zstd.NewReader(payload)
	if err != nil {
		return err
	}
	defer decoder.Close()
	reader := tar.NewReader(decoder)
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := extractOne(reader, header, dir); err != nil {
			return err
		}
	}
}

func extractOne(reader io.Reader, header *tar.Header, dir string) error {
	path := filepath.Join(dir, header.Name)
	if !strings.HasPrefix(path, filepath.Clean(dir)+string(os.PathSeparator)) {
		return fmt.Errorf("%q leaves the folder", header.Name)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	switch header.Typeflag {
	case tar.TypeDir:
		return os.MkdirAll(path, 0o755)
	case tar.TypeSymlink:
		return os.Symlink(header.Linkname, path)
	case tar.TypeReg:
		return writeFile(path, reader, header.FileInfo().Mode().Perm())
	}
	return fmt.Errorf("%q has an unexpected type", header.Name)
}

func writeFile(path string, content io.Reader, mode os.FileMode) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	if _, err := io.Copy(file, content); err != nil {
		return errors.Join(err, file.Close())
	}
	// On disk before the folder gets its final name: a power cut must not leave an empty program behind.
	return errors.Join(file.Sync(), file.Close())
}
