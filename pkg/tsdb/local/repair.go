package local

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/langbiang/langbiang/pkg/tsdb/packed"
	"github.com/oklog/ulid/v2"
	promtsdb "github.com/prometheus/prometheus/tsdb"
)

// The folders of the TSDB.
const (
	walDir        = "wal"
	wblDir        = "wbl"
	headChunksDir = "chunks_head"
)

// repair makes the files of a TSDB that is not open such that the TSDB opens them
// without repairing, that is deleting, anything itself.
type repair struct {
	dir         string
	segmentSize int
	mark        mark
	aside       quarantine
	refs        *refs
	damaged     bool // a log is
	logger      *slog.Logger
}

// files looks at everything, sets damage aside and cuts torn tails.
func files(dir string, segmentSize int, m mark, now time.Time, logger *slog.Logger) (Report, error) {
	var report Report
	if err := pendingRewind(dir, &report); err != nil {
		return report, err
	}
	r := &repair{
		dir: dir, segmentSize: segmentSize, mark: m, refs: newRefs(), logger: logger,
		aside: quarantine{dir: dir, now: now, report: &report},
	}
	for _, step := range []func() error{r.blocks, r.head, r.floor, r.aside.finish} {
		if err := step(); err != nil {
			return report, err
		}
	}
	return report, nil
}

// blocks sets aside the blocks that cannot be opened. The TSDB would refuse to
// open, or pass over a block whose meta.json is unreadable without a word.
func (r *repair) blocks() error {
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return fmt.Errorf("list blocks: %w", err)
	}
	broken := make(map[ulid.ULID]error)
	replaced := make(map[ulid.ULID]bool)
	for _, e := range entries {
		id, err := ulid.ParseStrict(e.Name())
		if err != nil || !e.IsDir() {
			continue
		}
		b, err := promtsdb.OpenBlock(r.logger, filepath.Join(r.dir, e.Name()), nil, nil)
		if err != nil {
			if outside(err) {
				return fmt.Errorf("open block: %w", err)
			}
			broken[id] = err
			continue
		}
		for _, p := range b.Meta().Compaction.Parents {
			replaced[p.ULID] = true
		}
		known := packed.Check(b.Meta())
		if err := b.Close(); err != nil {
			return fmt.Errorf("close block: %w", err)
		}
		if known != nil {
			return known
		}
	}
	for id, cause := range broken {
		d := Damage{Path: id.String(), Reason: cause.Error()}
		if replaced[id] {
			d.Reason = "replaced by a larger block, nothing is lost: " + d.Reason
		}
		if err := r.aside.note(d, !replaced[id]); err != nil {
			return err
		}
		if err := r.aside.move(d.Path); err != nil {
			return err
		}
	}
	return nil
}

// outside reports whether an error says something of the machine and nothing of
// the files.
func outside(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EMFILE) ||
		errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM)
}

// head looks through both logs.
func (r *repair) head() error {
	base, first, err := r.checkpoint()
	if err != nil {
		return err
	}
	if base != nil {
		// Every later record leans on the series named here.
		if err := r.aside.note(*base, true); err != nil {
			return err
		}
		for _, dir := range []string{walDir, wblDir, headChunksDir} {
			if err := r.aside.move(dir); err != nil {
				return err
			}
		}
		return nil
	}
	slack := int64(6) // a page may end in six bytes that no record fits into
	if r.mark.Clean {
		slack = pageSize - 1 // and the last page is padded on closing
	}
	if err := r.log(walDir, first, r.mark.WAL, slack, r.refs.wal); err != nil {
		return err
	}
	if err := r.log(wblDir, -1, r.mark.WBL, slack, r.refs.wbl); err != nil {
		return err
	}
	return r.headChunks()
}

// headChunks drops the chunk files of the head. They repeat what is in the logs,
// nobody has synced them, and what is in them need not fit to what is left of the
// logs, or to a chunk of the same number that the TSDB has made since. All of
// them are made anew while the logs are read. When a log is damaged they may know
// more, and are kept for people.
func (r *repair) headChunks() error {
	if r.damaged {
		return r.aside.move(headChunksDir)
	}
	if err := os.RemoveAll(filepath.Join(r.dir, headChunksDir)); err != nil {
		return fmt.Errorf("drop head chunks: %w", err)
	}
	return nil
}

