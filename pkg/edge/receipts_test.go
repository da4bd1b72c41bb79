package edge

import (
	"os"
	"slices"
	"testing"

	"github.com/langbiang/langbiang/pkg/buffer"
	"github.com/langbiang/langbiang/pkg/driver"
)

// receiptLog is a log; life begins an epoch of its own and reads what it has.
type receiptLog struct {
	*buffer.Log
	t     *testing.T
	epoch byte
	seq   uint64
}

func (l *receiptLog) life() *receipts {
	l.t.Helper()
	r := newReceipts(l.Log)
	l.epoch++
	l.seq = 0
	if err := l.Begin(buffer.Epoch{l.epoch}); err != nil {
		l.t.Fatal(err)
	}
	return r
}

// frame stores a frame with everything up to the ticket, as the recorder does.
func (l *receiptLog) frame(r *receipts, upTo driver.Ticket) {
	l.t.Helper()
	l.seq++
	var attach []buffer.Attachment
	if data, _ := r.take(upTo); data != nil {
		attach = append(attach, buffer.Attachment{Key: receiptKey(buffer.Epoch{l.epoch}, l.seq), Data: data})
	}
	if err := l.Append(l.seq, []byte("frame"), 1, attach...); err != nil {
		l.t.Fatal(err)
	}
}

func (l *receiptLog) commit(r *receipts, upTo driver.Ticket) {
	l.t.Helper()
	if err := l.Commit(); err != nil {
		l.t.Fatal(err)
	}
	r.commit(upTo)
}

func (l *receiptLog) reopen(dir string) {
	l.t.Helper()
	log, err := buffer.Open(dir, buffer.Options{})
	if err != nil {
		l.t.Fatal(err)
	}
	l.Log = log
	l.t.Cleanup(func() { _ = log.Close() }) // a later life may have closed it
}

func TestMessagesAreKnownExactlyAsFarAsTheirFramesAreCommitted(t *testing.T) {
	dir := t.TempDir()
	l := &receiptLog{t: t}
	l.reopen(dir)
	r := l.life()
	message := func(n uint16) driver.Receipt { return driver.Receipt{ID: n, Sum: uint64(n) * 1e12} }
	want := func(r *receipts, connection string, ids ...uint16) {
		t.Helper()
		var all []driver.Receipt
		for _, n := range ids {
			all = append(all, message(n))
		}
		if got := r.Known(connection); !slices.Equal(got, all) {
			t.Errorf("%s: known are %v, want %v", connection, got, all)
		}
	}
	l.frame(r, 0)
	r.Note("a", message(1), 1)
	r.Note("b", message(7), 2)
	r.Note("a", message(2), 3)
	l.frame(r, 2)
	l.commit(r, 2)
	want(r, "a", 1)
	want(r, "b", 7)
	l.frame(r, 3) // in memory, when the power goes
	crashed := t.TempDir()
	if err := os.CopyFS(crashed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	l.reopen(crashed)
	r = l.life()
	want(r, "a", 1)
	want(r, "b", 7)
	// What was known before goes on in an epoch that has only begun.
	l.frame(r, 0)
	r.Note("a", message(3), 1)
	l.frame(r, 1)
	l.commit(r, 1)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l.reopen(crashed)
	want(l.life(), "a", 1, 3)
	l.frame(newReceipts(l.Log), 0)
	l.commit(newReceipts(l.Log), 0)
	for range receiptFrames {
		l.frame(&receipts{}, 0)
	}
	l.commit(&receipts{}, 0)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l.reopen(crashed)
	want(l.life(), "a") // acknowledged long ago
}

func TestReceiptsOfANewerAgentSayNothing(t *testing.T) {
	whole := encodeReceipts([]notedReceipt{{connection: "a", Receipt: driver.Receipt{ID: 1, Sum: 2}}, {connection: "b"}})
	if got := decodeReceipts(whole); len(got) != 2 || got[0].Sum != 2 || got[1].connection != "b" {
		t.Errorf("%+v", got)
	}
	if got := decodeReceipts(append([]byte{9}, whole[1:]...)); got != nil {
		t.Errorf("%+v", got)
	}
}

func FuzzReceipts(f *testing.F) {
	f.Add(encodeReceipts([]notedReceipt{{connection: "a", Receipt: driver.Receipt{ID: 1, Sum: 2}}, {connection: "b"}}))
	f.Add([]byte{1, 255, 255, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		all := decodeReceipts(b)
		if len(all) > len(b) {
			t.Fatalf("%d receipts of %d bytes", len(all), len(b))
		}
		if again := decodeReceipts(encodeReceipts(all)); len(again) != len(all) {
			t.Fatalf("%d receipts become %d", len(all), len(again))
		}
	})
}
