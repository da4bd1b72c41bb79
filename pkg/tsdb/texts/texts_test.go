package texts

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/tsdb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const t0 = int64(1_767_225_600_000)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, dir string, o Options) *Log {
	t.Helper()
	if o.Now == nil {
		o.Now = func() int64 { return t0 + time.Hour.Milliseconds() }
	}
	l, err := Open(dir, o)
	check(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func door(point string) telemetry.Labels {
	return telemetry.NewLabels(map[string]string{tsdb.NameLabel: "door_text", "edge": "e", "device": "d", "point": point})
}

// all returns the states of a point, oldest first: "time text".
func all(t *testing.T, l *Log, point string) (out []string) {
	t.Helper()
	for cursor := ""; ; {
		list, next, err := l.Query(Query{Where: map[string]string{"point": point, "site": ""}}, cursor, 3)
		check(t, err)
		for _, s := range list {
			text := s.Text
			if s.Quality.IsBad() {
				text = "unknown"
			}
			out = append([]string{fmt.Sprintf("%d %s", s.Time-t0, text)}, out...)
		}
		if cursor = next; next == "" {
			return out
		}
	}
}

func TestAStateIsKeptWhenItBegins(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, Options{})
	good := telemetry.NewQuality(telemetry.Good, 0)
	give := func(readings ...string) {
		for _, r := range readings {
			var at int64
			var text string
			_, err := fmt.Sscanf(r, "%d %s", &at, &text)
			check(t, err)
			q := good
			if text == "unknown" {
				text, q = "", telemetry.BadQuality(telemetry.ReasonNonFinite)
			}
			l.Append(door("a"), t0+at, text, q)
		}
	}
	give("0 open", "1 open", "2 open", "3 shut")
	l.Append(door("b"), t0, "x", good)
	check(t, l.Sync())
	give("4 shut", "5 open", "6 unknown", "7 unknown", "8 open")
	check(t, l.Sync())
	want := []string{"0 open", "3 shut", "5 open", "6 unknown", "8 open"}
	if diff := cmp.Diff(want, all(t, l, "a")); diff != "" {
		t.Error(diff)
	}
	check(t, l.Close())

	// After a crash the edges send some of it again; and what is new goes on.
	l = open(t, dir, Options{})
	give("3 shut", "4 shut", "5 open", "6 unknown", "7 unknown", "8 open", "9 open")
	check(t, l.Sync())
	give("1 open", "2 half") // late
	check(t, l.Sync())
	want = []string{"0 open", "2 half", "3 shut", "5 open", "6 unknown", "8 open"}
	if diff := cmp.Diff(want, all(t, l, "a")); diff != "" {
		t.Error(diff)
	}
	list, _, err := l.Query(Query{From: t0 + 3, To: t0 + 5}, "", 10)
	check(t, err)
	if len(list) != 2 || list[0].Text != "open" || list[1].Text != "shut" || list[0].Labels[tsdb.NameLabel] != "door_text" {
		t.Errorf("%+v", list)
	}
	if _, _, err := l.Query(Query{}, "zz", 10); !errors.Is(err, ErrCursor) {
		t.Errorf("a bad cursor: %v", err)
	}
	if st, err := l.Stats(); err != nil || st.Series != 2 || st.Oldest != t0 || st.Bytes == 0 {
		t.Errorf("%+v %v", st, err)
	}
}

func TestTheOldestStatesGoByAgeAndSize(t *testing.T) {
	now := t0
	l := open(t, t.TempDir(), Options{MaxBytes: 2000, Keep: time.Hour, Now: func() int64 { return now }})
	for i := range int64(100) {
		l.Append(door("a"), t0+i, fmt.Sprintf("%032d", i), 0)
	}
	check(t, l.Sync())
	got := all(t, l, "a")
	if n := len(got); n < 30 || n > 41 || !strings.HasSuffix(got[n-1], " "+fmt.Sprintf("%032d", 99)) {
		t.Errorf("%d states of 49 bytes are left in 2,000", n)
	}
	now = t0 + time.Hour.Milliseconds() + 95
	l.Append(door("b"), now, "x", 0)
	check(t, l.Sync())
	if n := len(all(t, l, "a")); n != 5 {
		t.Errorf("%d states are left of the last hour, want 5", n)
	}
}

func TestADamagedFileIsSetAside(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, Options{})
	l.Append(door("a"), t0, "x", 0)
	check(t, l.Close())
	path := filepath.Join(dir, FileName)
	b, err := os.ReadFile(path)
	check(t, err)
	copy(b, bytes.Repeat([]byte{0xff}, 2*os.Getpagesize()))
	check(t, os.WriteFile(path, b, 0o600))
	l = open(t, dir, Options{})
	need, err := l.NeedRewind()
	if err != nil || !need {
		t.Errorf("a damaged file is taken: %v %v", need, err)
	}
	check(t, l.Rewound())
	if need, err := l.NeedRewind(); err != nil || need {
		t.Errorf("after the rewind: %v %v", need, err)
	}
	if aside, _ := filepath.Glob(path + ".corrupt-*"); len(aside) != 1 {
		t.Errorf("set aside: %q", aside)
	}
	l.Append(door("a"), t0, "x", 0)
	check(t, l.Sync())
	if got := all(t, l, "a"); len(got) != 1 {
		t.Errorf("%q", got)
	}
	if _, err := Open(dir, Options{}); !errors.Is(err, tsdb.ErrLocked) {
		t.Errorf("opened twice: %v", err)
	}
}

func TestACopyTakenWhileItIsWrittenIsALog(t *testing.T) {
	l := open(t, t.TempDir(), Options{})
	l.Append(door("a"), t0, "x", 0)
	check(t, l.Sync())
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, FileName))
	check(t, err)
	check(t, l.Backup(f))
	check(t, f.Close())
	if got := all(t, open(t, dir, Options{}), "a"); len(got) != 1 {
		t.Errorf("%q", got)
	}
}
