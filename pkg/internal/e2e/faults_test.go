package e2e

import (
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/langbiang/langbiang/pkg/wire"
)

// disturb begins what a step does to the link; the function that it returns ends
// it.
func (s *station) disturb(st step) (calm func()) {
	switch st.link {
	case linkCut:
		s.proxy.cut()
	case linkDown:
		s.proxy.set(trick{down: true})
	case linkMidway:
		s.proxy.set(trick{midway: true})
	case linkFrozen:
		s.proxy.set(trick{frozen: true})
	case linkSlow:
		s.proxy.set(trick{delay: st.delay})
	case linkNarrow:
		s.proxy.set(trick{rate: st.rate})
	case linkMess:
		s.proxy.set(trick{mess: true})
	case linkVanish:
		if s.w.ns == nil {
			s.proxy.set(trick{down: true})
			break
		}
		s.w.must(s.w.ns.up(false)) // for all edges
		return func() { s.w.must(s.w.ns.up(true)) }
	case linkNetem:
		if s.w.ns == nil || !s.w.ns.netem {
			s.proxy.set(trick{delay: st.delay})
			break
		}
		s.w.must(s.w.ns.shape("delay", st.delay.String(), "50ms", "loss", "5%", "duplicate", "5%", "reorder", "20%"))
		return s.w.ns.unshape
	}
	return func() {
		s.proxy.set(trick{})
		if st.link == linkFrozen && (st.trouble%2 == 0 || !s.w.patient) {
			s.proxy.cut() // the router was started anew; else nobody tells the edge
		}
	}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// fault does what a step does beside the link, and undoes it.
func (w *world) fault(st step) {
	s := w.stations[st.edge]
	rnd := rand.New(rand.NewPCG(st.trouble, 6))
	hold := func() { <-time.After(st.hold) }
	switch st.fault {
	case doNothing:
		hold()
	case killEdge:
		s.kill()
		s.image = clone(w.t, s.dir, filepath.Join(w.dir, s.id+".image"))
		hold()
		s.start()
	case killHub:
		w.killHub()
		w.hubCopy = clone(w.t, filepath.Join(w.dir, "hub"), filepath.Join(w.dir, "hub.copy"))
		hold()
		w.startHub()
	case killBoth:
		s.kill()
		w.killHub()
		hold()
		s.start()
		w.startHub()
	case killField:
		w.field.kill()
		hold()
		w.startField()
	case stopEdge:
		w.pause(s.agent, hold)
	case stopHub:
		w.pause(w.hub, hold)
	case brokerDown:
		w.post("/broker?up=false")
		hold()
		w.post("/broker?up=true")
	case fullEdge:
		w.fillEdge(s, hold)
	case fullHub:
		w.fillHub(hold)
	case damageEdge:
		s.kill()
		s.damage(rnd)
		s.start()
		hold()
	case damageHub:
		w.killHub()
		w.damageWAL(rnd)
		hold()
		w.startHub()
	case loseMeta:
		s.kill()
		flip(w.t, rnd, filepath.Join(s.logDir(), "meta"))
		s.start()
		hold()
	case stepClock:
		// Less than what makes the hub refuse, both ways, whatever came before.
		s.eras = true
		s.clock.OffsetMS = rnd.Int64N(700_000) - 350_000
		if err := s.clock.write(filepath.Join(w.dir, s.id+".clock")); err != nil {
			w.t.Fatal(err)
		}
		hold()
	case rebootNoTime:
		s.kill()
		s.eras = true
		now := time.Now()
		s.clock = clockFile{OffsetMS: -now.UnixMilli(), Boot: bootName(rnd.Uint64N(1e12)), BootMS: now.UnixMilli()}
		s.start()
		hold()
		s.clock.OffsetMS, s.clock.Synced = 0, rnd.IntN(2) == 0 // a time service, or the hub's word
		if err := s.clock.write(filepath.Join(w.dir, s.id+".clock")); err != nil {
			w.t.Fatal(err)
		}
	case oldImage:
		w.restoreImage(s, 1+rnd.IntN(3), hold)
	case oldHub:
		w.restoreHub(hold)
	default:
		w.t.Fatalf("no such fault: %s", st.fault)
	}
}

// pause stops a program for a while, as a machine that swaps or a debugger does.
func (w *world) pause(p *process, hold func()) {
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		w.t.Fatalf("SIGSTOP %s: %v", p.name, err)
	}
	hold()
	if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		w.t.Fatalf("SIGCONT %s: %v", p.name, err)
	}
}

// clone copies a folder, in place of an older copy.
func clone(t *testing.T, from, to string) string {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	copyTree(t, from, to)
	return to
}

// copyTree copies folders and files; sockets are left out.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(to, strings.TrimPrefix(path, from))
		switch {
		case d.IsDir():
			return os.MkdirAll(target, 0o755)
		case !d.Type().IsRegular():
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, b, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// replace puts a copy in the place of a folder's content; the folder itself may be
// a mount point and stays.
func (w *world) replace(dir, copy string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			w.t.Fatal(err)
		}
	}
	copyTree(w.t, copy, dir)
}

