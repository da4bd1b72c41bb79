package wire

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// Limits of what is said of configurations, in bytes.
const (
	// MaxConfig bounds the JSON documents [Config] and [ConfigState]: an eighth of
	// what the hub's bus takes.
	MaxConfig = 128 << 10
	// MaxConfigText bounds the text of a configuration before compression.
	MaxConfigText = 256 << 10
	// MaxConfigName bounds the name of its file, and every other name in here.
	MaxConfigName = 128
	// MaxConfigReason bounds the reason of a [ConfigVerdict] and what else is for people.
	MaxConfigReason = 16 << 10
)

// Config is what the hub says on the config topic as JSON, beside the binary
// [Bands]: the configuration that it wants an edge to run, or which [ConfigState] it
// has taken, or a question for the text that runs there; several at once if it likes.
// It may be lost, repeated and reordered: the version tells what is newer.
type Config struct {
	V int `json:"v"`
	// Desired is what the edge is to run; nil: nothing is said of that.
	Desired *ConfigText `json:"desired,omitempty"`
	// Heard repeats the ID of the ConfigState that was taken: the edge need not say it
	// again, and knows that the hub hears it.
	Heard string `json:"heard,omitempty"`
	// Show asks for a ConfigState with the text, which repeats it in Shown.
	Show string `json:"show,omitempty"`
}

// ConfigText is a configuration of connections and devices.
type ConfigText struct {
	// Version counts at the hub, from 1 for each edge; 0: the gateway's own.
	Version uint64 `json:"version,omitempty"`
	// Name is that of the file, for the places of faults.
	Name string `json:"name,omitempty"`
	// Hash is that of the text, see [HashConfig].
	Hash Hash   `json:"hash"`
	Text string `json:"-"`
	// Packed is Text compressed with zstd.
	Packed []byte `json:"zstd"`
}

// The owners of the configuration of an edge.
const (
	OwnerGateway = "gateway"
	OwnerHub     = "hub"
)

// The outcomes of a [ConfigVerdict].
const (
	// ConfigRefused: the agent did not take it, and runs on as before.
	ConfigRefused = "refused"
	// ConfigRolledBack: the agent took it, and went back by itself.
	ConfigRolledBack = "rolled_back"
)

// ConfigState is what an edge says of its configuration on the topic config-state,
// whenever something of it changes and until the hub has heard it.
type ConfigState struct {
	V int `json:"v"`
	// ID names this message; another content has another.
	ID string `json:"id"`
	// Owner is who decides: gateway or hub.
	Owner string `json:"owner"`
	// Version and Hash are those of the hub's configuration that runs; zero: what runs
	// is the gateway's own.
	Version uint64 `json:"version,omitempty"`
	Hash    Hash   `json:"hash,omitzero"`
	// Newest is the highest version that the edge has decided on; it takes none that is
	// not higher.
	Newest uint64 `json:"newest,omitempty"`
	// Trial says that it runs and the edge has yet to hear from the hub with it.
	Trial bool `json:"trial,omitempty"`
	// Verdict is of the newest version that does not run; nil: none.
	Verdict *ConfigVerdict `json:"verdict,omitempty"`
	// Drift says that the gateway's own file was changed while the hub decides, and
	// what of it; empty: it was not.
	Drift string `json:"drift,omitempty"`
	// Fault says what keeps the edge from taking a configuration for now.
	Fault string `json:"fault,omitempty"`
	// Shown repeats the question that this answers, with Text, or with Fault when there
	// is no text to show.
	Shown string      `json:"shown,omitempty"`
	Text  *ConfigText `json:"text,omitempty"`
}

// ConfigVerdict says what became of a version.
type ConfigVerdict struct {
	Version uint64 `json:"version"`
	Hash    Hash   `json:"hash"`
	Outcome string `json:"outcome"`
	Reason  string `json:"reason"`       // for people; one fault on a line
	At      int64  `json:"at,omitempty"` // log time, ms; 0: not known
}

// HashConfig is the first 16 bytes of the SHA-256 of a text.
func HashConfig(text string) Hash {
	sum := sha256.Sum256([]byte(text))
	return Hash(sum[:16])
}

