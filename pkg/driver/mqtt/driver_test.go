package mqtt

import (
	"fmt"
	"strings"
	"testing"
	"time"

	broker "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

func TestOneMessageIsOneInstantOfADevice(t *testing.T) {
	b := newBroker(t)
	s := newSink(true)
	climate := dev("climate",
		profile.Point{ID: "t", Topic: "zigbee2mqtt/room", Path: "temperature"},
		profile.Point{ID: "rh", Topic: "zigbee2mqtt/room", Path: "humidity"},
		profile.Point{ID: "mode", Topic: "zigbee2mqtt/room/mode", Enum: map[string]float64{"auto": 2}},
		profile.Point{ID: "name", Kind: "text", Topic: "zigbee2mqtt/room/name"})
	counter := dev("any-person", profile.Point{ID: "n", Topic: "frigate/+/person"})
	d := start(t, Config{URL: "tcp://" + b.addr}, s, climate, counter)
	d.connected(t)
	b.publish("zigbee2mqtt/room", `{"temperature":21.5,"humidity":44.25,"battery":86}`, false, 0)
	b.publish("zigbee2mqtt/room/mode", "auto", false, 0)
	b.publish("zigbee2mqtt/room/name", "Nhà văn hoá", false, 0)
	b.publish("frigate/gate/person", "3", false, 0)
	eventually(t, "four puts", func() bool { return len(s.all()) == 4 })
	for i, want := range []put{
		{device: "climate", samples: []driver.Sample{{Point: 0, Value: 21.5}, {Point: 1, Value: 44.25}}},
		{device: "climate", samples: []driver.Sample{{Point: 2, Value: 2}}},
		{device: "climate", samples: []driver.Sample{{Point: 3, Text: "Nhà văn hoá"}}},
		{device: "any-person", samples: []driver.Sample{{Point: 0, Value: 3}}},
	} {
		if got := s.all()[i]; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("put %d: got %v, want %v", i, got, want)
		}
	}
	if st := s.last("climate"); !st.up {
		t.Errorf("climate: %+v", st)
	}
}

func TestColumnsOfALineAreRead(t *testing.T) {
	b := newBroker(t)
	s := newSink(true)
	d := dev("station", profile.Point{ID: "t", Topic: "s", Path: "[0]"}, profile.Point{ID: "p", Topic: "s", Path: "[2]"}, profile.Point{ID: "last", Topic: "s", Path: "[-1]"})
	start(t, Config{URL: "tcp://" + b.addr}, s, d).connected(t)
	for _, p := range []string{"21.5;60;1013", "t,rh,p\n21.5,60,1013\r\n", "21.5\t60\t1013", "[21.5, 60, 1013]", "21.5", "21.5,x,", `{"a":1`, "[1,2"} {
		b.publish("s", p, false, 0)
	}
	eventually(t, "eight puts", func() bool { return len(s.all()) == 8 })
	missing, malformed := telemetry.BadQuality(telemetry.ReasonMissing), telemetry.BadQuality(telemetry.ReasonMalformed)
	whole := [3]driver.Sample{{Value: 21.5}, {Value: 1013}, {Value: 1013}}
	for i, want := range [][3]driver.Sample{
		whole, whole, whole, whole,
		{{Value: 21.5}, {Quality: missing}, {Value: 21.5}},
		{{Value: 21.5}, {Quality: malformed}, {Quality: malformed}},
		{{Quality: malformed}, {Quality: malformed}, {Quality: malformed}},
		{{Quality: malformed}, {Quality: malformed}, {Quality: malformed}},
	} {
		for j, got := range s.all()[i].samples {
			if got.Value != want[j].Value || got.Quality != want[j].Quality {
				t.Errorf("message %d, point %d: %+v, want %+v", i, j, got, want[j])
			}
		}
	}
}

func TestMessagesKeepTheirOrder(t *testing.T) {
	b := newBroker(t)
	s := newSink(true)
	d := start(t, Config{URL: "tcp://" + b.addr, Queue: 100_000}, s, dev("d", profile.Point{ID: "n", Topic: "n"}))
	d.connected(t)
	const n = 3000
	for i := range n {
		b.publish("n", fmt.Sprint(i), false, 0)
	}
	eventually(t, "all puts", func() bool { return len(s.all()) == n })
	for i, p := range s.all() {
		if p.samples[0].Value != float64(i) {
			t.Fatalf("put %d holds %v", i, p.samples[0].Value)
		}
	}
}

