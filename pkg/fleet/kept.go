package fleet

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/langbiang/langbiang/pkg/wire"
)

// MaxVersions is how many versions of an edge are kept.
const MaxVersions = 20

// MaxWhy bounds what somebody says of a version, in bytes.
const MaxWhy = 1000

// Version is one act of somebody: a configuration that an edge is to run, or that
// nothing is wanted any more.
type Version struct {
	Version uint64    `json:"version"`
	Name    string    `json:"name,omitempty"` // of the file
	Hash    wire.Hash `json:"hash,omitzero"`
	Bytes   int       `json:"bytes,omitempty"`
	Who     string    `json:"who"`
	Why     string    `json:"why,omitempty"`
	At      time.Time `json:"at"`
	Cleared bool      `json:"cleared,omitempty"` // nothing is wanted
}

// The kinds of records, and the format of those that are JSON.
const (
	kindVersions = "config"
	kindText     = "configtext"
	kindState    = "configstate"
	format       = 1
)

// Store keeps records; *ledger.Ledger does.
type Store interface {
	GetRecord(kind, id string) (data []byte, ok bool, err error)
	// PutRecord has it on disk when it returns nil; nil data removes it.
	PutRecord(kind, id string, data []byte) error
	Records(kind string, fn func(id string, data []byte) error) error
}

// keptVersions is the record of an edge's versions.
type keptVersions struct {
	Format   int       `json:"format"`
	Last     uint64    `json:"last"` // the highest number ever given
	Versions []Version `json:"versions"`
}

// keptState is the record of what an edge said.
type keptState struct {
	Format int              `json:"format"`
	At     time.Time        `json:"at"`
	State  wire.ConfigState `json:"state"`
}

func decodeKept(id string, data []byte, v any, version *int) error {
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("configuration of edge %s: %w", id, err)
	}
	if *version != format {
		return fmt.Errorf("configuration of edge %s: written by a newer hub (format %d, this one reads %d)", id, *version, format)
	}
	return nil
}

func textID(edge string, version uint64) string { return fmt.Sprintf("%s/%d", edge, version) }

func (f *Fleet) put(kind, id string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return f.cfg.Store.PutRecord(kind, id, data)
}

// load reads everything but the texts.
func (f *Fleet) load() error {
	err := f.cfg.Store.Records(kindVersions, func(id string, data []byte) error {
		e := f.edge(id)
		return decodeKept(id, data, &e.kept, &e.kept.Format)
	})
	if err != nil {
		return err
	}
	return f.cfg.Store.Records(kindState, func(id string, data []byte) error {
		e := f.edge(id)
		return decodeKept(id, data, &e.said, &e.said.Format)
	})
}

// text returns a version with its text. The lock is held.
func (f *Fleet) text(e *edge, v *Version) (*wire.ConfigText, error) {
	if t := e.sending; t != nil && t.Version == v.Version {
		return t, nil
	}
	data, ok, err := f.cfg.Store.GetRecord(kindText, textID(e.id, v.Version))
	if err == nil && !ok {
		err = ErrNoVersion
	}
	if err != nil {
		return nil, fmt.Errorf("configuration of edge %s, version %d: %w", e.id, v.Version, err)
	}
	t := &wire.ConfigText{Version: v.Version, Name: v.Name, Hash: v.Hash, Packed: data}
	if err := t.Unpack(); err != nil {
		return nil, fmt.Errorf("configuration of edge %s, version %d: %w", e.id, v.Version, err)
	}
	return t, nil
}
