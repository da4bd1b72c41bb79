package edge

import (
	"bytes"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/langbiang/langbiang/pkg/buffer"
	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/profile"
)

// counting is an agent that counts events, as far as totals, receipts and the log
// go; the broker has sent it the messages 1 to sent.
type counting struct {
	t        *testing.T
	log      *buffer.Log
	totals   *totals
	receipts *receipts
	epoch    buffer.Epoch
	seq      uint64
	ticket   driver.Ticket
	cut      driver.Ticket // what the frames hold
	sent     uint16
}

// live begins a life on what is in the folder. What is not known is delivered
// again.
func (c *counting) live(dir string) {
	c.t.Helper()
	log, err := buffer.Open(dir, buffer.Options{})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = log.Close() })
	c.log, c.totals, c.receipts = log, newTotals(log, slog.New(slog.DiscardHandler)), newReceipts(log)
	c.epoch[0]++
	c.seq, c.ticket, c.cut = 0, 0, 0
	if err := log.Begin(c.epoch); err != nil {
		c.t.Fatal(err)
	}
	known := c.receipts.Known("a")
	for n := uint16(1); n <= c.sent; n++ {
		if !slices.Contains(known, driver.Receipt{ID: n}) {
			c.message(n)
		}
	}
}

func (c *counting) message(n uint16) {
	s, _ := c.totals.Load("gate", "cars")
	s.Base++
	c.ticket++
	c.totals.Save("gate", "cars", s)
	c.receipts.Note("a", driver.Receipt{ID: n}, c.ticket)
}

func (c *counting) frame() {
	c.t.Helper()
	data, all := c.receipts.take(c.ticket)
	if all {
		c.totals.stage()
	}
	c.seq++
	c.cut = c.ticket
	var attach []buffer.Attachment
	if data != nil {
		attach = append(attach, buffer.Attachment{Key: receiptKey(c.epoch, c.seq), Data: data})
	}
	if err := c.log.Append(c.seq, []byte("frame"), 1, attach...); err != nil {
		c.t.Fatal(err)
	}
}

// commit is killed after so many of its three steps.
func (c *counting) commit(steps int) {
	c.t.Helper()
	if steps > 0 {
		if err := c.totals.flush(c.epoch, c.seq); err != nil {
			c.t.Fatal(err)
		}
	}
	if steps > 1 {
		if err := c.log.Commit(); err != nil {
			c.t.Fatal(err)
		}
	}
	if steps > 2 {
		c.totals.commit()
		c.receipts.commit(c.cut)
	}
}

// Whenever the agent is killed, what it counted and what it knows of the messages
// are of one moment, so no event is counted twice and none is left out.
func TestEventsAreCountedOnceWheneverTheAgentIsKilled(t *testing.T) {
	for seed := range uint64(12) {
		rng := rand.New(rand.NewPCG(seed, 1))
		c := &counting{t: t}
		dir := t.TempDir()
		c.live(dir)
		kills := 0
		for kills < 5 {
			switch rng.IntN(8) {
			case 0, 1, 2, 3:
				c.sent++
				c.message(c.sent)
			case 4, 5:
				c.frame()
			case 6:
				c.commit(3)
			case 7:
				c.commit(rng.IntN(4))
				next := t.TempDir()
				if err := os.CopyFS(next, os.DirFS(dir)); err != nil {
					t.Fatal(err)
				}
				_ = c.log.Close()
				dir = next
				c.live(dir)
				kills++
			}
			if s, _ := c.totals.Load("gate", "cars"); s.Base != float64(c.sent) {
				t.Fatalf("seed %d, after %d kills: %v of %d events were counted", seed, kills, s.Base, c.sent)
			}
		}
	}
}

func TestTotalsOfAnOlderAgentGoOn(t *testing.T) {
	log, err := buffer.Open(t.TempDir(), buffer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	var said bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&said, nil))
	if err := log.SetMeta(oldTotalsKey, []byte(`{"station/rain_total":{"base":65536,"last":16384}}`)); err != nil {
		t.Fatal(err)
	}
	want := profile.CountState{Base: 65536, Last: 16384}
	if s, _ := newTotals(log, logger).Load("station", "rain_total"); s != want || said.Len() > 0 {
		t.Errorf("%+v %s", s, said.String())
	}
	if err := log.SetMeta(totalsKey, []byte(`{"known":`)); err != nil {
		t.Fatal(err)
	}
	if _, ok := newTotals(log, logger).Load("station", "rain_total"); ok || said.Len() == 0 {
		t.Errorf("a torn value was believed: %s", said.String())
	}
}
