package wire

import (
	"encoding/json"
	"fmt"
)

// Hello is what an edge says when it connects, and whenever it wants to know
// where the hub stands. The hub answers with an [Ack] that repeats the nonce.
type Hello struct {
	V        int      `json:"v"`
	Instance Instance `json:"instance"`
	Epoch    Epoch    `json:"epoch"`  // the current one
	Oldest   Pos      `json:"oldest"` // first frame in the log; zero: it is empty
	Newest   Pos      `json:"newest"` // last frame in the log
	// Safe is the place up to which the hub has told this run of the agent that
	// everything is on its disk; nil: none yet. A hub that stands behind it was
	// restored from a backup.
	Safe     *Pos   `json:"safe,omitempty"`
	Site     string `json:"site,omitempty"`
	Version  string `json:"version,omitempty"` // of the agent
	Nonce    uint64 `json:"nonce,string"`
	Clock    Clock  `json:"clock"`
	Schema   Hash   `json:"schema"`             // the current one
	Series   int    `json:"series"`             // in the current schema
	Devices  int    `json:"devices"`            // in the current schema
	Backlog  uint64 `json:"backlog,string"`     // bytes in the log that the hub has not got, as far as the edge knows
	Platform string `json:"platform,omitempty"` // for people: "linux/arm64"
	// AckWithin is for how long the hub may hold back an acknowledgement that is
	// not urgent, in ms: fewer of them on a link that costs. 0: as the hub likes.
	AckWithin uint32 `json:"ack_within,omitempty"`
	// SendEvery is how far apart the edge's messages are, in ms: its watermark lags by
	// as much. 0: not known.
	SendEvery uint32 `json:"send_every,omitempty"`
	// Bands names the bands to watch that the edge has, see [BandsID]; 0: none.
	Bands uint32 `json:"bands,omitempty"`
	// Ask says whether the agent answers questions, see [Ask]: AskOn, or AskOff when its
	// owner does not want that; empty: it is too old to know any.
	Ask string `json:"ask,omitempty"`
}

// What a [Hello] says of questions.
const (
	AskOn  = "on"
	AskOff = "off"
)

// Clock is what an edge knows of its own clock.
type Clock struct {
	Now     int64  `json:"now"` // log time, ms
	Trusted bool   `json:"trusted"`
	Source  string `json:"source,omitempty"` // "synchronised", "hub", "configured"
	Era     uint32 `json:"era"`
}

// State is the retained document on the state topic. The broker publishes the
// one with Online false as the edge's last will; a hub ignores it unless it
// carries the epoch and the connection that it knows to be the latest.
type State struct {
	V      int    `json:"v"`
	Epoch  Epoch  `json:"epoch"`
	Online bool   `json:"online"`
	At     int64  `json:"at"`               // log time of the connection, ms
	Reason string `json:"reason,omitempty"` // "stopped" when the agent said good-bye
	// Disk is what the edge's disk refuses its log with, empty while it takes it.
	// The document is published anew when that changes.
	Disk string `json:"disk,omitempty"`
}

// EncodeHello returns the document.
func EncodeHello(h *Hello) ([]byte, error) { return encodeJSON(h, MaxJSON) }

// DecodeHello decodes the document. Fields that it does not know are ignored.
func DecodeHello(payload []byte, h *Hello) error {
	*h = Hello{}
	return decodeJSON(payload, h, &h.V, "hello", MaxJSON)
}

// EncodeState returns the document.
func EncodeState(s *State) ([]byte, error) { return encodeJSON(s, MaxJSON) }

// DecodeState decodes the document.
func DecodeState(payload []byte, s *State) error {
	*s = State{}
	return decodeJSON(payload, s, &s.V, "state", MaxJSON)
}

func encodeJSON(v any, most int) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if len(b) > most {
		return nil, fmt.Errorf("%w: document of %d bytes, at most %d", ErrTooLarge, len(b), most)
	}
	return b, nil
}

func decodeJSON(payload []byte, v any, version *int, what string, most int) error {
	if len(payload) > most {
		return &CorruptError{What: what + " is longer than a document may be"}
	}
	if err := json.Unmarshal(payload, v); err != nil {
		return &CorruptError{What: what + " is not the JSON it should be: " + err.Error()}
	}
	if *version != Version {
		return fmt.Errorf("%w: %s has version %d, this program reads %d", ErrVersion, what, *version, Version)
	}
	return nil
}
