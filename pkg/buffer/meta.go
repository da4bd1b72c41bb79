package buffer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// The meta file and its copy hold a few small values. They are rewritten whole: one
// block of data each, where a bbolt commit would be four.
//
//	"LBMETA" | version u16 | length u32 | crc32c u32 over what follows |
//	( klen u16 | vlen u32 | key | value )...      little endian, keys sorted
const (
	metaMagic   = "LBMETA"
	metaName    = "meta"
	metaCopy    = "meta.copy"
	metaHeader  = 16
	metaMaxSize = 64 << 10
)

type metaStore struct {
	dir    string
	rename func(from, to string) error
	vals   map[string][]byte
	lost   bool // neither file could be read
}

func decodeMeta(b []byte) (map[string][]byte, error) {
	if len(b) < metaHeader || string(b[:6]) != metaMagic {
		return nil, corruptf("not a meta file")
	}
	le := binary.LittleEndian
	if v := le.Uint16(b[6:]); v > formatVersion {
		return nil, fmt.Errorf("%w (format %d, this one knows up to %d)", ErrVersion, v, formatVersion)
	} else if v == 0 {
		return nil, corruptf("format version 0")
	}
	body := b[metaHeader:]
	if uint64(le.Uint32(b[8:])) != uint64(len(body)) || le.Uint32(b[12:]) != crc32.Checksum(body, castagnoli) {
		return nil, corruptf("wrong length or checksum")
	}
	vals := map[string][]byte{}
	for len(body) > 0 {
		if len(body) < 6 {
			return nil, corruptf("a cut entry")
		}
		k, v := uint64(le.Uint16(body)), uint64(le.Uint32(body[2:]))
		body = body[6:]
		if k+v > uint64(len(body)) {
			return nil, corruptf("a cut entry")
		}
		vals[string(body[:k])] = slices.Clone(body[k : k+v])
		body = body[k+v:]
	}
	return vals, nil
}

func encodeMeta(vals map[string][]byte) []byte {
	le := binary.LittleEndian
	b := make([]byte, metaHeader)
	copy(b, metaMagic)
	le.PutUint16(b[6:], formatVersion)
	for _, k := range slices.Sorted(maps.Keys(vals)) {
		b = le.AppendUint16(b, uint16(len(k)))
		b = le.AppendUint32(b, uint32(len(vals[k])))
		b = append(append(b, k...), vals[k]...)
	}
	le.PutUint32(b[8:], uint32(len(b)-metaHeader))
	le.PutUint32(b[12:], crc32.Checksum(b[metaHeader:], castagnoli))
	return b
}

// openMeta reads the meta file, or its copy when it is corrupt or not there; a
// corrupt one is set aside and said so. What the values say (who the agent is, what
// the times of a boot were) cannot be made up anew without harm, so there are two.
func openMeta(dir string, rename func(from, to string) error) (m *metaStore, aside string, err error) {
	m = &metaStore{dir: dir, rename: rename, vals: map[string][]byte{}}
	found := false
	names := []string{metaName, metaCopy}
	for i, name := range names {
		path := filepath.Join(dir, name)
		vals, err := readMeta(path)
		if errors.Is(err, ErrVersion) {
			// Both are written by the same program: if the other is of ours, this one
			// is damaged where its version stands.
			if other, oerr := readMeta(filepath.Join(dir, names[1-i])); oerr == nil && other != nil {
				err = corruptf("the version is not that of its copy")
			}
		}
		switch {
		case err == nil && vals != nil:
			if !found {
				m.vals, found = vals, true
			}
		case err == nil:
		case errors.Is(err, errCorrupt):
			aside = asideName(path)
			if rerr := rename(path, aside); rerr != nil {
				return nil, "", fmt.Errorf("%s: %w; and it cannot be set aside: %w", path, err, rerr)
			}
		default:
			return nil, "", fmt.Errorf("%s: %w", path, err)
		}
	}
	m.lost = aside != "" && !found
	return m, aside, nil
}

// readMeta reads one of the two files; nil without an error when there is none.
func readMeta(path string) (map[string][]byte, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return decodeMeta(b)
}

// set writes both files anew; memory follows only once they are durable.
func (m *metaStore) set(key string, val []byte) error {
	next := maps.Clone(m.vals)
	if val == nil {
		delete(next, key)
	} else {
		next[key] = slices.Clone(val)
	}
	b := encodeMeta(next)
	if len(key) > 255 || len(b) > metaMaxSize {
		return fmt.Errorf("meta value %q: %w", key, ErrTooLarge)
	}
	names := []string{metaCopy, metaName}
	for _, name := range names {
		path := filepath.Join(m.dir, name)
		if err := writeFileSync(path+tmpSuffix, b); err != nil {
			for _, name := range names {
				_ = os.Remove(filepath.Join(m.dir, name+tmpSuffix))
			}
			return fmt.Errorf("meta file: %w", err)
		}
	}
	for _, name := range names {
		path := filepath.Join(m.dir, name)
		if err := m.rename(path+tmpSuffix, path); err != nil {
			return fmt.Errorf("meta file: %w", err)
		}
	}
	if err := syncDir(m.dir); err != nil {
		return fmt.Errorf("meta file: %w", err)
	}
	m.vals = next
	return nil
}

func writeFileSync(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
