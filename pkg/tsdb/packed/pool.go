package packed

import (
	"sync"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// pool is the TSDB's pool of chunks that knows packed ones, too.
type pool struct {
	chunkenc.Pool
	packed sync.Pool
}

// NewPool returns a pool for reading blocks, safe for use by several goroutines.
func NewPool() chunkenc.Pool {
	return &pool{Pool: chunkenc.NewPool(), packed: sync.Pool{New: func() any { return new(Chunk) }}}
}

// Get implements chunkenc.Pool.
func (p *pool) Get(e chunkenc.Encoding, b []byte) (chunkenc.Chunk, error) {
	if e != Encoding {
		return p.Pool.Get(e, b)
	}
	c := p.packed.Get().(*Chunk)
	c.Reset(b)
	return c, nil
}

// Put implements chunkenc.Pool.
func (p *pool) Put(c chunkenc.Chunk) error {
	if own, ok := c.(*Chunk); ok {
		own.Reset(nil)
		p.packed.Put(own)
		return nil
	}
	return p.Pool.Put(c)
}
