package questions

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/langbiang/langbiang/pkg/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wan is a hub, a gateway, and what is between them.
type wan struct {
	t     *testing.T
	asker *Asker
	delay time.Duration
	loss  float64 // of messages, each way
	twice float64

	mu     sync.Mutex
	rng    *rand.Rand
	cut    bool
	to     *Responder
	up     int64 // bytes
	calls  atomic.Int32
	ends   []func()
	toEdge atomic.Int32
}

func newWAN(t *testing.T) *wan {
	w := &wan{t: t, rng: rand.New(rand.NewPCG(1, 2)), delay: 50 * time.Millisecond}
	w.asker = NewAsker(func(_ string, p []byte) error {
		w.toEdge.Add(1)
		w.carry(p, func(p []byte) {
			w.mu.Lock()
			to := w.to
			w.mu.Unlock()
			to.Ask(p)
		})
		return nil
	})
	t.Cleanup(w.close)
	return w
}

// carry delivers a message after a while, or does not.
func (w *wan) carry(p []byte, deliver func([]byte)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut || w.rng.Float64() < w.loss {
		return
	}
	p = bytes.Clone(p)
	times := 1
	if w.rng.Float64() < w.twice {
		times = 2
	}
	for range times {
		wait := w.delay + time.Duration(w.rng.Int64N(int64(w.delay)/2+1))
		time.AfterFunc(wait, func() { deliver(p) })
	}
}

// gateway starts an agent, in the place of the one before.
func (w *wan) gateway(metered bool, tell Tell) {
	r := NewResponder(ResponderConfig{Metered: metered, Logger: slog.New(slog.DiscardHandler), Tell: func(ctx context.Context, out io.Writer, kind string, args map[string]string) error {
		w.calls.Add(1)
		return tell(ctx, out, kind, args)
	}})
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = r.Run(ctx) })
	wg.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-r.Changed():
			}
			for {
				p, ok := r.Next()
				if !ok {
					break
				}
				if len(p) > wire.MaxAnswer {
					w.t.Errorf("a message of %d bytes", len(p))
				}
				w.mu.Lock()
				w.up += int64(len(p))
				w.mu.Unlock()
				w.carry(p, func(p []byte) { w.asker.Take("e", p) })
			}
		}
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.to = r
	w.ends = append(w.ends, func() { stop(); wg.Wait() })
}

// kept are the questions that an agent keeps.
func kept(r *Responder) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.open)
}

func (w *wan) close() {
	for _, end := range w.ends {
		end()
	}
}

func (w *wan) ask(q Question) (string, Outcome, error) {
	var text strings.Builder
	if q.For == 0 {
		q.For = time.Minute
	}
	out, err := w.asker.Ask(context.Background(), "e", q, func(s string) error { text.WriteString(s); return nil })
	return text.String(), out, err
}

// say answers with a text.
func say(text string) Tell {
	return func(_ context.Context, w io.Writer, _ string, _ map[string]string) error {
		_, err := io.WriteString(w, text)
		return err
	}
}

func lines(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "2026-11-27T08:%02d:%02d level=INFO msg=\"trạm đo mưa %d\" rnd=%x\n", i/60%60, i%60, i, rand.Uint64())
	}
	return b.String()
}

func TestAnAnswerArrivesWholeWhateverTheLinkLoses(t *testing.T) {
	for name, link := range map[string]func(*wan){
		"a good link": func(*wan) {},
		"losses":      func(w *wan) { w.loss = 0.2 },
		"repetitions": func(w *wan) { w.twice = 0.5 },
		"slow":        func(w *wan) { w.delay = 2 * time.Second },
		"all of them": func(w *wan) { w.loss, w.twice, w.delay = 0.1, 0.3, time.Second },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWAN(t)
				link(w)
				want := lines(1000)
				w.gateway(false, func(_ context.Context, out io.Writer, kind string, args map[string]string) error {
					if kind != "log" || args["lines"] != "1000" {
						t.Errorf("asked for %s %v", kind, args)
					}
					_, err := io.WriteString(out, want)
					return err
				})
				got, out, err := w.ask(Question{Kind: "log", Args: map[string]string{"lines": "1000"}})
				if err != nil || got != want || out.Truncated || out.Failed != "" {
					t.Fatalf("%d of %d bytes, %+v, %v", len(got), len(want), out, err)
				}
				if n := w.calls.Load(); n != 1 {
					t.Errorf("it was begun %d times", n)
				}
				t.Logf("%d bytes of text in %v: %d messages, %d bytes on the link", len(want), out.Took, out.Messages, out.Bytes)
				w.close()
			})
		})
	}
}

