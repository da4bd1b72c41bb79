package edge

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/langbiang/langbiang/pkg/wire"
)

// fleetFile keeps the hub's configurations in the data folder. It is one file, so that
// one rename changes all of it at once.
const fleetFile = "fleet.json"

// fleetFormat is the version of what stands there.
const fleetFormat = 1

// trialStarts is how often the agent may die with a configuration before the hub was
// heard of with it, or while it examines one; the next start goes back, or refuses it.
const trialStarts = 3

// fleetState is what an agent must know of the hub's configurations across a power
// cut. A change is written before it is made.
type fleetState struct {
	Format int `json:"format"`
	// Newest is the highest version that was decided on: no older one is taken.
	Newest uint64 `json:"newest"`
	// Running is the one in force; nil: what stands in edge.yaml is.
	Running *hubConfig `json:"running,omitempty"`
	// Before is the newest that was confirmed before Running, to go back to; nil: what
	// stands in edge.yaml.
	Before *hubConfig `json:"before,omitempty"`
	// Trial says that the hub has not been heard of with Running, and Starts how many
	// starts with it have begun and not ended as they should, the present one too.
	Trial  bool `json:"trial,omitempty"`
	Starts int  `json:"starts,omitempty"`
	// Examining is the one that is being judged: if it stands here at a start, the
	// agent ended over it, perhaps by no fault of it. Examined is how often that began.
	Examining *wire.ConfigText `json:"examining,omitempty"`
	Examined  int              `json:"examined,omitempty"`
	// Verdict is of the newest version that does not run.
	Verdict *wire.ConfigVerdict `json:"verdict,omitempty"`
	// Own is the hash of edge.yaml's part when Running was taken: another one is drift.
	Own wire.Hash `json:"own,omitzero"`
}

// inForce is the configuration that a start is to run.
func (s *fleetState) inForce() *hubConfig {
	if s.Trial && s.Starts >= trialStarts {
		return s.Before
	}
	return s.Running
}

// released is the state once the gateway decides: what ran may be taken anew.
func (s *fleetState) released() fleetState {
	next := fleetState{Newest: s.Newest, Verdict: s.Verdict}
	if s.Running != nil && s.Running.Version == s.Newest {
		next.Newest--
	}
	return next
}

// judge notes a verdict; that of a newer version, which the hub waits for, stays.
func (s *fleetState) judge(v *wire.ConfigVerdict) {
	if s.Verdict == nil || s.Verdict.Version <= v.Version {
		s.Verdict = v
	}
}

// goBack makes Before the one that runs.
func (s *fleetState) goBack(outcome, reason string, at int64) {
	s.judge(&wire.ConfigVerdict{Version: s.Running.Version, Hash: s.Running.Hash, Outcome: outcome, Reason: reason, At: at})
	s.Running, s.Before, s.Trial, s.Starts = s.Before, nil, false, 0
}

// fleetStore keeps the state.
type fleetStore interface {
	load() (fleetState, error)
	// save has it on disk when it returns nil; after an error the old or the new one is.
	save(s *fleetState) error
}

// fleetFolder is the data folder as a fleetStore.
type fleetFolder string

// fleetRecord is the file: the sum is over the bytes of the state.
type fleetRecord struct {
	Sum   wire.Hash       `json:"sum"`
	State json.RawMessage `json:"state"`
}

func (d fleetFolder) load() (s fleetState, err error) {
	path := filepath.Join(string(d), fleetFile)
	if s, err = readFleet(path); err == nil {
		return s, nil
	}
	// The one before it: what happened last is forgotten, what runs most likely not.
	if old, oerr := readFleet(path + ".old"); oerr == nil && (old.Newest > 0 || !errors.Is(err, fs.ErrNotExist)) {
		return old, nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fleetState{}, nil
	}
	return fleetState{}, err
}

// errFleetNewer says that a newer agent wrote the file.
var errFleetNewer = errors.New("was written by a newer agent")

func readFleet(path string) (s fleetState, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return s, err
	}
	var r fleetRecord
	if err := json.Unmarshal(data, &r); err != nil {
		return s, fmt.Errorf("%s is damaged: %w", path, err)
	}
	if wire.HashConfig(string(r.State)) != r.Sum {
		return s, fmt.Errorf("%s is damaged: its sum is wrong", path)
	}
	if err := json.Unmarshal(r.State, &s); err != nil {
		return fleetState{}, fmt.Errorf("%s is damaged: %w", path, err)
	}
	if s.Format != fleetFormat {
		return fleetState{}, fmt.Errorf("%s %w (format %d, this one reads %d)", path, errFleetNewer, s.Format, fleetFormat)
	}
	return s, nil
}

func (d fleetFolder) save(s *fleetState) error {
	s.Format = fleetFormat
	state, err := json.Marshal(s)
	if err != nil {
		return err
	}
	data, err := json.Marshal(fleetRecord{wire.HashConfig(string(state)), state})
	if err != nil {
		return err
	}
	path := filepath.Join(string(d), fleetFile)
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	_ = os.Remove(path + ".old")
	if err := os.Link(path, path+".old"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		_ = err // a file system without links: there is no older one then
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return syncFolder(string(d))
}

func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// planOfHub is the plan of a gateway whose hub decides: with the configuration in
// force. One that no longer holds must not keep the gateway from being read: then it
// is the one before, or the file's own part, and unfit says why.
func (f *configFile) planOfHub() (*Plan, error) {
	s, err := fleetFolder(f.cfg.DataDir).load()
	if err != nil {
		plan, perr := f.plan(nil)
		if perr != nil {
			return nil, perr
		}
		plan.unfit = err
		return plan, nil
	}
	tried := s.inForce()
	plan, err := f.plan(tried)
	if err == nil || tried == nil {
		return plan, err
	}
	unfit := err
	if s.Before != nil && s.Before != tried {
		if plan, err = f.plan(s.Before); err == nil {
			plan.unfit = unfit
			return plan, nil
		}
	}
	if plan, err = f.plan(nil); err != nil {
		return nil, unfit // edge.yaml itself is faulty, most likely; both say so
	}
	plan.unfit = unfit
	return plan, nil
}