// NewConfigText packs a text. It fails with ErrTooLarge, and with ErrInvalid when the
// name is too long.
func NewConfigText(version uint64, name, text string) (*ConfigText, error) {
	if len(text) > MaxConfigText {
		return nil, fmt.Errorf("%w: a configuration of %d bytes, at most %d", ErrTooLarge, len(text), MaxConfigText)
	}
	if len(name) > MaxConfigName {
		return nil, fmt.Errorf("%w: the name of a configuration has %d bytes, at most %d", ErrInvalid, len(name), MaxConfigName)
	}
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, err
	}
	return &ConfigText{Version: version, Name: name, Hash: HashConfig(text), Text: text, Packed: z.EncodeAll([]byte(text), nil)}, nil
}

var configDecoder = sync.OnceValues(func() (*zstd.Decoder, error) { return newZstdDecoder(MaxConfigText) })

// Unpack fills in Text, of MaxConfigText bytes at most whatever the message says.
func (t *ConfigText) Unpack() error {
	if len(t.Name) > MaxConfigName {
		return &CorruptError{What: "the name of a configuration is too long"}
	}
	z, err := configDecoder()
	if err != nil {
		return err
	}
	text, err := z.DecodeAll(t.Packed, nil)
	if err != nil || len(text) > MaxConfigText {
		return &CorruptError{What: "a configuration does not decompress to what it may be"}
	}
	if t.Text = string(text); HashConfig(t.Text) != t.Hash {
		return &CorruptError{What: "the hash of a configuration is wrong"}
	}
	return nil
}

// EncodeConfig returns the document. It fails with ErrTooLarge.
func EncodeConfig(c *Config) ([]byte, error) { return encodeJSON(c, MaxConfig) }

// IsConfig tells a [Config] from the binary messages of the config topic.
func IsConfig(payload []byte) bool { return bytes.HasPrefix(payload, []byte("{")) }

// DecodeConfig decodes the document. Fields that it does not know are ignored.
// Errors: ErrCorrupt, ErrVersion.
func DecodeConfig(payload []byte, c *Config) error {
	*c = Config{}
	if err := decodeJSON(payload, c, &c.V, "configuration", MaxConfig); err != nil {
		return err
	}
	if len(c.Heard) > MaxConfigName || len(c.Show) > MaxConfigName {
		return &CorruptError{What: "a name in a configuration is too long"}
	}
	if c.Desired == nil {
		return nil
	}
	if c.Desired.Version == 0 {
		return &CorruptError{What: "a configuration has no version"}
	}
	return c.Desired.Unpack()
}

// EncodeConfigState returns the document; what is for people is cut. It fails with
// ErrTooLarge.
func EncodeConfigState(s *ConfigState) ([]byte, error) {
	short := *s
	short.Drift, short.Fault = cutTo(s.Drift, MaxConfigReason), cutTo(s.Fault, MaxConfigReason)
	if s.Verdict != nil {
		v := *s.Verdict
		v.Reason = cutTo(v.Reason, MaxConfigReason)
		short.Verdict = &v
	}
	return encodeJSON(&short, MaxConfig)
}

// DecodeConfigState decodes the document. Fields that it does not know are ignored.
// Errors: ErrCorrupt, ErrVersion.
func DecodeConfigState(payload []byte, s *ConfigState) error {
	*s = ConfigState{}
	if err := decodeJSON(payload, s, &s.V, "state of a configuration", MaxConfig); err != nil {
		return err
	}
	if len(s.ID) > MaxConfigName || len(s.Owner) > MaxConfigName || len(s.Shown) > MaxConfigName || len(s.Drift) > MaxConfigReason || len(s.Fault) > MaxConfigReason {
		return &CorruptError{What: "a text in the state of a configuration is too long"}
	}
	if v := s.Verdict; v != nil && (len(v.Outcome) > MaxConfigName || len(v.Reason) > MaxConfigReason) {
		return &CorruptError{What: "the verdict of a configuration is too long"}
	}
	if s.Text != nil {
		return s.Text.Unpack()
	}
	return nil
}
