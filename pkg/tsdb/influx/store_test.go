package influx

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/tsdb"
	"github.com/langbiang/langbiang/pkg/tsdb/tsdbtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const t0 = int64(1_767_225_600_000)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, s *server, change func(*Options)) *Store {
	t.Helper()
	o := Options{
		URL: s.url, Org: "o", Bucket: "b", Token: "t", QueryURL: s.url, FlushDelay: -1, Retry: time.Millisecond, MaxRetry: 10 * time.Millisecond,
		Now: func() int64 { return t0 + time.Hour.Milliseconds() },
	}
	if change != nil {
		change(&o)
	}
	st, err := Open(o)
	check(t, err)
	t.Cleanup(func() { _ = st.Close() })
	return st
}

// settled lets the suite read what it has written.
type settled struct{ *Store }

func (settled) Settle(*testing.T) {}

func TestStore(t *testing.T) {
	servers := map[string]*server{}
	tsdbtest.Run(t, func(t *testing.T, dir string, now func() int64) tsdb.Store {
		if servers[dir] == nil {
			servers[dir] = newServer(t, dir, now)
		}
		return settled{open(t, servers[dir], func(o *Options) { o.Now = now })}
	})
}

func fill(t *testing.T, s *Store, quantity string, n int) {
	t.Helper()
	app := s.Appender()
	for i := range n {
		_, err := app.Append(0, tsdbtest.Labels(quantity, "p"), t0+int64(i)*1000, float64(i))
		check(t, err)
	}
	check(t, app.Commit())
}

func stored(t *testing.T, s *Store, quantity string) int {
	t.Helper()
	got, err := tsdb.ReadSamples(context.Background(), s.Queryable(), 0, math.MaxInt64/2, tsdb.Match{Name: tsdb.NameLabel, Value: quantity})
	check(t, err)
	n := 0
	for _, x := range got {
		n += len(x.Samples)
	}
	return n
}

