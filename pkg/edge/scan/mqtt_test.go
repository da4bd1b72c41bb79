package scan_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	broker "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"

	"github.com/langbiang/langbiang/pkg/driver/drivertest"
	"github.com/langbiang/langbiang/pkg/driver/mqtt"
	"github.com/langbiang/langbiang/pkg/edge/scan"
	"github.com/langbiang/langbiang/pkg/profile"
)

func serveBroker(t *testing.T) (*broker.Server, string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := broker.New(&broker.Options{InlineClient: true, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err := b.AddHook(new(auth.AllowHook), nil); err != nil {
		t.Fatal(err)
	}
	if err := b.AddListener(listeners.NewNet("test", ln)); err != nil {
		t.Fatal(err)
	}
	if err := b.Serve(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b, "tcp://" + ln.Addr().String()
}

// hear publishes the messages on a broker and returns what a listener heard.
func hear(t *testing.T, messages []profile.Message) *scan.Heard {
	t.Helper()
	b, url := serveBroker(t)
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	h := &scan.Heard{}
	done := make(chan error, 1)
	ready := false
	go func() {
		done <- (&mqtt.Config{URL: url}).Listen(ctx, []string{"#"}, func(topic string, payload []byte, _ bool) {
			mu.Lock()
			defer mu.Unlock()
			if topic == "ready" {
				ready = true
				return
			}
			h.Hear(topic, payload)
		})
	}()
	publish := func(topic, payload string) {
		if err := b.Publish(topic, []byte(payload), false, 0); err != nil {
			t.Fatal(err)
		}
	}
	drivertest.Until(t, "listening", func() bool {
		publish("ready", "")
		mu.Lock()
		defer mu.Unlock()
		return ready
	})
	for _, m := range messages {
		publish(m.Topic, m.Payload)
	}
	drivertest.Until(t, "all heard", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return h.Messages >= len(messages)
	})
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return h
}

// A fixture that says which revision it takes must be recognised for that, and
// every profile by its first fixture, with the parameters that a device must say.
func TestEveryMQTTProfileIsFoundByWhatItsDevicesPublish(t *testing.T) {
	k := known(t)
	for _, p := range k.Profiles {
		if p.Protocol != profile.ProtocolMQTT {
			continue
		}
		t.Run(p.ID, func(t *testing.T) {
			for i, fx := range fixtures(t, p.ID) {
				if i > 0 && fx.Takes == "" {
					continue
				}
				found := scan.MQTT(hear(t, fx.Messages), k)
				if len(found) != 1 || found[0].Profile != p {
					t.Errorf("%s: found are", fx.Name)
					for _, f := range found {
						t.Errorf("  %s %v on %s, %d of %d", f.Profile.ID, f.With, f.Topic, f.Read, f.Points)
					}
					continue
				}
				got := found[0]
				if fx.Takes != "" && got.Revision != fx.Takes {
					t.Errorf("%s: revision %q, want %q", fx.Name, got.Revision, fx.Takes)
				}
				for name, v := range fx.With {
					if p.With[name].Default == "" && got.With[name] != v {
						t.Errorf("%s: parameter %s is %q, want %q", fx.Name, name, got.With[name], v)
					}
				}
			}
		})
	}
}

func TestSeveralDevicesOnOneBrokerAreToldApart(t *testing.T) {
	k := known(t)
	var messages []profile.Message
	for _, id := range []string{"airgradient/open-air", "milesight/wts506", "tasmota/dust", "tasmota/sensor", "zigbee2mqtt/climate", "frigate/camera"} {
		messages = append(messages, fixtures(t, id)[0].Messages...)
	}
	messages = append(messages, profile.Message{Topic: "some/thing/else", Payload: `{"a":1}`}, profile.Message{Topic: "b", Payload: "nonsense"}, profile.Message{Topic: "c"})
	got := map[string]string{}
	for _, f := range scan.MQTT(hear(t, messages), k) {
		got[f.Profile.ID] = fmt.Sprint(f.With)
	}
	want := map[string]string{
		"airgradient/open-air": "map[serial:ecda3b1eaaaf]", "frigate/camera": "map[camera:gate.1]", "milesight/wts506": "map[application:a1 eui:24e124454d000001]",
		"tasmota/dust": "map[name:school]", "tasmota/sensor": "map[name:roof]", "zigbee2mqtt/climate": "map[name:market/air]",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAFloodOfTopicsIsBounded(t *testing.T) {
	h := &scan.Heard{}
	for i := range 30_000 {
		h.Hear(fmt.Sprintf("a/%d", i), []byte("1"))
	}
	for range 100 {
		h.Hear("big", make([]byte, 1<<20))
	}
	if h.Topics() != 20_000 || h.Dropped != 10_100 || h.Messages != 30_100 {
		t.Errorf("%d topics, %d dropped, %d messages", h.Topics(), h.Dropped, h.Messages)
	}
}

func FuzzHeard(f *testing.F) {
	k := known(f)
	for _, id := range []string{"airgradient/open-air", "tasmota/sensor", "frigate/camera", "meshtastic/environment", "onvif/profile-m-sensor"} {
		for _, m := range fixtures(f, id)[0].Messages {
			f.Add(m.Topic, []byte(m.Payload))
		}
	}
	f.Add("a/{name}/+/#", []byte("[1]"))
	f.Fuzz(func(t *testing.T, topic string, payload []byte) {
		h := &scan.Heard{}
		h.Hear(topic, payload)
		h.Hear(topic, payload)
		h.Hear("frigate/stats", payload)
		for _, found := range scan.MQTT(h, k) {
			if found.Profile == nil || len(found.Values) == 0 {
				t.Errorf("%+v", found)
			}
		}
	})
}

func BenchmarkALargeBrokerIsUnderstood(b *testing.B) {
	k := known(b)
	h := &scan.Heard{}
	messages := fixtures(b, "zigbee2mqtt/climate")[0].Messages
	for i := range 20_000 {
		h.Hear(fmt.Sprintf("zigbee2mqtt/house-%d/room", i), []byte(messages[0].Payload))
	}
	for b.Loop() {
		scan.MQTT(h, k)
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/20k_topics")
}
