package buffer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"io"
	"slices"
)

// bbolt checks its meta pages and nothing else, reads through a memory map,
// and follows page numbers without asking whether they lead in a circle. So a
// segment is walked here once, by plain reads, before bbolt gets to see it:
// every reachable page once, every length against its page, every frame's
// checksum. The layout (little endian; all our targets are):
//
//	page    id u64 | flags u16 | count u16 | overflow u32 | ...
//	meta    magic u32 | version u32 | page size u32 | flags u32 |
//	        root u64 | sequence u64 | freelist u64 | pages u64 | txid u64 | fnv64a u64
//	branch  count x ( pos u32 | ksize u32 | page u64 ), pos from the element's start
//	leaf    count x ( flags u32 | pos u32 | ksize u32 | vsize u32 )
//	bucket  a leaf's value: root u64 | sequence u64 | a whole page if root is 0
const (
	pageSize     = 1024 // fixed, so that a card moves between machines; see DESIGN.md
	pageHeader   = 16
	metaSize     = 64
	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagFreelist = 0x10
	boltMagic    = 0xED0CDAED
	maxDepth     = 24
	noFreelist   = ^uint64(0)
)

type boltMeta struct {
	root, freelist, pages, txid uint64
}

func parseMeta(p []byte) (boltMeta, bool) {
	m := p[pageHeader : pageHeader+metaSize]
	h := fnv.New64a()
	_, _ = h.Write(m[:56])
	le := binary.LittleEndian
	if le.Uint32(m) != boltMagic || le.Uint32(m[4:]) != 2 || le.Uint32(m[8:]) != pageSize || le.Uint64(m[56:]) != h.Sum64() {
		return boltMeta{}, false
	}
	return boltMeta{le.Uint64(m[16:]), le.Uint64(m[32:]), le.Uint64(m[40:]), le.Uint64(m[48:])}, true
}

// visitor gets every key and value below the root's buckets; bucket is the
// top bucket's name. Both slices are valid until it returns.
type visitor func(bucket, k, v []byte) error

type walker struct {
	r     io.ReaderAt
	size  int64
	pages uint64
	seen  []uint64 // bit set
	visit visitor
	buf   []byte
	only  []byte // walk only this bucket, nil for all
}

// walkFile walks a bbolt file and returns the bytes that it uses; errors are
// errCorrupt, what visit returned, or those of reading.
func walkFile(r io.ReaderAt, size int64, only []byte, visit visitor) (used int64, err error) {
	w := &walker{r: r, size: size, visit: visit, only: only}
	m, err := w.meta()
	if err != nil {
		return 0, err
	}
	used = int64(m.pages) * pageSize
	w.pages = m.pages
	w.seen = make([]uint64, m.pages/64+1)
	if err := w.tree(m.root, nil, 0); err != nil {
		return used, err
	}
	if only != nil {
		return used, nil
	}
	return used, w.freelist(m.freelist)
}

func (w *walker) meta() (boltMeta, error) {
	var best boltMeta
	var p [pageHeader + metaSize]byte
	for i := range int64(2) {
		if err := w.readAt(p[:], i*pageSize); err != nil {
			return best, err
		}
		// bbolt would make do with the older of the two, and silently drop
		// the last commit, which had been acknowledged. What can be had of
		// it is had by salvaging the file.
		m, ok := parseMeta(p[:])
		if !ok {
			return best, corruptf("meta page %d is invalid", i)
		}
		if m.txid >= best.txid {
			best = m
		}
	}
	if best.pages < 4 || best.pages > uint64(w.size)/pageSize {
		return best, corruptf("%d pages do not fit the file's %d bytes", best.pages, w.size)
	}
	return best, nil
}

func (w *walker) readAt(b []byte, off int64) error {
	_, err := w.r.ReadAt(b, off)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return corruptf("the file ends at %d bytes", w.size)
	}
	return err
}

// page reads a page with its overflow into w.buf and marks it as seen.
func (w *walker) page(id uint64) ([]byte, error) {
	if id < 2 || id >= w.pages {
		return nil, corruptf("page %d is out of range", id)
	}
	w.buf = slices.Grow(w.buf[:0], pageSize)[:pageSize]
	if err := w.readAt(w.buf, int64(id)*pageSize); err != nil {
		return nil, err
	}
	over := uint64(binary.LittleEndian.Uint32(w.buf[12:]))
	if binary.LittleEndian.Uint64(w.buf) != id || over >= w.pages-id {
		return nil, corruptf("page %d has a wrong header", id)
	}
	for i := id; i <= id+over; i++ {
		if w.seen[i/64]&(1<<(i%64)) != 0 {
			return nil, corruptf("page %d is used twice", i)
		}
		w.seen[i/64] |= 1 << (i % 64)
	}
	if over > 0 {
		w.buf = slices.Grow(w.buf, int(over)*pageSize)[:(int(over)+1)*pageSize]
		if err := w.readAt(w.buf[pageSize:], int64(id+1)*pageSize); err != nil {
			return nil, err
		}
	}
	return w.buf, nil
}

func (w *walker) tree(id uint64, bucket []byte, depth int) error {
	if depth > maxDepth {
		return corruptf("page %d lies too deep", id)
	}
	p, err := w.page(id)
	if err != nil {
		return err
	}
	switch binary.LittleEndian.Uint16(p[8:]) {
	case flagBranch:
		children, err := branchPage(p)
		if err != nil {
			return err
		}
		for _, c := range children {
			if err := w.tree(c, bucket, depth+1); err != nil {
				return err
			}
		}
		return nil
	case flagLeaf:
		if bucket != nil {
			return leafPage(p, func(flags uint32, k, v []byte) error {
				if flags != 0 {
					return corruptf("a bucket within %q", bucket)
				}
				return w.visit(bucket, k, v)
			})
		}
		return w.rootLeaf(p, depth)
	}
	return corruptf("page %d is no branch and no leaf", id)
}

