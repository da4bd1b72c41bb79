package uplink

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/langbiang/langbiang/pkg/wire"
)

// Record is one frame of the log. Payload is valid until the callback returns.
type Record struct {
	Pos     wire.Pos
	Payload []byte
	// Unsure says that the log may have lost frames between the epoch before and
	// this frame, the first of its epoch, without knowing how many.
	Unsure bool
}

// Log is the edge's log, as far as the uplink needs it. Its methods may be called
// while others append.
type Log interface {
	// Read calls fn for the records after a place, in the log's order, until max
	// bytes of payload were handed out (one record at least) or the log ends. The
	// zero place, and one whose epoch the log does not know, begin with the
	// oldest record. Frames that are missing are seen by their numbers. An error
	// of fn ends it and is returned.
	Read(after wire.Pos, max int, fn func(Record) error) error
	// Oldest and Last are the first and the last record; false: there is none.
	Oldest() (wire.Pos, bool)
	Last() (wire.Pos, bool)
	// Attachment returns the encoded schema of that hash.
	Attachment(key [16]byte) ([]byte, bool)
	// SetSafe tells up to where the hub has everything on its disk. It may go
	// back, when the hub was restored.
	SetSafe(wire.Pos)
	// Changed returns a channel that is closed at the next append.
	Changed() <-chan struct{}
}

// Answers take questions and say what is to be sent of their answers. Safe for
// concurrent use.
type Answers interface {
	// Ask takes a message of the topic ask. It must not block nor keep the payload.
	Ask(payload []byte)
	// Next returns the next message for the topic answer, if there is one.
	Next() ([]byte, bool)
	// Changed is sent to when there may be one.
	Changed() <-chan struct{}
}

// Config says where to send and who is sending.
type Config struct {
	URL      string // mqtt://host:1883, mqtts://host:8883
	User     string
	Password string
	TLS      *tls.Config // nil: the system's, for mqtts
	// Publish takes messages in place of a connection, for a log that stands in the
	// hub's own process; URL is then empty, and what the hub says comes by
	// [Uplink.Deliver]. It owns the payload and must not block.
	Publish func(kind string, payload []byte)
	Edge    string
	Epoch   wire.Epoch // the current one; its instance is the edge's
	// MaxRate bounds what is sent, in bytes per second on the link, its headers
	// estimated; 0: no bound. Snapshots and hellos do not wait for it, but are paid for.
	MaxRate int64
	// SendEvery is the period in which frames are sent together; 0: each as soon as
	// it is in the log. [Uplink.Flush] ends a period early.
	SendEvery time.Duration
	// JoinReadings bounds the readings of frames that are joined when several wait;
	// about 100 bytes of memory for each while there is a backlog. Default 30,000;
	// negative: frames are never joined.
	JoinReadings int
	// AckWithin is for how long the hub may hold back acknowledgements that are not
	// urgent, to save their bytes; 0: as it likes. An answer is waited for as much
	// longer.
	AckWithin time.Duration

	// Disk says what the disk refuses the log with, empty while it takes it; the hub
	// is told at once when it changes, the connection being up. May be nil.
	Disk func() string

	// Hello fills in what the hub is shown: site claim, version, clock, schema,
	// number of series. The rest is the uplink's. May be nil.
	Hello func(*wire.Hello)
	// Retime returns what must be added to the times of untimed frames of a
	// boot, or false while that is not known; the frames then wait. It must
	// always give the same answer for the same boot. Estimated says that the times
	// are a guess. Nil: they wait for ever.
	Retime func(boot [16]byte) (offset int64, estimated, ok bool)
	// ObserveHub is told how far the hub's clock is ahead of this machine's wall
	// clock, and the round trip it was measured in. May be nil.
	ObserveHub func(offset, rtt time.Duration)
	// Acked is told where the hub stands (got, and of that safe) after every
	// acknowledgement that is for this edge; it must not block. May be nil.
	Acked func(got, safe wire.Pos)
	// Snapshot appends an encoded snapshot of the last values to dst; it is
	// called every SnapshotEvery during a backlog: while the hub is more than
	// BehindFrames frames behind. May be nil.
	Snapshot      func(dst []byte) ([]byte, bool)
	SnapshotEvery time.Duration // default 10 s
	BehindFrames  int           // default 30
	// Bands is given the values that the hub's rules watch, with the id to name in
	// the hello. It is called from any goroutine, and owns b. May be nil.
	Bands func(b *wire.Bands, id uint32)
	// Configured is given what the hub says of the edge's configuration. It is called
	// from any goroutine, owns c and must not block. May be nil.
	Configured func(c *wire.Config)
	// Greeted is told that the hub has answered a hello: what is said from now on with
	// [Uplink.Say] has a hub that listens. It must not block. May be nil.
	Greeted func()

	// Answers answer what people at the hub ask. Nil: they may ask nothing.
	Answers Answers

	KeepAlive      time.Duration // of MQTT; default 60 s
	ConnectTimeout time.Duration // default 20 s
	WriteTimeout   time.Duration // default 20 s
	MaxBackoff     time.Duration // longest pause between two connections; default 60 s
	AnswerTimeout  time.Duration // first wait for an answer before asking again; default 5 s

	Logger  *slog.Logger          // nil: none
	Metrics prometheus.Registerer // nil: none; gets langbiang_edge_uplink_*
}

// ErrConfig is in every error of New that the configuration is to blame for.
var ErrConfig = errors.New("uplink: configuration")

func (c *Config) check() error {
	if c.Publish == nil {
		if err := checkURL(c.URL); err != nil {
			return err
		}
	}
	if !wire.ValidEdge(c.Edge) {
		return fmt.Errorf("%w: edge id %q; write 1 to %d of a-z, 0-9 and -", ErrConfig, c.Edge, wire.MaxEdgeID)
	}
	if c.Epoch.IsZero() {
		return fmt.Errorf("%w: no epoch", ErrConfig)
	}
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{
		{&c.SnapshotEvery, 10 * time.Second},
		{&c.KeepAlive, time.Minute},
		{&c.ConnectTimeout, 20 * time.Second},
		{&c.WriteTimeout, 20 * time.Second},
		{&c.MaxBackoff, time.Minute},
		{&c.AnswerTimeout, 5 * time.Second},
	} {
		if *d.v <= 0 {
			*d.v = d.def
		}
	}
	if c.JoinReadings == 0 {
		c.JoinReadings = 30_000
	}
	if c.BehindFrames <= 0 {
		c.BehindFrames = 30
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

func checkURL(hub string) error {
	u, err := url.Parse(hub)
	if err != nil || u.Host == "" {
		return fmt.Errorf("%w: hub address %q; write mqtt://HOST:1883 or mqtts://HOST:8883", ErrConfig, hub)
	}
	switch u.Scheme {
	case "mqtt", "tcp", "mqtts", "ssl":
		return nil
	}
	return fmt.Errorf("%w: hub address %q begins with %s://; write mqtt:// or mqtts://", ErrConfig, hub, u.Scheme)
}

// answerWithin is how long an acknowledgement of frames is waited for at first.
func (c *Config) answerWithin() time.Duration { return c.AnswerTimeout + c.AckWithin }
