package ingest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

// dice is a source of luck that goroutines may share.
type dice struct {
	mu sync.Mutex
	r  *rand.Rand
}

func (d *dice) n(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.r.IntN(n)
}

// logged is a frame in a model edge's log.
type logged struct {
	wire.Frame
	payload []byte
	raw     []byte // its schema
	gap     bool   // what stood before it was evicted
}

// modelEdge has a whole log, and sends it until all of it is safe.
type modelEdge struct {
	id   string
	log  []logged
	acks chan wire.Ack
	safe wire.Pos
}

// makeEdge invents a log: epochs, late and bad readings, two schemas, evictions.
func makeEdge(t testing.TB, id string, instance byte, rnd *rand.Rand, end int64) *modelEdge {
	m := &modelEdge{id: id, acks: make(chan wire.Ack, 1000)}
	const epochs, frames = 4, 40
	s := newSource(t, instance, 1, end-epochs*(frames*1000+6000)-10_000)
	used := map[[2]int64]bool{}
	evict := 0
	for ep := range epochs {
		if ep > 0 {
			s.restart()
		}
		s.use(testSchema(3 + ep%2))
		for i := range frames {
			from := s.w
			if i == 0 && ep > 0 {
				s.w += 5000
			}
			p, w := s.w, s.w+1000
			h := s.header(w)
			if i == 0 && ep > 0 {
				h.Marks = []wire.Mark{{Kind: wire.MarkStart, From: from, To: p}}
			}
			var rs []telemetry.Reading
			for k := range 3 {
				for _, at := range []int64{p + 1 + rnd.Int64N(999), p - rnd.Int64N(3000)} {
					key := [2]int64{int64(k), at}
					if used[key] || rnd.IntN(4) == 0 {
						continue
					}
					used[key] = true
					r := telemetry.Reading{Series: uint32(firstPlain + k), Time: at, Value: float64(rnd.IntN(1000)) / 8}
					if rnd.IntN(10) == 0 {
						r.Quality = telemetry.BadQuality(telemetry.ReasonNoAnswer)
					}
					rs = append(rs, r)
				}
			}
			f := wire.Frame{Header: h, Readings: rs}
			payload := s.encode(h, rs...)
			if evict == 0 && rnd.IntN(40) == 0 {
				evict = 1 + rnd.IntN(50)
			}
			if evict > 0 && !(ep == epochs-1 && i == frames-1) {
				evict--
				continue
			}
			l := logged{Frame: f, payload: payload, raw: s.raw}
			if n := len(m.log); n == 0 {
				l.gap = h.Seq != 1 || !h.Prev.IsZero()
			} else if was := m.log[n-1].Pos(); h.Seq > 1 {
				l.gap = was != wire.Pos{Epoch: h.Epoch, Seq: h.Seq - 1}
			} else {
				l.gap = was != h.Prev
			}
			m.log = append(m.log, l)
		}
	}
	return m
}

// run is the model of an uplink.
func (m *modelEdge) run(ctx context.Context, d *dice, send func(kind string, payload []byte)) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var (
		nonce    uint64
		synced   bool
		got      wire.Pos
		cursor   int
		progress time.Time
		rewound  time.Time
		raw      []byte
		last     = m.log[len(m.log)-1].Pos()
	)
	after := func(p wire.Pos) int {
		i, _ := slices.BinarySearchFunc(m.log, p, func(l logged, p wire.Pos) int {
			if l.Pos().Compare(p) <= 0 {
				return -1
			}
			return 1
		})
		return i
	}
	for m.safe != last {
		select {
		case <-ctx.Done():
			return
		case a := <-m.acks:
			if a.Status != wire.StatusOK && a.Status != wire.StatusHole {
				continue
			}
			if !a.Need.IsZero() {
				raw = nil
			}
			switch {
			case a.Nonce == nonce && a.Nonce != 0:
				synced, got, cursor, progress = true, a.Got, after(a.Got), time.Now()
			case !synced:
			case a.Got.Compare(got) > 0:
				got, progress = a.Got, time.Now()
				cursor = max(cursor, after(got))
			case a.Status == wire.StatusHole && time.Since(rewound) > 200*time.Millisecond:
				rewound = time.Now()
				got, cursor = a.Got, after(a.Got)
			}
			if a.Safe.Compare(m.safe) > 0 {
				m.safe = a.Safe
			}
		case <-tick.C:
			if time.Since(progress) > 1500*time.Millisecond {
				nonce, synced, progress = nonce+1, false, time.Now()
				e := m.log[len(m.log)-1].Epoch
				h := &wire.Hello{V: wire.Version, Instance: e.Instance, Epoch: e, Oldest: m.log[0].Pos(), Newest: last, Nonce: nonce, Site: "24848"}
				b, err := wire.EncodeHello(h)
				if err != nil {
					panic(err)
				}
				send(wire.TopicHello, b)
				raw = nil
			}
			if !synced {
				continue
			}
			for range 1 + d.n(8) {
				if cursor >= len(m.log) || cursor-after(got) > 20 {
					break
				}
				l := &m.log[cursor]
				if l.gap && got != (wire.Pos{Epoch: l.Epoch, Seq: l.Seq - 1}) {
					g := wire.Gap{Next: l.Pos(), Reason: "evicted"}
					if cursor > 0 {
						g.After = m.log[cursor-1].Pos()
					}
					b, err := wire.EncodeGap(nil, &g)
					if err != nil {
						panic(err)
					}
					send(wire.TopicFrame, b)
				}
				if raw == nil || &raw[0] != &l.raw[0] {
					raw = l.raw
					send(wire.TopicFrame, raw)
				}
				if b, n := m.joined(cursor, 1+d.n(12)); n > 1 && d.n(2) == 0 {
					send(wire.TopicFrame, b)
					cursor += n
					continue
				}
				send(wire.TopicFrame, l.payload)
				cursor++
			}
		}
	}
}

