package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// stranger is the sender. Its log is memory; the methods are for any goroutine.
type stranger struct {
	broker, edge string
	schemas      map[[16]byte][]byte // messages by hash
	schema       [16]byte
	series       int
	devices      int

	mu       sync.Mutex
	epoch    strangerEpoch
	log      []*strangerFrame
	seq      uint64
	w        int64         // watermark of the newest frame
	last     strangerPlace // of the log, whatever was lost of it since
	losing   int           // publications of frames that do not reach the wire
	got      strangerPlace // newest known
	safe     strangerPlace
	sent     strangerPlace  // how far this connection has sent, or the hub has got
	way      []strangerSent // sent and not got
	credit   uint64
	nonce    uint64 // of the hello that waits for its answer
	told     map[[16]byte]bool
	answers  []strangerPlace // where each hello was told to go
	holes    int
	needs    int
	refusal  string
	silence  time.Duration
	heard    time.Time // when something was acknowledged
	hello    time.Time // when the next hello is due; zero: when there is need
	patience time.Duration
	back     struct { // the newest hole
		to    strangerPlace
		until time.Time
		pause time.Duration
	}
}

type strangerSent struct {
	place strangerPlace
	bytes int
}

func newStranger(broker, edge string) *stranger {
	s := &stranger{broker: broker, edge: edge, schemas: map[[16]byte][]byte{}}
	_, _ = rand.Read(s.epoch[:8]) // never fails; this is the instance
	return s
}

// begin starts a new run: a new epoch, with nothing known of the hub.
func (s *stranger) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	binary.LittleEndian.PutUint32(s.epoch[8:], s.epoch.start()+1)
	_, _ = rand.Read(s.epoch[12:])
	s.seq, s.told = 0, map[[16]byte]bool{}
	s.got, s.safe, s.sent, s.way = strangerPlace{}, strangerPlace{}, strangerPlace{}, nil
}

// append accepts readings with times in (prevW, w]. The first frame of an epoch
// marks the time since the one before it.
func (s *stranger) append(prevW, w int64, readings ...strangerReading) strangerPlace {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seq++
	f := &strangerFrame{place: strangerPlace{s.epoch, s.seq}, schema: s.schema}
	var mark *strangerMark
	if s.seq == 1 && s.last != (strangerPlace{}) {
		f.prev = s.last
		mark = &strangerMark{kind: 1, from: s.w, to: prevW}
	}
	f.encode(prevW, w, mark, readings)
	s.log = append(s.log, f)
	s.last, s.w = f.place, w
	return f.place
}

// damage loses frames of the log.
func (s *stranger) damage(lost func(strangerPlace) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var kept []*strangerFrame
	for _, f := range s.log {
		if !lost(f.place) {
			kept = append(kept, f)
		}
	}
	s.log = kept
}

// run sends until ctx ends, one connection after the other.
func (s *stranger) run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := s.connection(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond): // one edge is no storm
		}
	}
	return nil
}

// connection lasts until it is lost or ctx ends.
func (s *stranger) connection(ctx context.Context) error {
	topic := "langbiang/v1/" + s.edge + "/"
	now := time.Now().UnixMilli()
	state := func(online bool, more ...string) []byte {
		doc := map[string]any{"v": 1, "epoch": s.epoch.String(), "online": online, "at": now}
		for _, reason := range more {
			doc["reason"] = reason
		}
		b, err := json.Marshal(doc)
		if err != nil {
			panic(err) // strings and numbers
		}
		return b
	}
	lost := make(chan struct{})
	acks := make(chan []byte, 256)
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://"+s.broker).SetProtocolVersion(4).
		SetClientID("stranger-"+rand.Text()).SetCleanSession(true).SetAutoReconnect(false).
		SetConnectTimeout(3*time.Second).SetWriteTimeout(3*time.Second).
		SetBinaryWill(topic+"state", state(false), 0, true).
		SetConnectionLostHandler(func(mqtt.Client, error) { close(lost) }))
	if t := c.Connect(); !t.WaitTimeout(5*time.Second) || t.Error() != nil {
		c.Disconnect(0)
		return nil // the hub is down: try again
	}
	defer c.Disconnect(100)
	done := func(t mqtt.Token) bool { return t.WaitTimeout(5*time.Second) && t.Error() == nil }
	if !done(c.Subscribe(topic+"ack", 0, func(_ mqtt.Client, m mqtt.Message) {
		select {
		case acks <- m.Payload():
		default: // it may be lost as any other
		}
	})) || !done(c.Publish(topic+"state", 0, true, state(true))) {
		return nil
	}
	publish := func(kind string, payload []byte) bool { return done(c.Publish(topic+kind, 0, false, payload)) }

	s.mu.Lock()
	s.hello, s.patience, s.nonce = time.Now(), 5*time.Second, 0
	s.mu.Unlock()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			_ = publish("state", state(false, "stopped")) // a clean end sends no will
			return nil
		case <-lost:
			return nil
		case m := <-acks:
			a, err := strangerReadAck(m)
			if err != nil {
				return fmt.Errorf("ack %x: %w", m, err)
			}
			s.take(&a, time.Now())
		case <-tick.C:
		}
		if !s.send(time.Now(), publish) {
			return nil
		}
	}
}