func TestWhatTheServerCannotTakeNowIsSentAgain(t *testing.T) {
	srv := newServer(t, t.TempDir(), nil)
	var log bytes.Buffer
	s := open(t, srv, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	answers := []int{http.StatusServiceUnavailable, http.StatusTooManyRequests, http.StatusUnauthorized, http.StatusNotFound, http.StatusInternalServerError}
	n := 0
	srv.set(func(srv *server) {
		srv.answer = func([]string) int {
			if n++; n <= len(answers) {
				return answers[n-1]
			}
			return 0
		}
	})
	fill(t, s, "pm10", 100)
	check(t, s.Sync())
	if got := stored(t, s, "pm10"); got != 100 {
		t.Errorf("%d samples stored", got)
	}
	check(t, s.Close())
	if text := log.String(); strings.Count(text, "does not take samples") != 1 || strings.Count(text, "takes samples again") != 1 {
		t.Errorf("the log says\n%s", text)
	}
}

func TestSafeIsWhatTheServerHasHadTheTimeToFlush(t *testing.T) {
	srv := newServer(t, t.TempDir(), nil)
	const delay = 2 * time.Second
	s := open(t, srv, func(o *Options) { o.FlushDelay = delay })
	start := time.Now()
	fill(t, s, "pm10", 10)
	check(t, s.Sync())
	if took := time.Since(start); took < delay {
		t.Errorf("safe after %v", took)
	}
	start = time.Now()
	check(t, s.Sync()) // nothing new, flushed long since
	if took := time.Since(start); took >= delay {
		t.Errorf("a second Sync took %v", took)
	}
}

func TestARefusedSeriesIsSetAsideAndTheRestIsStored(t *testing.T) {
	srv := newServer(t, t.TempDir(), nil)
	srv.set(func(srv *server) { srv.refuse = "bad" })
	file := filepath.Join(t.TempDir(), "refused.ndjson")
	var log bytes.Buffer
	s := open(t, srv, func(o *Options) {
		o.Refused, o.Logger = file, slog.New(slog.NewTextHandler(&log, nil))
	})
	app := s.Appender()
	for i := range int64(200) {
		for _, q := range []string{"pm10", "pm2_5"} {
			_, err := app.Append(0, tsdbtest.Labels(q, "p"), t0+i*1000, 1)
			check(t, err)
		}
		if i == 77 {
			_, err := app.Append(0, tsdbtest.Labels("bad", "p"), t0+i*1000, 1)
			check(t, err)
		}
	}
	check(t, app.Commit())
	check(t, s.Sync())
	if a, b := stored(t, s, "pm10"), stored(t, s, "pm2_5"); a != 200 || b != 200 {
		t.Errorf("%d and %d samples stored beside the refused one", a, b)
	}
	srv.mu.Lock()
	before := srv.requests
	srv.mu.Unlock()
	fill(t, s, "bad", 50) // is not tried again for a while
	check(t, s.Sync())
	srv.mu.Lock()
	if srv.requests != before {
		t.Errorf("%d more requests for a series that is refused", srv.requests-before)
	}
	srv.mu.Unlock()
	if got := s.Stats().Refused; got != 51 {
		t.Errorf("%d lines refused, want 51", got)
	}
	check(t, s.Close())
	b, err := os.ReadFile(file)
	check(t, err)
	if !strings.Contains(string(b), `{"line":"bad,device=air-01,edge=lac-duong-01,point=p,site=24848 value=1 1767225677000","reason":"invalid: partial write: field type conflict`) || strings.Count(string(b), "\n") != 51 {
		t.Errorf("set aside:\n%.400s", b)
	}
	if strings.Count(log.String(), "refuses a series") != 1 {
		t.Errorf("the log says\n%s", log.String())
	}
}

func TestAServerThatRefusesEverythingIsNoJudgeOfLines(t *testing.T) {
	srv := newServer(t, t.TempDir(), nil)
	var calls atomic.Int32
	srv.set(func(srv *server) {
		srv.answer = func([]string) int {
			if calls.Add(1) < 30 {
				return http.StatusBadRequest // a proxy in between, say
			}
			return 0
		}
	})
	s := open(t, srv, nil)
	fill(t, s, "pm10", 20)
	check(t, s.Sync())
	if got, refused := stored(t, s, "pm10"), s.Stats().Refused; got != 20 || refused != 0 {
		t.Errorf("%d samples stored, %d set aside", got, refused)
	}
}

func TestARequestThatIsTooLargeIsHalved(t *testing.T) {
	srv := newServer(t, t.TempDir(), nil)
	srv.set(func(srv *server) {
		srv.answer = func(lines []string) int {
			if len(lines) > 30 {
				return http.StatusRequestEntityTooLarge
			}
			return 0
		}
	})
	s := open(t, srv, nil)
	fill(t, s, "pm10", 1000)
	check(t, s.Sync())
	if got := stored(t, s, "pm10"); got != 1000 {
		t.Errorf("%d samples stored", got)
	}
}

func TestCommitWaitsWhileTooMuchIsPendingAndCloseGivesUp(t *testing.T) {
	srv := newServer(t, t.TempDir(), nil)
	srv.set(func(srv *server) { srv.answer = func([]string) int { return http.StatusServiceUnavailable } })
	s := open(t, srv, func(o *Options) { o.Pending = 4000; o.CloseWait = 200 * time.Millisecond })
	fill(t, s, "pm10", 20)
	full := make(chan error)
	go func() {
		app := s.Appender()
		for i := range 60 {
			if _, err := app.Append(0, tsdbtest.Labels("pm10", "q"), t0+int64(i), 1); err != nil {
				full <- err
				return
			}
		}
		full <- app.Commit()
	}()
	select {
	case err := <-full:
		t.Fatalf("a batch beyond the bound was taken: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	synced := make(chan error)
	go func() { synced <- s.Sync() }()
	if err := s.Close(); !errors.Is(err, ErrUnreachable) {
		t.Errorf("Close: %v", err)
	}
	if err := <-synced; !errors.Is(err, ErrUnreachable) && !errors.Is(err, tsdb.ErrClosed) {
		t.Errorf("Sync: %v", err)
	}
	if err := <-full; !errors.Is(err, ErrUnreachable) && !errors.Is(err, tsdb.ErrClosed) {
		t.Errorf("Commit: %v", err)
	}
}

func TestLinesSayAnySeries(t *testing.T) {
	for _, value := range []string{"a b", "a,b", "a=b", `a\b`, `C:\ x`, "Đà Lạt, phường 1", `"`, "a\tb"} {
		lset := telemetry.NewLabels(map[string]string{tsdb.NameLabel: "x y,z", "site": value, "a=b": "c"})
		k, err := key(lset)
		check(t, err)
		got, at, v, err := parseLine(strings.TrimSuffix(string(appendLine(nil, k, 12, -1.5e-9)), "\n"))
		check(t, err)
		if !slices.Equal(got, lset) || at != 12 || v != -1.5e-9 {
			t.Errorf("%q became %v %d %v", value, got, at, v)
		}
		if keyOf(fmt.Sprintf("%s value=1 2", k)) != k {
			t.Errorf("the series of a line of %q is not found", k)
		}
	}
	for _, value := range []string{"a\nb", `a\`} {
		if _, err := key(telemetry.NewLabels(map[string]string{tsdb.NameLabel: "x", "site": value})); !errors.Is(err, tsdb.ErrInvalidSeries) {
			t.Errorf("%q: %v", value, err)
		}
	}
}

func TestAddressesAreChecked(t *testing.T) {
	for _, o := range []Options{{}, {URL: "store:8428"}, {URL: "ftp://store"}, {URL: "http://store", QueryURL: "store"}} {
		if s, err := Open(o); err == nil {
			t.Errorf("%+v is accepted", o)
			_ = s.Close()
		}
	}
}
