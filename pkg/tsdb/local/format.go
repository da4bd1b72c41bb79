package local

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/langbiang/langbiang/pkg/tsdb"
)

// FormatVersion is that of the whole folder: of blocks, logs, chunks and long history
// together. Whoever writes something into it that an older program cannot read, or
// would take for damage, counts on; and says here what each version has brought.
//
//	1  the first; also a folder without the file, as the first programs left it
const FormatVersion = 1

// The file "format" is one line: the word, the version, and the checksum (crc32c, in
// hex) of both with the space between them. So a newer version is told from a damaged
// one.
const (
	formatName = "format"
	formatWord = "langbiang-store"
)

func formatLine(version int) string {
	s := fmt.Sprintf("%s %d", formatWord, version)
	return fmt.Sprintf("%s %08x\n", s, crc32.Checksum([]byte(s), crc32.MakeTable(crc32.Castagnoli)))
}

// checkFormat reads the version of a folder: 0 when it does not say, or cannot be
// read any more. A newer one is [tsdb.ErrVersion].
func checkFormat(dir string) (version int, err error) {
	path := filepath.Join(dir, formatName)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read format: %w", err)
	}
	if n, _ := fmt.Sscanf(strings.TrimPrefix(string(b), formatWord), "%d", &version); n != 1 || string(b) != formatLine(version) {
		return 0, nil // it is written anew
	}
	if version > FormatVersion {
		return version, fmt.Errorf("%s: %w (format %d, this one knows up to %d)", formatName, tsdb.ErrVersion, version, FormatVersion)
	}
	return version, nil
}

// putFormat writes the version of this program, before anything of its format is
// written.
func putFormat(dir string) error {
	path := filepath.Join(dir, formatName)
	err := os.WriteFile(path+".new", []byte(formatLine(FormatVersion)), 0o644)
	if err == nil {
		err = syncPath(path+".new", fsyncFile)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err == nil {
		err = syncPath(dir, fsyncFile)
	}
	if err != nil {
		return fmt.Errorf("write format: %w", err)
	}
	return nil
}