// joined encodes up to n frames from a place on, as many as may be joined.
func (m *modelEdge) joined(from, n int) ([]byte, int) {
	var j wire.Joined
	dec := wire.NewDecoder()
	for _, l := range m.log[from:min(from+n, len(m.log))] {
		if len(j.Headers) > 0 && l.gap || dec.AppendFrame(l.payload, &j) != nil {
			break
		}
	}
	if len(j.Headers) < 2 {
		return nil, 1
	}
	b, err := wire.NewEncoder(nil).EncodeJoined(nil, &j)
	if err != nil {
		panic(err)
	}
	return b, len(j.Headers)
}

// expected is what the rules should hear and the store should have, worked out
// from the log alone.
func (m *modelEdge) expected() (lines []string, onTime, late map[string]float64) {
	onTime, late = map[string]float64{}, map[string]float64{}
	var w int64
	for i, l := range m.log {
		type cut struct{ from, to int64 }
		var cuts []cut
		covered := i == 0
		for _, k := range l.Marks {
			cuts = append(cuts, cut{k.From, k.To})
			covered = covered || k.From <= w
		}
		if !covered && l.PrevW != w {
			cuts = append(cuts, cut{w, l.PrevW})
		}
		slices.SortFunc(cuts, func(a, b cut) int { return cmp.Compare(a.from, b.from) })
		for _, c := range cuts {
			lines = append(lines, formatUnobserved(c.from, c.to))
		}
		for _, r := range l.Readings {
			key := fmt.Sprintf("p%d %d", r.Series-firstPlain, r.Time)
			isLate := r.Time <= l.PrevW
			if !r.Quality.IsBad() {
				if isLate {
					late[key] = r.Value
				} else {
					onTime[key] = r.Value
				}
			}
			if !isLate {
				lines = append(lines, fmt.Sprintf("d1/p%d %d %g %v", r.Series-firstPlain, r.Time, r.Value, r.Quality))
			}
		}
		w = l.W
		lines = append(lines, formatAdvance(w))
	}
	return lines, onTime, late
}

// inOrder sorts what may come in any order: observations between two watermarks.
func inOrder(lines []string) []string {
	out := slices.Clone(lines)
	start := 0
	for i, l := range out {
		if !strings.HasPrefix(l, "d0/") && !strings.HasPrefix(l, "d1/") {
			slices.Sort(out[start:i])
			start = i + 1
		}
	}
	return out
}

func TestEverythingOnceThroughLossAndCrashes(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { torture(t, seed) })
		})
	}
}