func TestAnAnswerThatTakesLongComesAsItIsMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWAN(t)
		w.gateway(false, func(ctx context.Context, out io.Writer, _ string, _ map[string]string) error {
			for i := range 3 {
				fmt.Fprintf(out, "line %d\n", i)
				select {
				case <-time.After(40500 * time.Millisecond): // longer than anybody waits for a sign of life
				case <-ctx.Done():
				}
			}
			return errors.New("2 things to mend")
		})
		var at []time.Duration
		begun := time.Now()
		out, err := w.asker.Ask(context.Background(), "e", Question{Kind: "doctor", For: 5 * time.Minute}, func(string) error {
			at = append(at, time.Since(begun))
			return nil
		})
		if err != nil || out.Failed != "2 things to mend" {
			t.Errorf("%+v, %v", out, err)
		}
		for i, made := range []time.Duration{0, 40500 * time.Millisecond, 81 * time.Second} {
			if i >= len(at) || at[i] < made || at[i] > made+2*time.Second {
				t.Fatalf("lines came after %v", at)
			}
		}
		w.close()
	})
}

func TestALinkThatIsCutInTheMiddleOfAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWAN(t)
		w.gateway(false, say(lines(1500)))
		pieces := 0
		var text strings.Builder
		_, err := w.asker.Ask(context.Background(), "e", Question{Kind: "log", For: time.Minute}, func(s string) error {
			text.WriteString(s)
			if pieces++; pieces == 3 {
				w.mu.Lock()
				w.cut = true
				w.mu.Unlock()
				time.AfterFunc(20*time.Second, func() {
					w.mu.Lock()
					w.cut = false
					w.mu.Unlock()
					w.asker.Greeted("e")
				})
			}
			return nil
		})
		if err != nil || strings.Count(text.String(), "\n") != 1500 || w.calls.Load() != 1 {
			t.Errorf("%d bytes, begun %d times, %v", text.Len(), w.calls.Load(), err)
		}
		w.close()
	})
}

func TestNothingIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWAN(t)
		w.gateway(false, say("x"))
		w.cut = true
		begun := time.Now()
		if _, _, err := w.ask(Question{Kind: "status"}); !errors.Is(err, ErrSilent) || time.Since(begun) != silence {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
		if n := w.toEdge.Load(); n > 6 {
			t.Errorf("asked %d times", n)
		}
		w.close()
	})
}

func TestAnAgentThatIsStartedAnewInTheMiddleSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWAN(t)
		w.gateway(false, say(lines(1500)))
		pieces := 0
		_, err := w.asker.Ask(context.Background(), "e", Question{Kind: "log", For: time.Minute}, func(string) error {
			if pieces++; pieces == 2 {
				w.gateway(false, say(lines(1500)))
			}
			return nil
		})
		if !errors.Is(err, ErrLost) || w.calls.Load() != 1 {
			t.Errorf("begun %d times, %v", w.calls.Load(), err)
		}
		w.close()
	})
}

func TestWhoNoLongerWaitsEndsTheQuestion(t *testing.T) {
	for name, lost := range map[string]bool{"the agent is told": false, "that message is lost": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWAN(t)
				ended := make(chan time.Time, 1)
				w.gateway(false, func(ctx context.Context, out io.Writer, _ string, _ map[string]string) error {
					_, _ = io.WriteString(out, "first\n")
					<-ctx.Done()
					ended <- time.Now()
					return ctx.Err()
				})
				ctx, cancel := context.WithCancel(context.Background())
				_, err := w.asker.Ask(ctx, "e", Question{Kind: "log", For: MaxFor}, func(string) error {
					w.mu.Lock()
					w.cut = lost
					w.mu.Unlock()
					cancel()
					return nil
				})
				gone := time.Now()
				if !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				took := (<-ended).Sub(gone)
				if !lost && took > time.Second || took > forgotten+pauseFirst {
					t.Errorf("it went on for %v", took)
				}
				synctest.Wait()
				<-time.After(2 * forgotten) // of the bubble's clock
				if n := kept(w.to); n != 0 {
					t.Errorf("%d questions are kept", n)
				}
				w.close()
			})
		})
	}
}

func TestAnAnswerEndsWithItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWAN(t)
		w.gateway(true, func(ctx context.Context, out io.Writer, _ string, _ map[string]string) error {
			tick := time.NewTicker(time.Second)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
					_, _ = io.WriteString(out, lines(1))
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		})
		begun := time.Now()
		text, out, err := w.ask(Question{Kind: "log", For: 2 * time.Minute})
		if err != nil || out.Failed != "" || strings.Count(text, "\n") < 118 || time.Since(begun).Round(time.Second) != 2*time.Minute {
			t.Errorf("%d lines in %v, %+v, %v", strings.Count(text, "\n"), time.Since(begun), out, err)
		}
		if !out.Metered || out.Messages > 30 {
			t.Errorf("a link that costs: %+v", out)
		}
		t.Logf("two minutes of a line each second over a metered link: %d messages, %d bytes for %d of text", out.Messages, out.Bytes, len(text))
		w.close()
	})
}

func TestAnAnswerThatIsTooLongIsCutAndSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWAN(t)
		w.gateway(false, func(_ context.Context, out io.Writer, _ string, _ map[string]string) error {
			for {
				if _, err := io.WriteString(out, lines(10)); err != nil {
					return err
				}
			}
		})
		text, out, err := w.ask(Question{Kind: "log"})
		if err != nil || !out.Truncated || out.Failed != "" || len(text) > MaxText || len(text) < MaxText-wire.MaxNote {
			t.Errorf("%d bytes, %+v, %v", len(text), out, err)
		}
		w.close()
	})
}

func TestWhatBreaksInAnAnswerEndsNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWAN(t)
		w.gateway(false, func(_ context.Context, _ io.Writer, kind string, _ map[string]string) error {
			if kind == "break" {
				panic("broken")
			}
			return Refusal("there is no " + kind + " here\x1b[2J")
		})
		if _, out, err := w.ask(Question{Kind: "break"}); err != nil || !strings.Contains(out.Failed, "its log says why") {
			t.Errorf("%+v, %v", out, err)
		}
		if _, _, err := w.ask(Question{Kind: "coffee"}); !errors.Is(err, ErrRefused) || err.Error() != "the agent refuses: there is no coffee here[2J" {
			t.Errorf("%q", err)
		}
		w.close()
	})
}

func TestTenAtOnceAndAFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWAN(t)
		w.gateway(false, func(_ context.Context, out io.Writer, _ string, _ map[string]string) error {
			<-time.After(5 * time.Second) // of the bubble's clock
			_, err := io.WriteString(out, lines(300))
			return err
		})
		var good, busy atomic.Int32
		var wg sync.WaitGroup
		round := func() {
			for range 10 {
				wg.Go(func() {
					switch text, _, err := w.ask(Question{Kind: "log"}); {
					case err == nil && strings.Count(text, "\n") == 300:
						good.Add(1)
					case errors.Is(err, ErrBusy):
						busy.Add(1)
					default:
						t.Error(err)
					}
				})
			}
			wg.Wait()
		}
		round()
		if good.Load() != MaxOpenAtEdge || busy.Load() != 10-MaxOpenAtEdge {
			t.Errorf("%d were answered, %d sent away", good.Load(), busy.Load())
		}
		for range 20 {
			round()
		}
		if n := w.calls.Load(); n > 60 {
			t.Errorf("%d questions reached the agent within two minutes", n)
		}
		// A hub that keeps to no bounds: the agent has its own.
		before := w.calls.Load()
		for i := range 1000 {
			p, err := wire.EncodeAsk(&wire.Ask{V: wire.Version, ID: wire.AskID{1, byte(i), byte(i >> 8)}, Kind: "log", For: 1000})
			if err != nil {
				t.Fatal(err)
			}
			w.to.Ask(p)
		}
		<-time.After(10 * time.Second) // of the bubble's clock
		if n := w.calls.Load() - before; n > MaxOpen {
			t.Errorf("%d questions at a time", n)
		}
		// And an agent that says what nobody asked for, or more than it may.
		var c wire.AnswerCoder
		for i := range 1000 {
			p, err := c.Encode(nil, &wire.Answer{ID: wire.AskID{9, byte(i)}, Text: lines(5)})
			if err != nil {
				t.Fatal(err)
			}
			w.asker.Take("e", p)
		}
		if n := len(w.asker.open); n != 0 {
			t.Errorf("%d questions are kept", n)
		}
		<-time.After(2 * forgotten) // of the bubble's clock
		if n := kept(w.to); n != 0 {
			t.Errorf("the agent keeps %d questions", n)
		}
		w.close()
	})
}

