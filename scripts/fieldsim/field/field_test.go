package field

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop"))
}

// buffer is a record in memory.
type buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *buffer) lines(t *testing.T) []Served {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []Served
	for _, l := range bytes.Split(bytes.TrimSpace(b.buf.Bytes()), []byte("\n")) {
		var s Served
		if err := json.Unmarshal(l, &s); err != nil {
			t.Fatalf("%s: %v", l, err)
		}
		out = append(out, s)
	}
	return out
}

func open(t *testing.T, cfg Config) *Field {
	t.Helper()
	f, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return f
}

// ask sends a PDU over TCP and returns the answer's.
func ask(t *testing.T, c net.Conn, unit byte, pdu ...byte) []byte {
	t.Helper()
	out := append([]byte{0x12, 0x34, 0, 0, 0, byte(len(pdu) + 1), unit}, pdu...)
	if _, err := c.Write(out); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	head := make([]byte, 7)
	if _, err := io.ReadFull(c, head); err != nil {
		t.Fatal(err)
	}
	if head[0] != 0x12 || head[1] != 0x34 || head[6] != unit {
		t.Fatalf("header % x", head)
	}
	body := make([]byte, binary.BigEndian.Uint16(head[4:])-1)
	if _, err := io.ReadFull(c, body); err != nil {
		t.Fatal(err)
	}
	return body
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestModbusTCPServesTheTraces(t *testing.T) {
	rec := &buffer{}
	f := open(t, Config{ModbusTCP: "127.0.0.1:0", Speed: 1e-9, Steady: true, Record: rec})
	c := dial(t, f.ModbusAddr())
	got := ask(t, c, 1, 3, 0x01, 0xF4, 0, 14) // 500 to 513
	if len(got) != 30 || got[0] != 3 || got[1] != 28 {
		t.Fatalf("% x", got)
	}
	reg := func(addr int) uint16 { return binary.BigEndian.Uint16(got[2+2*(addr-500):]) }
	for addr, want := range map[int]uint16{505: 179, 507: 29, 508: 29, 509: 1002, 500: 1, 503: 113, 513: 0} {
		if reg(addr) != want {
			t.Errorf("register %d: %d, want %d", addr, reg(addr), want)
		}
	}
	for _, s := range rec.lines(t) {
		if s.Point == "air_temperature" && (s.Value != 17.9 || s.Raw != 179 || s.Device != "lac-duong-01/air-01" || s.Register != 505) {
			t.Errorf("recorded %+v", s)
		}
	}
	for name, c2 := range map[string]struct {
		unit byte
		pdu  []byte
		want []byte
	}{
		"a hole in the map":        {1, []byte{3, 0x02, 0x01, 0, 2}, []byte{0x83, 2}},
		"beyond the map":           {1, []byte{3, 0xFF, 0xFF, 0, 2}, []byte{0x83, 2}},
		"another area":             {1, []byte{4, 0x01, 0xF4, 0, 1}, []byte{0x84, 2}},
		"no registers":             {1, []byte{3, 0x01, 0xF4, 0, 0}, []byte{0x83, 3}},
		"too many registers":       {1, []byte{3, 0x01, 0xF4, 0, 126}, []byte{0x83, 3}},
		"unknown function":         {1, []byte{0x2B, 0x0E, 1, 0}, []byte{0xAB, 1}},
		"discrete inputs of loops": {12, []byte{2, 0, 0, 0, 4}, nil},
	} {
		got := ask(t, c, c2.unit, c2.pdu...)
		if c2.want != nil && !bytes.Equal(got, c2.want) {
			t.Errorf("%s: % x, want % x", name, got, c2.want)
		}
		if c2.want == nil && (len(got) != 3 || got[1] != 1 || got[2] > 15) {
			t.Errorf("%s: % x", name, got)
		}
	}
}

func TestDustCrossesTheLimitsInTheFirstSeconds(t *testing.T) {
	for _, name := range []string{"air-aotizhongxin", "air-dongsi", "air-huairou"} {
		a, err := loadAir(name)
		if err != nil {
			t.Fatal(err)
		}
		up, down := -1, -1
		for r := range 12 {
			switch v := a.pm25.at(r); {
			case up < 0 && v > 50:
				up = r
			case up >= 0 && down < 0 && v < 45:
				down = r
			}
		}
		if up < 1 || up > 4 || down < up+3 || down > 9 {
			t.Errorf("%s: above 50 in row %d, below 45 in row %d", name, up, down)
		}
	}
}

func TestControlSetsKillsAndMutes(t *testing.T) {
	f := open(t, Config{ModbusTCP: "127.0.0.1:0", MQTT: "127.0.0.1:0", Control: "127.0.0.1:0", Steady: true})
	c := dial(t, f.ModbusAddr())
	post := func(path string, want int) {
		t.Helper()
		resp, err := http.Post("http://"+f.ControlAddr()+path, "text/plain", strings.NewReader("payload"))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	post("/set?unit=1&register=507&value=160", 204)
	if got := ask(t, c, 1, 3, 0x01, 0xFB, 0, 1); !bytes.Equal(got, []byte{3, 2, 0, 160}) {
		t.Errorf("% x", got)
	}
	post("/release?unit=1", 204)
	if got := ask(t, c, 1, 3, 0x01, 0xFB, 0, 1); bytes.Equal(got, []byte{3, 2, 0, 160}) {
		t.Error("the register was not given back")
	}
	post("/unit?unit=7&dead=true", 204)
	if _, err := c.Write([]byte{0, 1, 0, 0, 0, 6, 7, 3, 0, 4, 0, 1}); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, c, 1, 3, 0, 9, 0, 1); !bytes.Equal(got, []byte{3, 2, 2, 4}) { // the next answer is unit 1's
		t.Errorf("% x", got)
	}
	post("/unit?unit=7&dead=false", 204)
	if got := ask(t, c, 7, 3, 0, 4, 0, 1); len(got) != 4 {
		t.Errorf("% x", got)
	}
	post("/device?device=lac-duong-01/gate-cam&muted=true", 204)
	post("/publish?topic=a/b&retain=true", 204)
	post("/broker?up=false", 204)
	post("/publish?topic=a/b", 400)
	post("/broker?up=true", 204)
	for _, bad := range []string{"/set?unit=1&register=1&value=1", "/set?unit=x", "/unit?unit=99&dead=true", "/unit?unit=1", "/device?device=none&muted=true"} {
		post(bad, 400)
	}
	resp, err := http.Get("http://" + f.ControlAddr() + "/state")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var st State
	if err := json.NewDecoder(resp.Body).Decode(&st); err != nil || len(st.Units) != 9 {
		t.Errorf("%+v, %v", st, err)
	}
}

func TestSerialLineAppearsAndAnswers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "ttyBUS1")
	f := open(t, Config{PTYs: []string{path}, Steady: true})
	tty, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tty.Close() }()
	exchange := func(frame []byte, n int) []byte {
		t.Helper()
		if _, err := tty.Write(frame); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, n)
		if _, err := io.ReadFull(tty, got); err != nil {
			t.Fatal(err)
		}
		return got
	}
	// The request of a maker's sheet, with its checksum.
	got := exchange([]byte{1, 4, 0, 1, 0, 1, 0x60, 0x0A}, 7)
	if got[0] != 1 || got[1] != 4 || got[2] != 2 || binary.LittleEndian.Uint16(got[5:]) != crc16(got[:5]) {
		t.Errorf("% x", got)
	}
	if v := binary.BigEndian.Uint16(got[3:]); v != 252 { // 77.29 °F
		t.Errorf("temperature %d", v)
	}
	// A dead unit and a damaged frame get no answer; the next request does.
	if err := f.Kill(path, 2, true); err != nil {
		t.Fatal(err)
	}
	dead := []byte{2, 4, 0, 0, 0, 1}
	if _, err := tty.Write(binary.LittleEndian.AppendUint16(dead, crc16(dead))); err != nil {
		t.Fatal(err)
	}
	got = exchange([]byte{1, 4, 0, 1, 0, 1, 0x60, 0x0A}, 7)
	if got[0] != 1 {
		t.Errorf("% x", got)
	}
}