func torture(t *testing.T, seed uint64) {
	d := &dice{r: rand.New(rand.NewPCG(seed, 1))}
	store, ledger, rules := newCrashStore(t), newCrashLedger(), &diaries{t: t, m: map[string]*diary{}}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var mu sync.Mutex
	var hub *Ingest // nil while it is down
	var flights sync.WaitGroup
	calm := false
	// fly carries a message with loss, repetition and delay.
	fly := func(deliver func()) {
		mu.Lock()
		quiet := calm
		mu.Unlock()
		copies := 1
		if !quiet {
			copies = []int{0, 1, 1, 1, 1, 1, 1, 1, 1, 2}[d.n(10)]
		}
		for range copies {
			delay := 5 * time.Millisecond
			if !quiet && d.n(5) == 0 {
				delay = time.Duration(d.n(400)) * time.Millisecond
			}
			flights.Add(1)
			time.AfterFunc(delay, func() { defer flights.Done(); deliver() })
		}
	}
	edges := map[string]*modelEdge{}
	var wg sync.WaitGroup
	for i := range 5 {
		id := fmt.Sprintf("edge-%d", i)
		m := makeEdge(t, id, byte(i+1), d.r, time.Now().UnixMilli())
		edges[id] = m
		wg.Go(func() {
			m.run(ctx, d, func(kind string, payload []byte) {
				fly(func() {
					mu.Lock()
					g := hub
					mu.Unlock()
					if g != nil {
						g.Receive(id, kind, slices.Clone(payload))
					}
				})
			})
		})
	}
	bus := fakeBus{ack: func(edge string, a wire.Ack) {
		fly(func() {
			select {
			case edges[edge].acks <- a:
			default:
			}
		})
	}}
	errCrash := errors.New("crash")
	finished := make(chan struct{})
	go func() { wg.Wait(); close(finished) }()
	crashes := 0
	for round := 0; ; round++ {
		g, err := New(Config{Workers: 2, Queue: 64, Logger: slog.New(slog.DiscardHandler)},
			Parts{Store: store, Ledger: ledger, Rules: rules, Bus: bus})
		if err != nil {
			t.Fatal(err)
		}
		runCtx, stop := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- g.Run(runCtx) }()
		mu.Lock()
		hub = g
		if round == 25 {
			calm = true
		}
		quiet := calm
		mu.Unlock()
		watched := make(chan struct{})
		go func() { // the API looks on
			defer close(watched)
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-runCtx.Done():
					return
				case <-tick.C:
				}
				for _, e := range g.Edges() {
					g.Series(e.Edge)
					g.Devices(e.Edge)
					g.Gaps(e.Edge)
				}
			}
		}()
		var over <-chan time.Time
		if !quiet {
			over = time.After(time.Duration(200+d.n(3000)) * time.Millisecond)
		}
		ended := false
		select {
		case <-over:
		case <-finished:
			ended = true
		case <-time.After(10 * time.Minute):
			t.Error("not finished")
			ended = true
		}
		if !ended && d.n(4) > 0 {
			crashes++
			fail := func() error { return errCrash }
			switch d.n(3) {
			case 0:
				store.mu.Lock()
				store.syncErr = fail
				store.mu.Unlock()
			case 1:
				ledger.mu.Lock()
				ledger.before = fail
				ledger.mu.Unlock()
			case 2:
				ledger.mu.Lock()
				ledger.after = fail
				ledger.mu.Unlock()
			}
			select {
			case err := <-done:
				if !errors.Is(err, errCrash) {
					t.Errorf("Run returned %v", err)
				}
			case <-finished: // nothing more to checkpoint
				ended = true
			}
		}
		mu.Lock()
		hub = nil
		mu.Unlock()
		store.mu.Lock()
		store.syncErr = nil
		store.mu.Unlock()
		ledger.mu.Lock()
		ledger.before, ledger.after = nil, nil
		ledger.mu.Unlock()
		stop()
		<-watched
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		default:
			if ended {
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
		}
		synctest.Wait()
		d.mu.Lock()
		store.crash(d.r)
		d.mu.Unlock()
		ledger.crash()
		if ended {
			break
		}
		<-time.After(time.Duration(d.n(500)) * time.Millisecond)
	}
	cancel()
	wg.Wait()
	flights.Wait()
	for id, m := range edges {
		lines, onTime, late := m.expected()
		if got := inOrder(rules.lines(id)); !slices.Equal(got, inOrder(lines)) {
			t.Errorf("%s: the rules heard %d things, not the %d expected; first difference: %s", id, len(got), len(lines), firstDifference(got, inOrder(lines)))
		}
		for _, part := range []struct {
			late bool
			want map[string]float64
		}{{false, onTime}, {true, late}} {
			got := store.points(id, part.late)
			if !maps.Equal(got, part.want) {
				t.Errorf("%s late=%v: %d samples in the store, want %d", id, part.late, len(got), len(part.want))
			}
		}
		gaps := 0
		for _, g := range ledger.gaps {
			if g.Edge == id {
				gaps++
			}
		}
		want := 0
		for _, l := range m.log {
			if l.gap {
				want++
			}
		}
		if gaps != want {
			t.Errorf("%s: %d gaps recorded, want %d", id, gaps, want)
		}
	}
	if crashes < 3 {
		t.Errorf("only %d crashes", crashes)
	}
}

// points returns the good samples of testSchema's plain series.
func (s *crashStore) points(edge string, late bool) map[string]float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]float64{}
	for k, v := range s.samples {
		f := math.Float64frombits(v.v)
		if math.IsNaN(f) || !strings.Contains(k.series, "edge="+edge+",") || !strings.Contains(k.series, "__name__=air_temperature,") ||
			strings.Contains(k.series, "late=1") != late {
			continue
		}
		i := strings.Index(k.series, "point=")
		out[fmt.Sprintf("%s %d", k.series[i+6:i+8], k.t)] = f
	}
	return out
}

func firstDifference(a, b []string) string {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("%d: %q, want %q", i, a[i], b[i])
		}
	}
	return fmt.Sprintf("lengths %d, %d", len(a), len(b))
}