func TestAnAgentThatSaysMoreThanItMayIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a *Asker
		var c wire.AnswerCoder
		said := 0
		a = NewAsker(func(edge string, p []byte) error {
			var q wire.Ask
			if err := wire.DecodeAsk(p, &q); err != nil {
				t.Error(err)
			}
			if q.Stop {
				return nil
			}
			p, err := c.Encode(nil, &wire.Answer{ID: q.ID, Run: 1, Seq: q.Have, Text: strings.Repeat("\x1b]0;owned\x07 \u202e", 1000)})
			if err != nil {
				t.Error(err)
			}
			said++
			time.AfterFunc(time.Millisecond, func() {
				a.Take("another", p) // is not listened to
				a.Take(edge, p)
			})
			return nil
		})
		size := 0
		out, err := a.Ask(context.Background(), "e", Question{Kind: "log", For: time.Minute}, func(s string) error {
			size += len(s)
			if strings.ContainsAny(s, "\x1b\x07\u202e") {
				t.Fatal("a terminal would obey")
			}
			return nil
		})
		if err != nil || !out.Truncated || size > MaxText || said > MaxText/1000 {
			t.Errorf("%d bytes in %d pieces, %+v, %v", size, said, out, err)
		}
	})
}

func TestTwoAgentsOfOneNameAreNotMixed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWAN(t)
		w.gateway(false, say(strings.Repeat("first\n", 40_000)))
		first := w.to
		w.gateway(false, say(strings.Repeat("other\n", 40_000)))
		other := w.to
		publish := w.asker.publish
		w.asker.publish = func(edge string, p []byte) error {
			w.carry(p, first.Ask)
			w.carry(p, other.Ask)
			return nil
		}
		text, _, err := w.ask(Question{Kind: "log"})
		w.asker.publish = publish
		if err != nil || strings.Contains(text, "first") && strings.Contains(text, "other") || len(text) != 240_000 {
			t.Errorf("%d bytes, %v", len(text), err)
		}
		w.close()
	})
}

// Whatever a hub says, the agent keeps to its bounds.
func FuzzResponder(f *testing.F) {
	for _, a := range []*wire.Ask{{V: 1, Kind: "x"}, {V: 1, Kind: "x", Have: 1}, {V: 1, Have: 9, Again: true}, {V: 1, Stop: true}} {
		p, err := wire.EncodeAsk(a)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p, p)
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		r := NewResponder(ResponderConfig{Logger: slog.New(slog.DiscardHandler)})
		q := &question{ask: wire.Ask{V: 1}, run: 1, pieces: [][]byte{{1}, {2}, {3}}}
		r.open = append(r.open, q)
		for _, p := range [][]byte{first, second, first} {
			r.Ask(p)
			for range 10 {
				r.Next()
			}
		}
		if len(r.open) > MaxOpen || len(r.replies) > maxReplies || q.acked > q.sent || q.sent > len(q.pieces) {
			t.Errorf("%d questions, %d replies, %d acknowledged of %d sent of %d", len(r.open), len(r.replies), q.acked, q.sent, len(q.pieces))
		}
	})
}