func TestBrokerThatIsDownIsAStateOfTheDevices(t *testing.T) {
	b := idleBroker(t)

	s := newSink(true)
	start(t, Config{URL: "tcp://" + b.addr, ClientID: "edge"}, s, dev("d", profile.Point{ID: "n", Topic: "a/+/n"}))
	for round := range 3 {
		eventually(t, "unreachable", func() bool {
			st := s.last("d")
			return st.known && !st.up && st.reason == telemetry.ReasonUnreachable && st.detail != ""
		})
		b.start()
		before := len(s.all())
		eventually(t, "subscribed again and read", func() bool {
			b.publish("a/b/n", fmt.Sprint(round), false, 0)
			return len(s.all()) > before
		})
		eventually(t, "up", func() bool { return s.last("d").up })
		b.stop()
	}
}

func TestRetainedMessagesAreOldNews(t *testing.T) {
	b := newBroker(t)
	b.publish("z/room", `{"t":20}`, true, 1)
	b.publish("z/room/availability", `{"state":"offline"}`, true, 1)
	d := dev("room", profile.Point{ID: "t", Topic: "z/room", Path: "t"})
	d.MQTT.Availability = &profile.Availability{Topic: "z/room/availability", Path: "state", Online: []string{"online"}, Offline: []string{"offline"}}
	s := newSink(true)
	r := start(t, Config{URL: "tcp://" + b.addr, ClientID: "edge"}, s, d)
	eventually(t, "offline by the retained word", func() bool { return s.last("room").reason == telemetry.ReasonOffline })
	eventually(t, "both counted", func() bool { return testutil.ToFloat64(r.metrics.retained) == 2 })
	if got := s.all(); len(got) != 0 {
		t.Errorf("retained messages were put: %v", got)
	}
	eventually(t, "acknowledged without a commit", func() bool { return b.inflight("edge") == 0 })
	b.publish("z/room/availability", "online", false, 0) // the bare word of older gateways
	eventually(t, "online", func() bool { return s.last("room").up })
}

func TestEmptyPayloadSaysNothing(t *testing.T) {
	b := newBroker(t)
	d := dev("d", profile.Point{ID: "n", Topic: "n"}, profile.Point{ID: "j", Topic: "j", Path: "a"})
	d.MQTT.Availability = &profile.Availability{Topic: "up"}
	s := newSink(true)
	r := start(t, Config{URL: "tcp://" + b.addr}, s, d)
	r.connected(t)
	for _, topic := range []string{"n", "j", "up"} {
		b.publish(topic, "", false, 1)
	}
	eventually(t, "three empty ones", func() bool { return testutil.ToFloat64(r.metrics.empty) == 3 })
	if got := s.all(); len(got) != 0 {
		t.Errorf("puts: %v", got)
	}
}

func TestMalformedPayloadIsABadReadingAndOneLine(t *testing.T) {
	b := newBroker(t)
	s := newSink(true)
	r := start(t, Config{URL: "tcp://" + b.addr}, s,
		dev("d", profile.Point{ID: "a", Topic: "d", Path: "a"}, profile.Point{ID: "b", Topic: "d", Path: "b"}))
	r.connected(t)
	for _, p := range []string{`{"a":1,"b":2}`, `{"a":1`, `{"a":1`, `garbage`, `{"a":1}`, `{"a":1,"b":null}`, `{"a":1,"b":2}`} {
		b.publish("d", p, false, 0)
	}
	eventually(t, "seven puts", func() bool { return len(s.all()) == 7 })
	malformed, missing := telemetry.BadQuality(telemetry.ReasonMalformed), telemetry.BadQuality(telemetry.ReasonMissing)
	for i, want := range [][2]telemetry.Quality{{0, 0}, {malformed, malformed}, {malformed, malformed}, {malformed, malformed}, {0, missing}, {0, missing}, {0, 0}} {
		got := s.all()[i].samples
		if got[0].Quality != want[0] || got[1].Quality != want[1] {
			t.Errorf("put %d: %v, %v; want %v", i, got[0].Quality, got[1].Quality, want)
		}
	}
	eventually(t, "counted", func() bool { return testutil.ToFloat64(r.metrics.malformed) == 5 })
	if n := r.log.count("payload gives no value"); n != 3 { // a and b malformed, then b missing
		t.Errorf("%d lines of warning, want 3", n)
	}
	if n := r.log.count("payload makes sense again"); n != 2 {
		t.Errorf("%d lines of recovery, want 2", n)
	}
	if !s.last("d").up {
		t.Error("a device that sends nonsense answers all the same")
	}
}

