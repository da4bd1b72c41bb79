package identity

import (
	"encoding/json"
	"fmt"
)

// Store keeps records durably, by kind and id. Its methods may be called from any
// goroutine; a write is on disk when it returns nil.
type Store interface {
	GetRecord(kind, id string) (data []byte, ok bool, err error)
	// PutRecord writes a record; nil data removes it.
	PutRecord(kind, id string, data []byte) error
	// Records calls fn for each record of a kind, in the order of their ids; data
	// is valid until fn returns.
	Records(kind string, fn func(id string, data []byte) error) error
}

// The kinds of record.
const (
	kindEdge    = "edge"
	kindEnrol   = "enrol" // tokens of gateways, by hash
	kindUser    = "user"
	kindSession = "session" // by hash
	kindToken   = "token"   // of machines, by hash
	kindSetting = "setting"
)

func load[T any](s Store, kind, id string) (v T, ok bool, err error) {
	data, ok, err := s.GetRecord(kind, id)
	if err != nil || !ok {
		return v, false, err
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return v, false, fmt.Errorf("record of %s %s: %w", kind, id, err)
	}
	return v, true, nil
}

func save(s Store, kind, id string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return s.PutRecord(kind, id, data)
}

func remove(s Store, kind, id string) error { return s.PutRecord(kind, id, nil) }

func each[T any](s Store, kind string, fn func(id string, v T) error) error {
	return s.Records(kind, func(id string, data []byte) error {
		var v T
		if err := json.Unmarshal(data, &v); err != nil {
			return fmt.Errorf("record of %s %s: %w", kind, id, err)
		}
		return fn(id, v)
	})
}
