package push

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/langbiang/langbiang/pkg/buffer"
	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// noon is when the tests are.
var noon = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

// rig is a source with its log and a handler before it, at noon.
type rig struct {
	*Source
	t       *testing.T
	dir     string
	log     *buffer.Log
	handler *Handler
	clock   atomic.Int64
	stop    func()
}

func newRig(t *testing.T, cfg Config) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir()}
	r.clock.Store(noon.UnixMilli())
	r.open(cfg)
	return r
}

func (r *rig) open(cfg Config) {
	r.t.Helper()
	if cfg.ID == "" {
		cfg.ID, cfg.Site, cfg.Device = "telegraf", "24848", "{host}"
	}
	now := func() time.Time { return time.UnixMilli(r.clock.Load()) }
	var err error
	r.log, err = buffer.Open(r.dir, buffer.Options{Now: r.clock.Load})
	if err != nil {
		r.t.Fatal(err)
	}
	if r.Source, err = Open(cfg, r.log, now, slog.New(slog.DiscardHandler)); err != nil {
		r.t.Fatal(err)
	}
	r.handler = NewHandler([]*Source{r.Source}, "test", nil, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stopped := false
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			r.t.Error(err)
		}
		if err := r.log.Close(); err != nil {
			r.t.Error(err)
		}
	}
	r.t.Cleanup(func() { r.stop() })
}

// request makes a request from this machine.
func request(path, body string, header ...string) *http.Request {
	q := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	q.RemoteAddr = "127.0.0.1:9"
	for i := 0; i < len(header); i += 2 {
		q.Header.Set(header[i], header[i+1])
	}
	return q
}

// post answers status and document.
func (r *rig) post(path, body string, header ...string) (int, problem) {
	r.t.Helper()
	w := httptest.NewRecorder()
	r.handler.ServeHTTP(w, request(path, body, header...))
	var p problem
	if w.Code != http.StatusNoContent {
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
			r.t.Fatalf("%d %q: %v", w.Code, w.Body, err)
		}
		if p.Status != w.Code || w.Header().Get("Content-Type") != "application/problem+json" || p.Title == "" || p.Detail == "" {
			r.t.Errorf("no problem document: %d %s", w.Code, w.Body)
		}
	}
	return w.Code, p
}

// stored is a reading with its series spelt out.
type stored struct {
	name string // quantity device/point {labels}
	t    int64
	v    float64
	text string
	bad  bool
}

// committed reads what is in the log, as the ingest would.
func (r *rig) committed() (out []stored, frames []wire.Header) {
	r.t.Helper()
	dec := wire.NewDecoder()
	last, _ := r.log.Committed()
	err := r.log.Read(buffer.Pos{}, 1<<30, func(rec buffer.Record) error {
		if order, ok := r.log.Compare(rec.Pos, last); !ok || order > 0 {
			return io.EOF
		}
		var f wire.Frame
		if err := dec.DecodeFrame(bytes.Clone(rec.Payload), &f); err != nil {
			return err
		}
		raw, ok := r.log.Attachment(f.Schema)
		if !ok {
			r.t.Fatalf("the schema of frame %d is not in the log", f.Seq)
		}
		s, _, err := wire.DecodeSchema(raw)
		if err != nil {
			return err
		}
		for _, rd := range f.Readings {
			d := s.Series[rd.Series]
			name := d.Quantity + " " + s.Devices[d.Device].ID + "/" + d.Point + " {"
			for i, l := range d.Labels {
				if i > 0 {
					name += ","
				}
				name += l.Name + "=" + l.Value
			}
			out = append(out, stored{name + "}", rd.Time, rd.Value, rd.Text, rd.Quality.IsBad()})
		}
		frames = append(frames, f.Header)
		return nil
	})
	if err != nil && !errors.Is(err, io.EOF) {
		r.t.Fatal(err)
	}
	slices.SortStableFunc(out, func(a, b stored) int { return strings.Compare(a.name, b.name) })
	return out, frames
}

// ns is a time of line protocol, seconds from noon.
func ns(s int) string {
	return itoa(noon.Add(time.Duration(s) * time.Second).UnixNano())
}

func itoa(n int64) string { b, _ := json.Marshal(n); return string(b) }

var quantities = telemetry.Quantities{"air_temperature": {Unit: "Cel"}, "pm2_5": {Unit: "ug/m3"}}
