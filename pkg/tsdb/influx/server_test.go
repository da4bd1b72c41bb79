package influx

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/langbiang/langbiang/pkg/api/promapi"
	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/tsdb"
	"github.com/langbiang/langbiang/pkg/tsdb/local"
	"github.com/langbiang/langbiang/pkg/tsdb/tsdbtest"
)

// server speaks the write API as InfluxDB does, and the query API, over an embedded
// store.
type server struct {
	t     *testing.T
	url   string
	store *local.Store
	http  *httptest.Server

	mu       sync.Mutex
	answer   func(lines []string) int // a status instead of taking them; 0: take them
	requests int
	refuse   string // a measurement whose lines have a field of another type
}

func newServer(t *testing.T, dir string, now func() int64) *server {
	t.Helper()
	store, err := local.Open(dir, local.Options{OutOfOrder: 400 * tsdbtest.Window, Retention: 500 * tsdbtest.Window, MinFree: -1, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	queries, err := promapi.New(promapi.Options{Queryable: store.Queryable()})
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, store: store}
	mux := http.NewServeMux()
	mux.Handle("/api/v1/", queries)
	mux.HandleFunc("POST /api/v2/write", s.write)
	s.http = httptest.NewServer(mux)
	s.url = s.http.URL
	t.Cleanup(func() {
		s.http.Close()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *server) set(change func(s *server)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

func (s *server) write(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(body)
		if errors.Is(err, gzip.ErrHeader) {
			s.t.Error(err)
		}
		if err != nil {
			return // the client has gone
		}
		body = z
	}
	b, err := io.ReadAll(body)
	if err != nil {
		return // the client has gone
	}
	if r.URL.Query().Get("precision") != "ms" || r.URL.Query().Get("bucket") != "b" {
		s.t.Errorf("asked for %s", r.URL)
	}
	lines := strings.Split(string(b), "\n")
	if s.answer != nil {
		if status := s.answer(lines); status != 0 {
			w.WriteHeader(status)
			return
		}
	}
	bad := 0
	app := s.store.Appender()
	for _, line := range lines {
		if s.refuse != "" && strings.HasPrefix(line, s.refuse+",") {
			bad++
			continue
		}
		if strings.HasPrefix(line, "langbiang_store_probe ") {
			continue
		}
		lset, at, v, err := parseLine(line)
		if err == nil {
			_, err = app.Append(0, lset, at, v)
		}
		if err != nil {
			s.t.Errorf("%s: %v", line, err)
		}
	}
	if err := app.Commit(); err != nil {
		s.t.Error(err)
	}
	if bad > 0 { // the others are written all the same
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = fmt.Fprintf(w, `{"code":"invalid","message":"partial write: field type conflict: input field \"value\" on measurement %s is type float, already exists as type integer dropped=%d"}`, s.refuse, bad)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// parseLine reads what this package writes, and no more of line protocol.
func parseLine(line string) (lset telemetry.Labels, t int64, v float64, err error) {
	var words []string
	var word strings.Builder
	var seps []byte
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\' && i+1 < len(line) && strings.IndexByte(", =", line[i+1]) >= 0:
			i++
			word.WriteByte(line[i])
		case strings.IndexByte(", =", c) >= 0:
			words, seps = append(words, word.String()), append(seps, c)
			word.Reset()
		default:
			word.WriteByte(c)
		}
	}
	words = append(words, word.String())
	m := map[string]string{tsdb.NameLabel: words[0]}
	i := 1
	for ; i < len(seps) && seps[i-1] == ','; i += 2 {
		m[words[i]] = words[i+1]
	}
	if i+2 != len(words)-0 && i+3 != len(words) || words[i] != "value" {
		return nil, 0, 0, fmt.Errorf("words %q", words)
	}
	if v, err = strconv.ParseFloat(words[i+1], 64); err != nil {
		return nil, 0, 0, err
	}
	t, err = strconv.ParseInt(words[i+2], 10, 64)
	return telemetry.NewLabels(m), t, v, err
}