// rootLeaf walks the buckets that the root holds.
func (w *walker) rootLeaf(p []byte, depth int) error {
	type sub struct {
		name, inline []byte
		root         uint64
	}
	var subs []sub
	err := leafPage(p, func(flags uint32, k, v []byte) error {
		if flags != 1 || len(v) < 16 || len(k) == 0 {
			return corruptf("the root holds something else than buckets")
		}
		if w.only != nil && !bytes.Equal(w.only, k) {
			return nil
		}
		s := sub{name: bytes.Clone(k), root: binary.LittleEndian.Uint64(v)}
		if s.root == 0 {
			s.inline = bytes.Clone(v[16:])
		}
		subs = append(subs, s)
		return nil
	})
	if err != nil {
		return err
	}
	for _, s := range subs {
		if s.root != 0 {
			err = w.tree(s.root, s.name, depth+1)
		} else {
			err = leafPage(s.inline, func(_ uint32, k, v []byte) error { return w.visit(s.name, k, v) })
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// freelist checks that no page is both free and in use: bbolt would overwrite it.
func (w *walker) freelist(id uint64) error {
	if id == noFreelist {
		return nil
	}
	p, err := w.page(id)
	if err != nil {
		return err
	}
	if binary.LittleEndian.Uint16(p[8:]) != flagFreelist {
		return corruptf("page %d is no freelist", id)
	}
	n, at := uint64(binary.LittleEndian.Uint16(p[10:])), pageHeader
	if n == 0xFFFF {
		n, at = binary.LittleEndian.Uint64(p[at:]), at+8
	}
	if n > uint64(len(p)-at)/8 {
		return corruptf("the freelist names %d pages", n)
	}
	for last := uint64(1); n > 0; n, at = n-1, at+8 {
		f := binary.LittleEndian.Uint64(p[at:])
		if f <= last || f >= w.pages || w.seen[f/64]&(1<<(f%64)) != 0 {
			return corruptf("page %d is free and in use", f)
		}
		last = f
	}
	return nil
}

func branchPage(p []byte) ([]uint64, error) {
	n := int(binary.LittleEndian.Uint16(p[10:]))
	if n == 0 || n > (len(p)-pageHeader)/16 {
		return nil, corruptf("a branch page with %d children", n)
	}
	out := make([]uint64, n)
	for i := range out {
		out[i] = binary.LittleEndian.Uint64(p[pageHeader+i*16+8:])
	}
	// Keys must be in place and in order, or a search would miss its frames.
	var last []byte
	for i := range n {
		at := pageHeader + i*16
		k, ok := within(p, uint64(at)+uint64(binary.LittleEndian.Uint32(p[at:])), uint64(binary.LittleEndian.Uint32(p[at+4:])))
		if !ok || i > 0 && bytes.Compare(last, k) >= 0 {
			return nil, corruptf("a branch page with its keys out of order")
		}
		last = k
	}
	return out, nil
}

func leafPage(p []byte, visit func(flags uint32, k, v []byte) error) error {
	if len(p) < pageHeader {
		return corruptf("a page of %d bytes", len(p))
	}
	n := int(binary.LittleEndian.Uint16(p[10:]))
	if n > (len(p)-pageHeader)/16 {
		return corruptf("a leaf page with %d values", n)
	}
	var last []byte
	for i := range n {
		at := pageHeader + i*16
		e := p[at:]
		start, ksize := uint64(at)+uint64(binary.LittleEndian.Uint32(e[4:])), uint64(binary.LittleEndian.Uint32(e[8:]))
		k, ok := within(p, start, ksize)
		v, ok2 := within(p, start+ksize, uint64(binary.LittleEndian.Uint32(e[12:])))
		if !ok || !ok2 || i > 0 && bytes.Compare(last, k) >= 0 {
			return corruptf("a leaf page with its keys out of order")
		}
		if err := visit(binary.LittleEndian.Uint32(e), k, v); err != nil {
			return err
		}
		last = k
	}
	return nil
}

func within(p []byte, start, n uint64) ([]byte, bool) {
	if start > uint64(len(p)) || n > uint64(len(p))-start {
		return nil, false
	}
	return p[start : start+n], true
}

// scanLeaves hands out whatever leaf values can be found in a damaged file,
// page by page, reachable or not, with the value's place in the file; visit
// decides what to believe.
func scanLeaves(r io.ReaderAt, size int64, visit func(off int64, k, v []byte)) {
	var head [pageHeader]byte
	var buf []byte
	for id := int64(2); (id+1)*pageSize <= size; id++ {
		if _, err := r.ReadAt(head[:], id*pageSize); err != nil {
			continue
		}
		if binary.LittleEndian.Uint64(head[:]) != uint64(id) || binary.LittleEndian.Uint16(head[8:]) != flagLeaf {
			continue
		}
		n := (int64(binary.LittleEndian.Uint32(head[12:])) + 1) * pageSize
		n = min(n, size-id*pageSize, 4*MaxFrame)
		buf = slices.Grow(buf[:0], int(n))[:n]
		if _, err := r.ReadAt(buf, id*pageSize); err != nil {
			continue
		}
		give := func(_ uint32, k, v []byte) error {
			// Both are slices of buf: the rest of its capacity tells where.
			visit(id*pageSize+int64(cap(buf)-cap(v)), k, v)
			return nil
		}
		_ = leafPage(buf, func(flags uint32, k, v []byte) error {
			if flags == 1 && len(v) > 16+pageHeader { // a bucket, perhaps inline
				_ = leafPage(v[16:], give)
				return nil
			}
			return give(flags, k, v)
		})
	}
}