func TestSensorsPublish(t *testing.T) {
	rec := &buffer{}
	f := open(t, Config{MQTT: "127.0.0.1:0", Record: rec})
	seen := make(chan string, 100)
	o := paho.NewClientOptions().AddBroker("tcp://" + f.MQTTAddr()).SetClientID("test").SetDefaultPublishHandler(func(_ paho.Client, m paho.Message) {
		select {
		case seen <- m.Topic():
		default:
		}
	})
	c := paho.NewClient(o)
	if tok := c.Connect(); tok.Wait() && tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	defer c.Disconnect(100)
	if tok := c.Subscribe("#", 0, nil); tok.Wait() && tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	want := map[string]bool{"frigate/gate/person": true, "frigate/stats": true, "zigbee2mqtt/dam-rong/nha-van-hoa": true, "airgradient/readings/ecda3b24846a": true}
	deadline := time.After(time.Minute)
	for len(want) > 0 {
		select {
		case topic := <-seen:
			delete(want, topic)
		case <-deadline:
			t.Fatalf("nothing on %v", want)
		}
	}
	if len(rec.lines(t)) == 0 {
		t.Error("nothing was recorded")
	}
}

func TestOnlyThisMachineIsServed(t *testing.T) {
	for _, a := range []string{"0.0.0.0:5020", ":5020", "192.168.1.1:1", "x"} {
		if _, err := Open(Config{ModbusTCP: a}); err == nil {
			t.Errorf("%s was taken", a)
		}
	}
}

func TestTakenPortLeavesNothingBehind(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	path := filepath.Join(t.TempDir(), "tty")
	if _, err := Open(Config{MQTT: "127.0.0.1:0", Control: ln.Addr().String(), PTYs: []string{path}}); err == nil {
		t.Fatal("no error")
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("the link was left")
	}
}

func TestUnitDozesNowAndThen(t *testing.T) {
	u := &unit{dozes: true}
	for _, c := range []struct {
		s    int
		want bool
	}{{0, true}, {19, true}, {21, false}, {31, false}, {33, true}, {59, true}, {61, false}} {
		if got := u.answers(time.Duration(c.s) * time.Second); got != c.want {
			t.Errorf("after %d s: %v", c.s, got)
		}
	}
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte{3, 1, 0xF4, 0, 14}, byte(1))
	f.Add([]byte{6, 1, 0xF4, 0, 14}, byte(1))
	fd, err := Open(Config{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, pdu []byte, unit byte) {
		reply, ok := fd.serve(LineTCP, unit, pdu)
		if ok && (len(reply) < 2 || len(reply) > 253) {
			t.Errorf("% x: reply of %d bytes", pdu, len(reply))
		}
		_ = requestLen(pdu)
	})
}
