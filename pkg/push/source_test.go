package push

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/langbiang/langbiang/pkg/wire"
)

// What was answered with success is in the log of the next start, whose frames go
// on from it: numbers of series, watermark, the interval in which nobody looked.
func TestAStartGoesOnWhereTheOneBeforeEnded(t *testing.T) {
	r := newRig(t, Config{})
	if code, p := r.post("/write", "a,host=h v=1 "+ns(0)+"\nb,host=h v=2 "+ns(0)); code != http.StatusNoContent {
		t.Fatalf("%d %+v", code, p)
	}
	r.clock.Add(1000)
	if code, p := r.post("/write", "c,host=h v=3 "+ns(1)); code != http.StatusNoContent {
		t.Fatalf("%d %+v", code, p)
	}
	// As a kill leaves it: the files as they are, and nobody closes them.
	copied := t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(r.dir)); err != nil {
		t.Fatal(err)
	}
	_ = os.Remove(filepath.Join(copied, "lock"))
	r.stop()
	r.dir = copied
	r.clock.Add(60_000)
	r.open(Config{})
	if code, p := r.post("/write", "b,host=h v=4 "+ns(61)+"\nd,host=h v=5 "+ns(61)); code != http.StatusNoContent {
		t.Fatalf("%d %+v", code, p)
	}
	got, frames := r.committed()
	if len(got) != 5 {
		t.Errorf("%+v", got)
	}
	var first *wire.Header
	for i := range frames {
		if frames[i].Epoch == r.begun.Epoch {
			first = &frames[i]
			break
		}
	}
	if first == nil || first.Seq != 1 || first.Prev != frames[2].Pos() || len(first.Marks) != 1 ||
		first.Marks[0].From != noon.UnixMilli()+1000 || first.Marks[0].To != noon.UnixMilli()+61_000 {
		t.Errorf("the first frame of the second start: %+v", first)
	}
	if n := r.Stats().Series; n != 4 {
		t.Errorf("%d series", n)
	}
}

// Requests that wait together share a frame, and each is answered.
func TestManySendersAtOnce(t *testing.T) {
	r := newRig(t, Config{})
	const senders, each = 20, 25
	var wg sync.WaitGroup
	for i := range senders {
		wg.Go(func() {
			for k := range each {
				if code, p := r.post("/write", fmt.Sprintf("m,host=h%d v=%d %s", i, k, ns(k-each))); code != http.StatusNoContent {
					t.Errorf("%d %+v", code, p)
				}
			}
		})
	}
	wg.Wait()
	got, frames := r.committed()
	if len(got) != senders*each {
		t.Errorf("%d rows", len(got))
	}
	for i := 1; i < len(frames); i++ {
		if frames[i].Seq != frames[i-1].Seq+1 || frames[i].PrevW != frames[i-1].W {
			t.Errorf("frame %d follows %d: W %d to %d, then %d", frames[i].Seq, frames[i-1].Seq, frames[i-1].PrevW, frames[i-1].W, frames[i].PrevW)
		}
	}
}

// A frame that is too large for a message comes in parts, and the watermark with
// the last.
func TestLargeRequestsComeInParts(t *testing.T) {
	r := newRig(t, Config{MaxSeries: 1000, ID: "s", Site: "1", Device: "{host}"})
	var body strings.Builder
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 1000 {
		for k := range 60 {
			fmt.Fprintf(&body, "m,host=h%d v=%v %s\n", i, random.Float64(), ns(-k))
		}
	}
	if code, p := r.post("/write", body.String()); code != http.StatusNoContent {
		t.Fatalf("%d %+v", code, p)
	}
	got, frames := r.committed()
	if len(got) != 60_000 || len(frames) < 3 {
		t.Errorf("%d rows in %d frames", len(got), len(frames))
	}
	for _, f := range frames[1 : len(frames)-1] {
		if f.W != f.PrevW {
			t.Errorf("frame %d moves the watermark", f.Seq)
		}
	}
}

func TestAfterTheEndNobodyIsTaken(t *testing.T) {
	r := newRig(t, Config{})
	r.stop()
	code, p := r.post("/write", "a v=1")
	if code != http.StatusServiceUnavailable || p.Title != "not taken" {
		t.Errorf("%d %+v", code, p)
	}
	b := newBatch(&r.cfg, noon)
	if err := readLines([]byte("a v=1"), 0, r.table, b); err != nil {
		t.Fatal(err)
	}
	if err := r.Write(t.Context(), b.readings); !errors.Is(err, ErrStopped) {
		t.Errorf("got %v", err)
	}
}