// take understands an acknowledgement.
func (s *stranger) take(a *strangerAck, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !bytes.Equal(a.instance[:], s.epoch[:8]) || a.nonce != 0 && a.nonce != s.nonce {
		return
	}
	s.credit = a.credit
	if a.need != nil {
		s.needs++
		delete(s.told, *a.need)
	}
	if a.status > 1 {
		s.refusal = fmt.Sprintf("status %d: %s", a.status, a.reason)
		s.nonce, s.hello = 0, now.Add(time.Minute)
		return
	}
	switch {
	case a.nonce != 0:
		s.nonce, s.hello = 0, time.Time{}
		s.got, s.safe, s.sent, s.way = a.got, a.safe, a.got, nil
		s.answers = append(s.answers, a.got)
		s.heard, s.silence = now, 5*time.Second
		s.back.until = time.Time{}
		return
	case s.nonce != 0:
		return // an old one: the answer is still to come
	case a.got.before(s.got):
		if s.hello.IsZero() {
			s.hello = now.Add(time.Second)
		}
		return
	case s.got.before(a.got):
		s.got, s.heard, s.silence = a.got, now, 5*time.Second
		for len(s.way) > 0 && !a.got.before(s.way[0].place) {
			s.way = s.way[1:]
		}
		if s.sent.before(a.got) {
			s.sent = a.got
		}
	}
	if s.safe.before(a.safe) {
		s.safe = a.safe
	}
	if a.status == 1 {
		s.holes++
		if s.back.to != s.got {
			s.back.pause = 0
		} else if now.Before(s.back.until) {
			return
		}
		s.back.pause = min(max(time.Second, 2*s.back.pause), time.Minute)
		s.back.to, s.back.until = s.got, now.Add(s.back.pause)
		s.sent, s.way = s.got, nil
	}
}

// send publishes what is due. It reports false when the connection is of no use.
func (s *stranger) send(now time.Time, publish func(kind string, payload []byte) bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	quiet := now.Sub(s.heard)
	if s.hello.IsZero() && (len(s.way) > 0 && quiet > s.silence || s.safe.before(s.got) && quiet > time.Minute) {
		s.hello, s.patience, s.silence = now, 5*time.Second, min(2*s.silence, time.Minute)
	}
	if !s.hello.IsZero() && !now.Before(s.hello) {
		s.nonce = binary.LittleEndian.Uint64([]byte(rand.Text())) | 1
		s.hello, s.patience = now.Add(s.patience), min(2*s.patience, time.Minute)
		return publish("hello", s.greeting(now))
	}
	if s.nonce != 0 || !s.hello.IsZero() {
		return true
	}
	for _, f := range s.log {
		if !s.sent.before(f.place) {
			continue
		}
		under := 0
		for _, w := range s.way {
			under += w.bytes
		}
		if s.credit == 0 || under > 0 && uint64(under+len(f.message)) > s.credit {
			return true
		}
		if !f.follows(s.sent) {
			if !publish("frame", strangerGap(s.sent, f.place, "the file was damaged")) {
				return false
			}
		}
		if !s.told[f.schema] {
			if !publish("frame", s.schemas[f.schema]) {
				return false
			}
			s.told[f.schema] = true
		}
		if s.losing > 0 {
			s.losing--
		} else if !publish("frame", f.message) {
			return false
		}
		if len(s.way) == 0 {
			s.heard = now
		}
		s.sent, s.way = f.place, append(s.way, strangerSent{f.place, len(f.message)})
	}
	return true
}

func (s *stranger) greeting(now time.Time) []byte {
	var oldest, newest strangerPlace
	if len(s.log) > 0 {
		oldest, newest = s.log[0].place, s.log[len(s.log)-1].place
	}
	backlog := 0
	for _, f := range s.log {
		if s.got.before(f.place) {
			backlog += len(f.message)
		}
	}
	b, err := json.Marshal(map[string]any{
		"v": 1, "instance": hex.EncodeToString(s.epoch[:8]), "epoch": s.epoch.String(),
		"oldest": oldest.json(), "newest": newest.json(),
		"site": "24848", "version": "stranger", "send_every": 1000, "nonce": strconv.FormatUint(s.nonce, 10),
		"clock":  map[string]any{"now": now.UnixMilli(), "trusted": true, "source": "synchronised", "era": 0},
		"schema": hex.EncodeToString(s.schema[:]), "series": s.series, "devices": s.devices, "backlog": strconv.Itoa(backlog),
	})
	if err != nil {
		panic(err) // strings and numbers
	}
	return b
}
