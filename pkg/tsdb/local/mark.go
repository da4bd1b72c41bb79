package local

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

// mark is the content of the file "synced": how far both logs were durable when
// it was written. It is written after every Sync without an fsync of its own, so
// it may be old, and never says too much: what lies before it and cannot be read
// is damage, what lies behind it may be a torn tail.
//
//	0        4        5       6        8        16       24       32       40     44
//	+--------+--------+-------+--------+--------+--------+--------+--------+------+
//	| "LBSM" | 1      | clean | zero   | wal    | offset | wbl    | offset | crc  |
//	|        | version| 0, 1  |        | segment|        | segment|        | 32c  |
//	+--------+--------+-------+--------+--------+--------+--------+--------+------+
//
// Numbers are little-endian; the checksum covers what stands before it.
type mark struct {
	WAL, WBL position
	Clean    bool // the store was closed, and both logs end here
}

const (
	markName    = "synced"
	markSize    = 44
	markVersion = 1
)

var errNoMark = errors.New("no mark")

func (m mark) encode() []byte {
	b := make([]byte, 8, markSize)
	copy(b, "LBSM")
	b[4] = markVersion
	if m.Clean {
		b[5] = 1
	}
	for _, p := range []position{m.WAL, m.WBL} {
		b = binary.LittleEndian.AppendUint64(b, uint64(p.Segment))
		b = binary.LittleEndian.AppendUint64(b, uint64(p.Offset))
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

func decodeMark(b []byte) (mark, error) {
	if len(b) != markSize || string(b[:4]) != "LBSM" || b[4] != markVersion {
		return mark{}, errNoMark
	}
	if crc32.Checksum(b[:40], crc32.MakeTable(crc32.Castagnoli)) != binary.LittleEndian.Uint32(b[40:]) {
		return mark{}, errNoMark
	}
	at := func(i int) position {
		return position{int(int64(binary.LittleEndian.Uint64(b[i:]))), int64(binary.LittleEndian.Uint64(b[i+8:]))}
	}
	return mark{WAL: at(8), WBL: at(24), Clean: b[5] == 1}, nil
}

// markFile is the open file. Not for concurrent use.
type markFile struct{ f *os.File }

// openMark returns the file and what stands in it. A mark that is absent or
// unreadable is zero and says nothing.
func openMark(path string) (*markFile, mark, error) {
	none := mark{WAL: position{Segment: -1}, WBL: position{Segment: -1}}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, none, fmt.Errorf("open mark: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(f, markSize+1))
	if err != nil {
		return nil, none, errors.Join(fmt.Errorf("read mark: %w", err), f.Close())
	}
	m, err := decodeMark(b)
	if err != nil {
		m = none
	}
	return &markFile{f}, m, nil
}

// write replaces the mark.
func (m *markFile) write(v mark) error {
	if _, err := m.f.WriteAt(v.encode(), 0); err != nil {
		return fmt.Errorf("write mark: %w", err)
	}
	return nil
}

// writeDurably replaces the mark and fsyncs it.
func (m *markFile) writeDurably(v mark) error {
	if err := m.write(v); err != nil {
		return err
	}
	if err := m.f.Sync(); err != nil {
		return fmt.Errorf("fsync mark: %w", err)
	}
	return nil
}