// checkpoint reads the condensed part of the write-ahead log. It returns what is
// wrong with it, or the number of the first segment after it, -1 for any.
func (r *repair) checkpoint() (*Damage, int, error) {
	wal := filepath.Join(r.dir, walDir)
	path, last, err := lastCheckpoint(wal)
	if err != nil || path == "" {
		return nil, -1, err
	}
	name := filepath.Join(walDir, filepath.Base(path))
	parts, err := listSegments(path)
	if err != nil {
		return nil, -1, err
	}
	for i, n := range parts {
		if i > 0 && n != parts[i-1]+1 {
			return &Damage{Path: name, Reason: fmt.Sprintf("segment %d is missing", parts[i-1]+1)}, -1, nil
		}
		scan, err := scanSegment(filepath.Join(path, segmentName(n)), r.refs.wal)
		if err != nil {
			return nil, -1, err
		}
		if scan.torn {
			return &Damage{Path: name, Reason: reason(scan)}, -1, nil
		}
	}
	segs, err := listSegments(wal)
	if err != nil {
		return nil, -1, err
	}
	if !slices.Contains(segs, last+1) {
		return &Damage{Path: walDir, Reason: fmt.Sprintf("segment %d is missing", last+1)}, -1, nil
	}
	return nil, last + 1, nil
}

// log reads a log through from the segment first, -1 for the oldest there is.
// What cannot be read on is cut; when it reaches into what was durable, or when
// more follows it, it is set aside and needs a rewind.
func (r *repair) log(dir string, first int, durable position, slack int64, each func([]byte) error) error {
	segs, err := listSegments(filepath.Join(r.dir, dir))
	if err != nil {
		return err
	}
	end := position{Segment: -1}
	whole := int64(0) // end of the last record in end.Segment
	var misleading []int
	var bad error
	rest := -1 // index in segs of the first one after the damage
	for i, n := range segs {
		if n < first {
			continue // condensed, and left behind by a crash
		}
		if end.Segment >= 0 && n != end.Segment+1 {
			bad, rest = fmt.Errorf("segment %d is missing", end.Segment+1), i
			break
		}
		scan, err := scanSegment(filepath.Join(r.dir, dir, segmentName(n)), each)
		if err != nil {
			return err
		}
		end, whole = position{n, scan.whole}, scan.whole
		if r.refs.misleading {
			r.refs.misleading = false
			misleading = append(misleading, n)
		}
		if scan.torn {
			bad, rest = errors.New(reason(scan)), i+1
			break
		}
		end.Offset = scan.size
	}
	missing := position{end.Segment, whole + slack}.before(durable)
	lost := missing || rest >= 0 && rest < len(segs)
	if lost {
		r.damaged = true
		if err := r.setLogAside(dir, end, durable, bad, segs, rest); err != nil {
			return err
		}
	}
	if bad != nil && end.Segment >= 0 {
		if err := r.cut(filepath.Join(dir, segmentName(end.Segment)), end.Offset, lost); err != nil {
			return err
		}
	}
	for _, n := range misleading {
		if err := dropMisleading(filepath.Join(r.dir, dir, segmentName(n)), r.segmentSize); err != nil {
			return err
		}
	}
	return nil
}

func reason(s segmentScan) string {
	if s.cause != nil {
		return fmt.Sprintf("unreadable at %d of %d bytes: %v", s.whole, s.size, s.cause)
	}
	return fmt.Sprintf("unreadable at %d of %d bytes", s.whole, s.size)
}

func (r *repair) setLogAside(dir string, end, durable position, bad error, segs []int, rest int) error {
	d := Damage{Path: dir}
	if end.Segment >= 0 {
		d.Path = filepath.Join(dir, segmentName(end.Segment))
	}
	if bad != nil {
		d.Reason = bad.Error()
	} else {
		d.Reason = fmt.Sprintf("ends at %d/%d, was durable to %d/%d", end.Segment, end.Offset, durable.Segment, durable.Offset)
	}
	if err := r.aside.note(d, true); err != nil {
		return err
	}
	if bad != nil && end.Segment >= 0 {
		if err := r.aside.copy(d.Path); err != nil {
			return err
		}
	}
	if rest < 0 {
		return nil
	}
	// The newest go first, so that a crash in between leaves no hole.
	for i := len(segs) - 1; i >= rest; i-- {
		if err := r.aside.move(filepath.Join(dir, segmentName(segs[i]))); err != nil {
			return err
		}
	}
	return nil
}

// cut shortens a segment to its whole records, durably.
func (r *repair) cut(path string, size int64, damage bool) error {
	full := filepath.Join(r.dir, path)
	st, err := os.Stat(full)
	if err != nil {
		return fmt.Errorf("cut log: %w", err)
	}
	if st.Size() > size {
		if !damage {
			r.aside.report.Cut = append(r.aside.report.Cut, Cut{Path: path, Bytes: st.Size() - size})
		}
		if err := os.Truncate(full, size); err != nil {
			return fmt.Errorf("cut log: %w", err)
		}
		if err := syncPath(full, fsyncFile); err != nil {
			return err
		}
	}
	return syncPath(filepath.Dir(full), fsyncFile)
}

// floor keeps the TSDB from giving a number to a new series that an
// out-of-order record still uses for one whose name is lost.
func (r *repair) floor() error {
	if r.refs.used <= r.refs.named {
		return nil
	}
	return raiseFloor(filepath.Join(r.dir, walDir), r.segmentSize, r.refs.used)
}
