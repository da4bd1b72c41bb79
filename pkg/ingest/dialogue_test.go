package ingest

import (
	"encoding/hex"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/value"

	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

// updateDialogue writes the dialogue of the present version anew. Those of versions
// that were released are never written again: they are what edges out there say.
var updateDialogue = flag.Bool("update-dialogue", false, "write testdata/dialogue-vN.txt of the present wire version anew")

// dialogueFile holds what an edge said, in bytes, and how it was answered. Each line is
//
//	send TOPIC HEX
//	answer STATUS got INSTANCE/START:SEQ need HASH nonce N
//	store SERIES TIME VALUE        what came of it, all of it
func dialogueFile(version int) string {
	return filepath.Join("testdata", fmt.Sprintf("dialogue-v%d.txt", version))
}

// answerTo sends a message and says how it was answered. What an answer says beside
// may differ from version to version: credit, times, words.
func (r *rig) answerTo(topic string, payload []byte) string {
	a := r.send(topic, payload)
	if a.Status == 99 {
		return "answer nothing"
	}
	return fmt.Sprintf("answer %v got %v need %v nonce %d", a.Status, a.Got, a.Need, a.Nonce)
}

func (r *rig) storedLines() (list []string) {
	r.store.mu.Lock()
	defer r.store.mu.Unlock()
	for k, x := range r.store.samples {
		v := math.Float64frombits(x.v)
		if value.IsStaleNaN(v) {
			list = append(list, fmt.Sprintf("store %s %d stale", k.series, k.t))
			continue
		}
		list = append(list, fmt.Sprintf("store %s %d %v", k.series, k.t, v))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, x := range r.texts {
		list = append(list, "text "+x)
	}
	slices.Sort(list)
	return list
}

// speak sends the messages of a first start, with all that version 1 has, and of a
// second one.
func speak(t *testing.T, s *source, say func(topic string, payload []byte)) {
	schema := func() { say(wire.TopicFrame, s.raw) }
	state := func(online bool, reason string) {
		b, err := wire.EncodeState(&wire.State{V: wire.Version, Epoch: s.epoch, Online: online, At: s.w, Reason: reason})
		if err != nil {
			t.Fatal(err)
		}
		say(wire.TopicState, b)
	}
	state(true, "")
	say(wire.TopicHello, s.hello(1))
	first := s.frame()
	say(wire.TopicFrame, first) // the hub lacks the schema
	schema()
	say(wire.TopicFrame, first)
	w := s.w + 1000
	say(wire.TopicFrame, s.frame(
		telemetry.Reading{Series: 0, Time: w - 10, Value: 1},
		telemetry.Reading{Series: 1, Time: w - 5500, Value: 0.25}, // it lags
		telemetry.Reading{Series: 2, Time: w - 20, Text: "49A-123.45"},
		telemetry.Reading{Series: firstPlain, Time: w - 900, Value: 21.5},
		telemetry.Reading{Series: firstPlain, Time: w - 3_600_000, Value: 18.25}, // late
		telemetry.Reading{Series: firstPlain + 1, Time: w - 5, Value: 1.0 / 3},
		telemetry.Reading{Series: firstPlain + 2, Time: w - 4, Quality: telemetry.BadQuality(1)},
	))
	before := s.last
	for range 3 {
		s.frame() // the log lost them
	}
	next := s.frame()
	say(wire.TopicFrame, s.gap(before, s.last))
	say(wire.TopicFrame, next)
	a, b := s.frame(), s.frame()
	say(wire.TopicFrame, join(t, a, b))
	state(false, "stopped")
	s.restart()
	state(true, "")
	say(wire.TopicHello, s.hello(2))
	h := s.header(s.w + 60_000)
	h.Marks = []wire.Mark{{Kind: wire.MarkStart, From: h.PrevW, To: h.W - 1000}}
	h.PrevW = h.W - 1000
	say(wire.TopicFrame, s.encode(h, telemetry.Reading{Series: firstPlain, Time: h.W, Value: 22}))
}

// What edges of released versions say is taken as it was then.
func TestDialoguesOfReleasedVersionsAreTakenAsTheyWere(t *testing.T) {
	if *updateDialogue {
		var lines []string
		alone(t, func(t *testing.T, r *rig) {
			speak(t, newSource(t, 1, 1, time.Now().UnixMilli()-10_000), func(topic string, payload []byte) {
				answer := r.answerTo(topic, payload)
				lines = append(lines, fmt.Sprintf("send %s %x", topic, payload))
				if topic != wire.TopicState { // nobody answers that: something else may be said just then
					lines = append(lines, answer)
				}
			})
			lines = append(lines, r.storedLines()...)
		})
		if err := os.WriteFile(dialogueFile(wire.Version), []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for version := max(1, wire.Version-2); version <= wire.Version; version++ {
		b, err := os.ReadFile(dialogueFile(version))
		if err != nil {
			t.Fatal(err)
		}
		alone(t, func(t *testing.T, r *rig) {
			answer, sent, stored := "", 0, []string{}
			for line := range strings.Lines(string(b)) {
				line = strings.TrimSuffix(line, "\n")
				f := strings.Fields(line)
				switch f[0] {
				case "send":
					payload, err := hex.DecodeString(f[2])
					if err != nil {
						t.Fatal(err)
					}
					sent++
					answer = r.answerTo(f[1], payload)
				case "answer":
					if answer != line {
						t.Errorf("message %d of version %d: %s, was %s", sent, version, answer, line)
					}
				default:
					stored = append(stored, line)
				}
			}
			if diff := gocmp.Diff(stored, r.storedLines()); diff != "" || sent < 10 {
				t.Errorf("after %d messages of version %d (-then +now):\n%s", sent, version, diff)
			}
		})
	}
}

// alone runs an ingest that nobody has spoken to, in time of its own.
func alone(t *testing.T, f func(t *testing.T, r *rig)) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		f(t, r)
		r.stop()
	})
}
