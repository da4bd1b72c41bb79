package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/alert/feed"
	"github.com/langbiang/langbiang/pkg/api"
	"github.com/langbiang/langbiang/pkg/internal/testutil"
	"github.com/langbiang/langbiang/pkg/ledger"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// part fits the ledger to the API for what a stream needs.
type part struct{ *ledger.Ledger }

func (part) List(api.Filter, string, int) ([]alert.Alert, string, error) { return nil, "", nil }

// hub is a ledger behind the API, which can be killed and started again at the
// same address.
type hub struct {
	t       *testing.T
	dir     string
	addr    string
	ledger  *ledger.Ledger
	server  *http.Server
	serving sync.WaitGroup
}

func newHub(t *testing.T) *hub {
	h := &hub{t: t, dir: t.TempDir(), addr: testutil.FreeAddress(t)}
	h.start()
	t.Cleanup(h.kill)
	return h
}

func (h *hub) start() {
	h.t.Helper()
	var err error
	if h.ledger, err = ledger.Open(h.dir, ledger.Options{Window: -1}); err != nil {
		h.t.Fatal(err)
	}
	ln, err := net.Listen("tcp", h.addr)
	if err != nil {
		h.t.Fatal(err)
	}
	h.addr = ln.Addr().String()
	h.server = &http.Server{Handler: api.New(api.Config{Alerts: part{h.ledger}, Logger: slog.New(slog.DiscardHandler), Heartbeat: 50 * time.Millisecond})} //nolint:gosec // a test's
	h.serving.Go(func() { _ = h.server.Serve(ln) })
}

func (h *hub) kill() {
	if h.server == nil {
		return
	}
	_ = h.server.Close()
	h.serving.Wait()
	h.server = nil
	if err := h.ledger.Close(); err != nil {
		h.t.Error(err)
	}
}

func (h *hub) raise(n int) {
	h.t.Helper()
	start := time.UnixMilli(int64(n) * 1000).UTC()
	if _, err := h.ledger.Raise(alert.Transition{Kind: alert.Raised, Time: start, Alert: alert.Alert{
		ID: fmt.Sprintf("a%d", n), State: alert.Active, Severity: alert.Severity(1 + n%4), Start: start, Message: text(n),
	}}); err != nil {
		h.t.Fatal(err)
	}
}

func text(n int) telemetry.Text { return telemetry.Text{VI: strings.Repeat("x", n%50)} }

// Both sides are killed and started again at random; what the consumer has handled
// is exactly the log, in order, but for repetitions.
func TestAConsumerEndsWithExactlyTheLogWhateverIsKilled(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 7))
			h := newHub(t)
			transport := &http.Transport{}
			defer transport.CloseIdleConnections()
			c := Client{URL: "http://" + h.addr, HTTP: &http.Client{Transport: transport}}
			positions := File(filepath.Join(t.TempDir(), "position"))
			crash := errors.New("crash")
			var mu sync.Mutex
			var got []uint64
			handled := 0
			// follow runs until its context ends or it crashes after some entries.
			follow := func(ctx context.Context, crashAfter int) {
				err := c.Follow(ctx, Options{Positions: positions, FromOldest: true, MaxBackoff: 10 * time.Millisecond}, func(e Event) error {
					entry, ok, err := e.Entry()
					if err != nil || !ok {
						return err
					}
					mu.Lock()
					defer mu.Unlock()
					got = append(got, entry.Sequence)
					if handled++; crashAfter > 0 && handled%crashAfter == 0 {
						return crash // handled, and not saved
					}
					return nil
				})
				if err != nil && !errors.Is(err, crash) {
					t.Error(err)
				}
			}
			var consumer sync.WaitGroup
			ctx, stop := context.WithCancel(t.Context())
			defer func() { stop(); consumer.Wait() }()
			restart := func() {
				stop()
				consumer.Wait()
				ctx, stop = context.WithCancel(t.Context())
				run := ctx
				after := 1 + rnd.IntN(30)
				consumer.Go(func() {
					for run.Err() == nil {
						follow(run, after)
					}
				})
			}
			restart()
			n := 0
			for range 60 {
				switch rnd.IntN(6) {
				case 0:
					restart()
				case 1:
					h.kill()
					h.start()
				default:
					for range rnd.IntN(20) {
						n++
						h.raise(n)
					}
				}
			}
			deadline := time.After(time.Minute)
			for {
				mu.Lock()
				done := len(got) > 0 && got[len(got)-1] == uint64(n)
				mu.Unlock()
				if done {
					break
				}
				select {
				case <-deadline:
					t.Fatalf("the last entry is missing: have %d of %d", len(got), n)
				case <-time.After(5 * time.Millisecond):
				}
			}
			newest := uint64(0)
			mu.Lock()
			defer mu.Unlock()
			for i, s := range got {
				if s > newest+1 {
					t.Fatalf("after %d came %d", newest, s)
				}
				if s <= newest && i > 0 && s != got[i-1] && s != newest {
					// a repetition begins after the position that was saved
					t.Logf("repeated from %d, newest was %d", s, newest)
				}
				newest = max(newest, s)
			}
		})
	}
}

func TestARefusalEndsAndALossDoesNot(t *testing.T) {
	h := newHub(t)
	c := Client{URL: "http://" + h.addr}
	err := c.Follow(t.Context(), Options{Rule: []string{"x"}, State: "open"}, func(Event) error { return nil })
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), `state is \"open\"`) {
		t.Errorf("%v", err)
	}
	h.raise(1)
	var broke []error
	stop := errors.New("enough")
	opened := 0
	err = c.Follow(t.Context(), Options{FromOldest: true, MaxBackoff: time.Millisecond, OnError: func(err error) {
		broke = append(broke, err)
		h.start()
		h.raise(2)
	}}, func(e Event) error {
		if e.Subject == "a2" {
			return stop
		}
		if opened++; e.Subject == "a1" {
			h.kill()
		}
		return nil
	})
	if !errors.Is(err, stop) || len(broke) == 0 {
		t.Errorf("%v, losses %v", err, broke)
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestAHubThatSaysNothingIsTakenForDead(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { _, _ = io.Copy(io.Discard, c); _ = c.Close() })
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	c := Client{URL: "http://" + ln.Addr().String()}
	var heard error
	err = c.Follow(ctx, Options{Silence: 20 * time.Millisecond, OnError: func(err error) { heard = err; cancel() }}, func(Event) error { return nil })
	if err != nil || heard == nil || !strings.Contains(heard.Error(), "said nothing for 20ms") {
		t.Errorf("%v; heard %v", err, heard)
	}
	_ = ln.Close()
	wg.Wait()
}

func TestHeartbeatsMoveAConsumerOnOverWhatItDoesNotWant(t *testing.T) {
	h := newHub(t)
	for n := range 9 {
		h.raise(n + 1)
	}
	stop := errors.New("enough")
	path := File(filepath.Join(t.TempDir(), "p"))
	c := Client{URL: "http://" + h.addr}
	err := c.Follow(t.Context(), Options{Positions: path, FromOldest: true, Rule: []string{"none"}}, func(e Event) error {
		p, _ := path.Load()
		if e.Type == feed.TypeHeartbeat && strings.HasSuffix(p, "-9") {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) {
		t.Error(err)
	}
	http.DefaultClient.CloseIdleConnections()
}
