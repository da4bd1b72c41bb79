package buffer

import (
	"bytes"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func TestViewSeesWhatTheLogHasAndChangesNothing(t *testing.T) {
	dir, frames, o := written(t)
	before := folder(t, dir)
	v, err := OpenView(dir)
	must(t, err)
	st := v.Stats()
	if st.Frames != frames || st.Segments != 3 || st.Newest != at(1, frames) || st.Oldest != at(1, 1) || st.Safe != at(1, frames-30) {
		t.Errorf("%+v", st)
	}
	if n, err := v.Unsafe(); err != nil || n != 30 {
		t.Errorf("%d unsafe frames, %v", n, err)
	}
	if gaps, err := v.Gaps(); err != nil || len(gaps) != 0 {
		t.Errorf("gaps %v, %v", gaps, err)
	}
	n := uint64(0)
	must(t, v.Read(func(r Record) error {
		n++
		if r.Pos != at(1, n) || r.Missing != nil || !bytes.Equal(r.Payload, payloadOf(tagOf(1), n, -3000)) {
			t.Errorf("frame %d is %s, missing %v", n, r.Pos, r.Missing)
		}
		if b, ok := v.Attachment([16]byte{1}); !ok || string(b) != "schema" {
			t.Errorf("frame %d: no attachment", n)
		}
		return nil
	}))
	if n != frames {
		t.Errorf("%d frames of %d", n, frames)
	}
	must(t, v.Verify(func(r SegmentReport) error {
		if r.Err != nil || r.Readable != r.Frames {
			t.Errorf("%+v", r)
		}
		return nil
	}))
	if after := folder(t, dir); !bytes.Equal(before, after) {
		t.Error("the folder has changed")
	}
	// The same beside an owner that holds the lock and has not committed.
	l := open(t, dir, o)
	must(t, l.Begin(tagOf(2)))
	appendN(t, l, 2, 1, 5, -3000)
	v, err = OpenView(dir)
	must(t, err)
	if st := v.Stats(); st.Frames != frames || st.Epochs != 2 {
		t.Errorf("%+v", st)
	}
	must(t, l.Commit())
	v, err = OpenView(dir)
	must(t, err)
	if st := v.Stats(); st.Frames != frames+5 || st.Newest != at(2, 5) {
		t.Errorf("%+v", st)
	}
}

func folder(t *testing.T, dir string) (all []byte) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		must(t, err)
		all = append(append(append(all, e.Name()...), 0), b...)
	}
	return all
}

func TestViewOfADamagedLogNamesWhatIsDamagedAndGivesTheRest(t *testing.T) {
	dir, frames, _ := written(t)
	files := segmentFiles(t, dir)
	b, err := os.ReadFile(files[1])
	must(t, err)
	copy(b[20*pageSize:], bytes.Repeat([]byte{0xFF}, 8*pageSize))
	must(t, os.WriteFile(files[1], b, 0o600))
	before := folder(t, dir)
	v, err := OpenView(dir)
	must(t, err)
	bad := 0
	lost := uint64(0)
	must(t, v.Verify(func(r SegmentReport) error {
		if r.Err != nil {
			bad++
			lost = r.Frames - r.Readable
			if r.File != filepath.Base(files[1]) {
				t.Errorf("%s is damaged: %v", r.File, r.Err)
			}
		}
		return nil
	}))
	n, declared := uint64(0), uint64(0)
	must(t, v.Read(func(r Record) error {
		n++
		if r.Missing != nil {
			declared += r.Missing.Next.Seq - r.Missing.After.Seq - 1
		}
		if !bytes.Equal(r.Payload, payloadOf(tagOf(1), r.Pos.Seq, -3000)) {
			t.Errorf("%s: wrong payload", r.Pos)
		}
		return nil
	}))
	if bad != 1 || lost == 0 || declared != lost || n+lost != frames {
		t.Errorf("%d damaged, %d frames of %d, %d lost, %d declared", bad, n, frames, lost, declared)
	}
	if after := folder(t, dir); !bytes.Equal(before, after) {
		t.Error("the folder has changed")
	}
}

// A view is read again and again while the log commits, rolls and evicts: each is
// of one moment, and whole.
func TestViewBesideAWriter(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, Options{SegmentSize: minSegment, MaxSize: 6 * minSegment})
	must(t, l.Begin(tagOf(1)))
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(done)
		for seq := uint64(1); seq <= 1500; seq++ {
			if err := l.Append(seq, payloadOf(tagOf(1), seq, 300), int64(seq)); err != nil {
				t.Error(err)
			}
			if seq%5 == 0 {
				if err := l.Commit(); err != nil {
					t.Error(err)
				}
			}
		}
	})
	views := 0
	for running := true; running; views++ {
		select {
		case <-done:
			running = false
		default:
		}
		v, err := OpenView(dir)
		must(t, err)
		must(t, v.Verify(func(r SegmentReport) error {
			if r.Err != nil {
				t.Errorf("view %d: %s: %v", views, r.File, r.Err)
			}
			return nil
		}))
		must(t, v.Read(func(r Record) error {
			if !bytes.Equal(r.Payload, payloadOf(tagOf(1), r.Pos.Seq, 300)) {
				t.Errorf("%s: wrong payload", r.Pos)
			}
			return nil
		}))
	}
	wg.Wait()
	if s := l.Stats(); s.Corrupt != 0 || s.CommitFailures != 0 || views < 3 {
		t.Errorf("%d views, %+v", views, s)
	}
}
