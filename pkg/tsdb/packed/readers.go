package packed

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/storage"
	promtsdb "github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
)

// hint is among the hints of a block's compaction when it has packed chunks: prefix
// and the version of the format. The TSDB keeps hints that it does not know, and
// does not hand them on to the block of the next compaction.
const (
	hintPrefix = "langbiang-packed-"
	hint       = hintPrefix + "1"
)

// Packed reports whether a block may have packed chunks.
func Packed(m promtsdb.BlockMeta) bool { return slices.Contains(m.Compaction.Hints, hint) }

// Check returns an error when a block has packed chunks of a format that is not known
// here.
func Check(m promtsdb.BlockMeta) error {
	for _, h := range m.Compaction.Hints {
		if strings.HasPrefix(h, hintPrefix) && h != hint {
			return fmt.Errorf("block %s was written by a newer version of this program (its meta.json says %q, known is %q): install that version again, or let it write plain blocks with store.chunks: plain first", m.ULID, h, hint)
		}
	}
	return nil
}

// Readers opens the chunk files of packed blocks, each block's once, whoever reads. It
// is safe for use by several goroutines.
type Readers struct {
	pool chunkenc.Pool

	mu   sync.Mutex
	open map[ulid.ULID]*openChunks
	gone map[ulid.ULID]bool // of open: to be closed when nobody reads
}

type openChunks struct {
	*chunks.Reader
	users int
}

// NewReaders returns one without open files.
func NewReaders() *Readers {
	return &Readers{pool: NewPool(), open: make(map[ulid.ULID]*openChunks), gone: make(map[ulid.ULID]bool)}
}

// Querier is the TSDB's BlockQuerierFunc.
func (r *Readers) Querier(b promtsdb.BlockReader, from, to int64) (storage.Querier, error) {
	return promtsdb.NewBlockQuerier(r.View(b), from, to)
}

// View returns b as it is read: itself, or the same with a reader of packed chunks.
func (r *Readers) View(b promtsdb.BlockReader) promtsdb.BlockReader {
	if block, ok := b.(*promtsdb.Block); ok && Packed(block.Meta()) {
		return view{Block: block, readers: r}
	}
	return b
}

// Keep closes what is open of other blocks than these, or of these less gone: at once,
// or when those who read have ended.
func (r *Readers) Keep(blocks []*promtsdb.Block, gone map[ulid.ULID]struct{}) error {
	stay := make(map[ulid.ULID]bool, len(blocks))
	for _, b := range blocks {
		stay[b.Meta().ULID] = true
	}
	for id := range gone {
		delete(stay, id)
	}
	for _, b := range blocks {
		for _, p := range b.Meta().Compaction.Parents {
			delete(stay, p.ULID)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for id, c := range r.open {
		r.gone[id] = !stay[id]
		errs = append(errs, r.closeIfUnused(id, c))
	}
	return errors.Join(errs...)
}

// Close closes all files. Nobody may read any more.
func (r *Readers) Close() error { return r.Keep(nil, nil) }

func (r *Readers) closeIfUnused(id ulid.ULID, c *openChunks) error {
	if c.users > 0 || !r.gone[id] {
		return nil
	}
	delete(r.open, id)
	delete(r.gone, id)
	return c.Close()
}

func (r *Readers) acquire(id ulid.ULID, dir string) (*openChunks, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.open[id]
	if c == nil {
		files, err := chunks.NewDirReader(dir, r.pool)
		if err != nil {
			return nil, fmt.Errorf("open chunks of block %s: %w", id, err)
		}
		c = &openChunks{Reader: files}
		r.open[id] = c
	}
	c.users++
	return c, nil
}

func (r *Readers) release(id ulid.ULID, c *openChunks) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.users--
	return r.closeIfUnused(id, c)
}

// view is a packed block.
type view struct {
	*promtsdb.Block
	readers *Readers
	loose   bool // chunks are given as what can be iterated, so that the TSDB makes its own of them
}

// Chunks implements promtsdb.BlockReader.
func (v view) Chunks() (promtsdb.ChunkReader, error) {
	hold, err := v.Block.Chunks() // while it is open the block and its files stay
	if err != nil {
		return nil, err
	}
	id := v.Meta().ULID
	c, err := v.readers.acquire(id, filepath.Join(v.Dir(), "chunks"))
	if err != nil {
		return nil, errors.Join(err, hold.Close())
	}
	return &chunkReader{Reader: c.Reader, loose: v.loose, close: sync.OnceValue(func() error {
		return errors.Join(v.readers.release(id, c), hold.Close())
	})}, nil
}

type chunkReader struct {
	*chunks.Reader
	loose bool
	close func() error
}

// ChunkOrIterable implements promtsdb.ChunkReader.
func (r *chunkReader) ChunkOrIterable(m chunks.Meta) (chunkenc.Chunk, chunkenc.Iterable, error) {
	c, _, err := r.Reader.ChunkOrIterable(m)
	if own, ok := c.(*Chunk); ok && err == nil && r.loose {
		return nil, own, nil
	}
	return c, nil, err
}

// Close implements promtsdb.ChunkReader.
func (r *chunkReader) Close() error { return r.close() }
