package promapi

import (
	"io"
	"net/http"
	"runtime"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
)

const (
	// piece is how many bytes of an answer are held before they go out.
	piece = 32 << 10
	// smallest is what is worth compressing.
	smallest = 2048
	// slowestClient is how many bytes a second a client must take once its time for the
	// beginning is over: an answer on its way keeps a query's place, and its samples.
	slowestClient = 256 << 10
)

// output writes an answer in pieces: what a query may find is hundreds of megabytes of
// JSON, which nobody has to hold at once. Append to b, and call more now and then.
type output struct {
	b    []byte
	code int
	err  error // of the client: it has gone, or is too slow

	w     http.ResponseWriter
	zip   bool // the client takes gzip
	z     *gzip.Writer
	began time.Time
	grace time.Duration // what a client has for the beginning
	sent  int64         // bytes of JSON
	// slowest is how many of them a second a client must take.
	slowest int64
	open    bool // the header is out
}

func (a *API) newOutput(w http.ResponseWriter, r *http.Request, code int) *output {
	return &output{w: w, code: code, zip: strings.Contains(r.Header.Get("Accept-Encoding"), "gzip"), began: time.Now(), grace: a.options.Patience, slowest: a.options.slowest}
}

// more sends a piece when there is one. It reports false when nobody reads any more.
func (o *output) more() bool {
	if len(o.b) >= piece {
		o.flush()
	}
	return o.err == nil
}

// list writes a list of n items.
func (o *output) list(n int, item func(i int)) {
	o.b = append(o.b, '[')
	for i := 0; i < n && o.more(); i++ {
		if i > 0 {
			o.b = append(o.b, ',')
		}
		item(i)
	}
	o.b = append(o.b, ']')
}

func (o *output) strings(list []string) {
	o.list(len(list), func(i int) { o.b = appendString(o.b, list[i]) })
}

// success writes all of an answer but the end of its last piece.
func (o *output) success(got answer) {
	o.b = append(o.b, `{"status":"success","data":`...)
	got.data(o)
	if len(got.warnings) > 0 {
		o.b = append(o.b, `,"warnings":`...)
		o.strings(got.warnings)
	}
	if len(got.infos) > 0 {
		o.b = append(o.b, `,"infos":`...)
		o.strings(got.infos)
	}
	o.b = append(o.b, '}')
}

// flush sends what there is. Between two pieces whoever else has something to do has
// its turn.
func (o *output) flush() {
	if o.err != nil {
		o.b = o.b[:0]
		return
	}
	if !o.open {
		o.header(len(o.b) >= smallest)
	}
	o.sent += int64(len(o.b))
	until := o.began.Add(o.grace + time.Duration(o.sent/o.slowest)*time.Second)
	_ = http.NewResponseController(o.w).SetWriteDeadline(until) // not every writer can
	to := io.Writer(o.w)
	if o.z != nil {
		to = o.z
	}
	_, o.err = to.Write(o.b)
	o.b = o.b[:0]
	runtime.Gosched()
}

func (o *output) header(large bool) {
	o.open = true
	h := o.w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Vary", "Accept-Encoding")
	if o.zip && large {
		h.Set("Content-Encoding", "gzip")
		o.z, _ = gzip.NewWriterLevel(o.w, gzip.BestSpeed) // the level is one
	}
	o.w.WriteHeader(o.code)
}

// close sends the rest. An answer that its client did not take ends without its last
// chunk, as one that is not whole.
func (o *output) close() {
	o.flush()
	if o.z != nil {
		if err := o.z.Close(); o.err == nil {
			o.err = err
		}
	}
	if o.err != nil {
		panic(http.ErrAbortHandler)
	}
}