func TestPartialPayloadsLeaveOtherPointsAlone(t *testing.T) {
	b := newBroker(t)
	s := newSink(true)
	d := dev("plug", profile.Point{ID: "w", Topic: "s", Path: "w"}, profile.Point{ID: "v", Topic: "s", Path: "v"})
	d.MQTT.Partial = true
	start(t, Config{URL: "tcp://" + b.addr}, s, d).connected(t)
	b.publish("s", `{"other":1}`, false, 0)
	b.publish("s", `{"v":230}`, false, 0)
	eventually(t, "one put", func() bool { return len(s.all()) == 1 })
	if got := s.all()[0].samples; len(got) != 1 || got[0] != (driver.Sample{Point: 1, Value: 230}) {
		t.Errorf("got %v", got)
	}
}

func TestSilentDeviceIsDown(t *testing.T) {
	b := newBroker(t)
	s := newSink(true)
	d := dev("air", profile.Point{ID: "n", Topic: "air/1"})
	d.MQTT.ExpectEvery = 150 * time.Millisecond
	start(t, Config{URL: "tcp://" + b.addr}, s, d).connected(t)
	eventually(t, "silent", func() bool { return s.last("air").reason == telemetry.ReasonSilent })
	eventually(t, "up", func() bool {
		b.publish("air/1", "1", false, 0)
		return s.last("air").up
	})
	eventually(t, "silent again", func() bool { return !s.last("air").up })
}

func TestDeviceTimeIsTaken(t *testing.T) {
	b := newBroker(t)
	s := newSink(true)
	d := dev("d", profile.Point{ID: "v", Topic: "d", Path: "v"})
	d.MQTT.Time = &profile.DeviceTime{Path: "ts", Format: "unix", MaxLag: time.Minute}
	start(t, Config{URL: "tcp://" + b.addr}, s, d).connected(t)
	b.publish("d", `{"v":1,"ts":1631186545.04}`, false, 0)
	b.publish("d", `{"v":2,"ts":12}`, false, 0)
	eventually(t, "two puts", func() bool { return len(s.all()) == 2 })
	if got := s.all()[0]; !got.at.Equal(time.UnixMilli(1631186545040)) || got.samples[0].Quality != 0 {
		t.Errorf("got %v", got)
	}
	if got := s.all()[1]; !got.at.IsZero() || got.samples[0].Quality != telemetry.NewQuality(telemetry.Uncertain, telemetry.ReasonClock) {
		t.Errorf("a time that cannot be: got %v", got)
	}
}

// readOnly lets clients subscribe to topics below "mine/" only.
type readOnly struct{ auth.AllowHook }

func (*readOnly) OnACLCheck(_ *broker.Client, topic string, write bool) bool {
	return write || len(topic) > 5 && topic[:5] == "mine/"
}

func TestRefusedSubscriptionIsNamed(t *testing.T) {
	b := newBroker(t, new(readOnly))
	s := newSink(true)
	start(t, Config{URL: "tcp://" + b.addr}, s,
		dev("good", profile.Point{ID: "n", Topic: "mine/n"}), dev("bad", profile.Point{ID: "n", Topic: "yours/n"}))
	eventually(t, "the refused one is down", func() bool {
		st := s.last("bad")
		return st.known && !st.up && st.detail == "the broker refuses the subscription to yours/n: check the user's rights"
	})
	eventually(t, "the other one is read", func() bool {
		b.publish("mine/n", "1", false, 0)
		return s.last("good").up
	})
}

// stranger refuses every login.
type stranger struct{ auth.AllowHook }

func (*stranger) OnConnectAuthenticate(*broker.Client, packets.Packet) bool { return false }

func TestRefusedLoginIsSaid(t *testing.T) {
	b := newBroker(t, new(stranger))
	s := newSink(true)
	r := start(t, Config{URL: "tcp://" + b.addr, User: "edge", Password: "no"}, s, dev("d", profile.Point{ID: "n", Topic: "n"}))
	eventually(t, "unreachable, and why", func() bool {
		st := s.last("d")
		return st.reason == telemetry.ReasonUnreachable && strings.Contains(st.detail, `refuses the user "edge" or the password`)
	})
	eventually(t, "tried again", func() bool { return len(s.all()) == 0 && r.log.count("no connection to the broker") > 0 })
}
