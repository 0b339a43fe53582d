// pack writes a folder, or a tar that is one already, into a .tar.zst whose bytes depend on the content alone.
package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: pack FOLDER|FILE.tar FILE.tar.zst")
		os.Exit(2)
	}
	if err := pack(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

func pack(source, target string) error {
	info, err := os.Stat(source)
	if err != nil {
		return err
	}
	file, err := os.Create(target)
	if err != nil {
		return err
	}
	encoder, err := zstd.NewWriter(file, zstd.WithEncoderLevel(zstd.SpeedBetterCompression))
	if err != nil {
		return err
	}
	if info.IsDir() {
		err = addAll(encoder, source)
	} else {
		err = copyFile(encoder, source)
	}
	return errors.Join(err, encoder.Close(), file.Close())
}

func addAll(to io.Writer, folder string) error {
	writer := tar.NewWriter(to)
	// WalkDir goes in the order of names.
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == folder {
			return err
		}
		return add(writer, folder, path, entry)
	})
	return errors.Join(err, writer.Close())
}

func copyFile(to io.Writer, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, file)
	return errors.Join(err, file.Close())
}

func add(writer *tar.Writer, folder, path string, entry fs.DirEntry) error {
	name, err := filepath.Rel(folder, path)
	if err != nil {
		return err
	}
	info, err := entry.Info()
	if err != nil {
		return err
	}
	link := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if link, err = os.Readlink(path); err != nil {
			return err
		}
	}
	full, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	// Of the owner, times and the umask nothing is taken over.
	mode := int64(0o644)
	if entry.IsDir() || info.Mode()&0o100 != 0 {
		mode = 0o755
	}
	header := &tar.Header{
		Typeflag: full.Typeflag, Name: name, Linkname: link, Size: full.Size, Mode: mode, Format: tar.FormatPAX,
	}
	if err := writer.WriteHeader(header); err != nil || !info.Mode().IsRegular() {
		return err
	}
	return copyFile(writer, path)
}