// fill takes all room of a small file system; the function that it returns gives
// it back.
func (w *world) fill(dir string) (room func()) {
	path := filepath.Join(dir, "filler")
	f, err := os.Create(path)
	if err != nil {
		w.t.Fatal(err)
	}
	block := make([]byte, 1<<20)
	for len(block) > 0 {
		if _, err := f.Write(block); err != nil {
			block = block[:len(block)/2]
		}
	}
	_ = f.Close()
	return func() {
		if err := os.Remove(path); err != nil {
			w.t.Fatal(err)
		}
	}
}

// fillEdge lets the edge's disk be full. The blocks that the log has reserved are
// taken away first, as on a file system that cannot reserve any.
func (w *world) fillEdge(s *station, hold func()) {
	if !s.tmpfs {
		hold()
		return
	}
	s.kill()
	for _, path := range segments(w.t, s.logDir()) {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			w.t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			w.t.Fatal(err)
		}
		used := int64(len(b))
		for used > 0 && b[used-1] == 0 {
			used--
		}
		used = (used + 4095) &^ 4095
		if used < int64(len(b)) {
			if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, used, int64(len(b))-used); err != nil {
				w.t.Fatal(err)
			}
		}
		_ = f.Close()
	}
	s.facts.harmed = true
	room := w.fill(s.dir)
	s.start()
	hold()
	hold()
	room()
}

// fillHub lets the hub's disk be full. A hub that cannot write ends itself, and its
// service manager starts it anew.
func (w *world) fillHub(hold func()) {
	if !w.hubTmpfs {
		hold()
		return
	}
	room := w.fill(filepath.Join(w.dir, "hub"))
	hold()
	hold()
	room()
	// Whatever it did, it must come back; what it has not said is safe comes again.
	w.killHub()
	w.startHub()
}

func segments(t *testing.T, dir string) []string {
	files, err := filepath.Glob(filepath.Join(dir, "seg-*.db"))
	if err != nil || len(files) == 0 {
		t.Fatal("no segments in ", dir, err)
	}
	return files
}

// flip turns one to forty bits of a file over.
func flip(t *testing.T, rnd *rand.Rand, path string) {
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	used := len(b)
	for used > 0 && b[used-1] == 0 {
		used--
	}
	if used == 0 {
		return
	}
	for range 1 + rnd.IntN(40) {
		b[rnd.IntN(used)] ^= 1 << rnd.IntN(8)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// damage harms one segment of the edge's log.
func (s *station) damage(rnd *rand.Rand) {
	files := segments(s.w.t, s.logDir())
	path := files[rnd.IntN(len(files))]
	s.facts.harmed = true
	if rnd.IntN(3) > 0 {
		flip(s.w.t, rnd, path)
		return
	}
	info, err := os.Stat(path)
	if err != nil {
		s.w.t.Fatal(err)
	}
	if err := os.Truncate(path, rnd.Int64N(min(info.Size(), 256<<10))); err != nil {
		s.w.t.Fatal(err)
	}
}

// damageWAL harms the hub's write-ahead log.
func (w *world) damageWAL(rnd *rand.Rand) {
	var files []string
	for _, log := range []string{"wal", "wbl"} {
		dir := filepath.Join(w.dir, "hub", "data", "tsdb", log)
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // no sample was out of order yet
		}
		for _, e := range entries {
			if info, err := e.Info(); err == nil && info.Mode().IsRegular() && info.Size() > 0 {
				files = append(files, filepath.Join(dir, e.Name()))
			}
		}
	}
	slices.Sort(files)
	if len(files) == 0 {
		return
	}
	path := files[rnd.IntN(len(files))]
	if rnd.IntN(3) > 0 {
		flip(w.t, rnd, path)
		return
	}
	info, err := os.Stat(path)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := os.Truncate(path, rnd.Int64N(info.Size())); err != nil {
		w.t.Fatal(err)
	}
}

// restoreHub puts an older copy of the hub's folder in place.
func (w *world) restoreHub(hold func()) {
	if w.hubCopy == "" {
		hold()
		return
	}
	w.killHub()
	w.replace(filepath.Join(w.dir, "hub"), w.hubCopy)
	hold()
	w.startHub()
}

// restoreImage puts an older image of the edge's disk in place and starts it as
// often as it takes to overtake the start counter: the hub must see a fork and take
// nothing. Then the right disk comes back.
func (w *world) restoreImage(s *station, starts int, hold func()) {
	if s.image == "" {
		hold()
		return
	}
	s.kill()
	s.start() // the hub hears of a later epoch than any that the image can know
	was, ok := edgeState{}, false
	w.eventually(150*time.Second, s.id+" is at its newest epoch", func() bool {
		was, ok = w.state(s.id)
		var at wire.Epoch
		return ok && at.UnmarshalText([]byte(was.Epoch)) == nil && at.Start > s.facts.last.Epoch.Start
	})
	s.kill()
	right := clone(w.t, s.dir, filepath.Join(w.dir, s.id+".right"))
	was, _ = w.state(s.id) // it may have taken a frame more before the kill
	known := s.facts.epochs()
	w.replace(s.dir, s.image)
	for range starts {
		s.start()
		w.eventually(150*time.Second, s.id+" is seen to run from an old image", func() bool {
			now, ok := w.state(s.id)
			if ok && now.place != was.place {
				w.t.Fatalf("%s: the hub took frames of a restored image: it stood at %v, now at %v", s.id, was.place, now.place)
			}
			return ok && now.Status == "fork"
		})
		hold()
		s.agent.kill()
		s.facts.exclude(s.logDir(), known)
	}
	w.replace(s.dir, right)
	s.start()
}
