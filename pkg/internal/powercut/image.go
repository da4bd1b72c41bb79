package powercut

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// sector is what disks write whole or not at all.
const sector = 512

// wholeSectors is the part of the first n bytes of a write that ends with a sector.
func wholeSectors(o *op, n int) int {
	if n == len(o.data) {
		return n
	}
	return max(0, n-int((o.off+int64(n))%sector))
}

// Image writes into the empty folder dir what a power cut after the first cut
// operations may leave, by the luck of rng.
func (r *Recorder) Image(rng *rand.Rand, cut int, dir string) error {
	r.mu.Lock()
	ops := r.ops[:min(cut, len(r.ops))]
	r.mu.Unlock()
	names, folders := tree(ops[:namesUpTo(rng, ops)])
	for _, f := range folders {
		if err := os.MkdirAll(filepath.Join(dir, f), 0o755); err != nil {
			return fmt.Errorf("powercut: %w", err)
		}
	}
	paths := make([]string, 0, len(names))
	for p := range names {
		paths = append(paths, p)
	}
	slices.Sort(paths) // the luck must not depend on the map's order
	for _, p := range paths {
		if p == ackName {
			continue
		}
		if err := writeSparse(filepath.Join(dir, p), content(rng, ops, names[p])); err != nil {
			return fmt.Errorf("powercut: %w", err)
		}
	}
	return nil
}

// writeSparse leaves out the zeros at the end: files that are made large beforehand are
// nothing else, hundreds of megabytes of them.
func writeSparse(path string, b []byte) error {
	if err := os.WriteFile(path, bytes.TrimRight(b, "\x00"), 0o600); err != nil {
		return err
	}
	return os.Truncate(path, int64(len(b)))
}

// namesUpTo is how many operations on names survive. They survive in order. All
// before the last one that an fsync of its folder covers do; others by luck.
func namesUpTo(rng *rand.Rand, ops []op) int {
	sure := 0
	last := map[string]int{} // by folder: after its last operation
	for i := range ops {
		switch o := &ops[i]; o.kind {
		case opCreate, opMkdir, opRemove:
			last[filepath.Dir(o.path)] = i + 1
		case opRename:
			last[filepath.Dir(o.to)] = i + 1
		case opSyncDir:
			sure = max(sure, last[filepath.Clean(o.path)])
		}
	}
	switch rng.IntN(3) {
	case 0:
		return sure
	case 1:
		return len(ops)
	}
	return sure + rng.IntN(len(ops)-sure+1)
}

// tree applies the operations on names.
func tree(ops []op) (files map[string]int, folders []string) {
	files = map[string]int{}
	dirs := map[string]bool{}
	for i := range ops {
		switch o := &ops[i]; o.kind {
		case opCreate:
			files[o.path] = o.file
		case opMkdir:
			dirs[o.path] = true
		case opRemove:
			delete(files, o.path)
			delete(dirs, o.path)
		case opRename:
			if f, ok := files[o.path]; ok {
				delete(files, o.path)
				files[o.to] = f
			}
			move(files, o.path, o.to)
			if dirs[o.path] {
				delete(dirs, o.path)
				dirs[o.to] = true
			}
			move(dirs, o.path, o.to)
		}
	}
	for d := range dirs {
		folders = append(folders, d)
	}
	return files, folders
}

// move renames what lies below a folder.
func move[V any](m map[string]V, from, to string) {
	for p, v := range m {
		if rest, ok := strings.CutPrefix(p, from+"/"); ok {
			delete(m, p)
			m[to+"/"+rest] = v
		}
	}
}

// content is what a file holds after the cut: all that its last fsync covered, and
// of the rest what luck wants.
func content(rng *rand.Rand, ops []op, file int) (b []byte) {
	sure := 0
	var mine []int
	for i := range ops {
		if o := &ops[i]; o.file == file && o.kind <= opSync {
			mine = append(mine, i)
			if o.kind == opSync {
				sure = i
			}
		}
	}
	mode := rng.IntN(4)
	stop := sure + rng.IntN(len(ops)-sure+1)
	for _, i := range mine {
		o := &ops[i]
		whole := i <= sure
		switch {
		case whole:
		case mode == 0: // nothing that was not fsynced
			return b
		case mode == 1: // all of it
			whole = true
		case mode == 2 && i < stop: // in order, up to a torn end
			whole = true
		case mode == 2:
			if o.kind == opWrite {
				b = apply(b, o, wholeSectors(o, rng.IntN(len(o.data)+1)), nil)
			}
			return b
		case o.kind == opTruncate: // in any order
			whole = rng.IntN(2) == 0
		}
		switch {
		case whole:
			b = apply(b, o, len(o.data), nil)
		case o.kind == opWrite:
			b = apply(b, o, len(o.data), rng)
		}
	}
	return b
}

// apply does a data operation; with luck, each sector of a write by itself.
func apply(b []byte, o *op, n int, luck *rand.Rand) []byte {
	switch o.kind {
	case opTruncate:
		return resize(b, o.off)
	case opWrite:
	default:
		return b
	}
	for at := 0; at < n; {
		end := min(n, at+sector-int((o.off+int64(at))%sector))
		if luck == nil || luck.IntN(2) == 0 {
			if to := o.off + int64(end); to > int64(len(b)) {
				b = resize(b, to)
			}
			copy(b[o.off+int64(at):], o.data[at:end])
		}
		at = end
	}
	return b
}

func resize(b []byte, size int64) []byte {
	if size <= int64(len(b)) {
		return b[:size:size]
	}
	return append(b, make([]byte, size-int64(len(b)))...)
}
