package modbus

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/langbiang/langbiang/pkg/driver"
)

func TestConfigSaysWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  Config
		want []string // field: beginning of the message
	}{
		{"tcp", Config{Address: "10.0.0.5"}, nil},
		{"serial by its port alone", Config{Port: "/dev/ttyUSB0"}, nil},
		{"converter", Config{Transport: "rtu-over-tcp", Address: "10.0.0.5:4001", Baud: 4800}, nil},
		{"nothing", Config{}, []string{"address: transport tcp needs an address"}},
		{"unknown transport", Config{Transport: "udp"}, []string{`transport: "udp" is none of tcp, rtu`}},
		{"no host", Config{Address: ":502"}, []string{"address: \":502\" names no host"}},
		{"bad port", Config{Address: "a:70000"}, []string{`address: "70000" is not a port`}},
		{"serial settings with tcp", Config{Address: "a", Baud: 9600, Parity: "even"}, []string{"baud: means nothing", "parity: means nothing"}},
		{"relative port", Config{Transport: "rtu", Port: "COM3"}, []string{`port: "COM3" is not a path`}},
		{"every field", Config{
			Transport: "rtu", Address: "a", Baud: 9601, Parity: "N", StopBits: 3, DataBits: 7,
			Timeout: time.Millisecond, ConnectTimeout: time.Hour, Pause: -1, Retries: ptr(-1),
		}, []string{
			"address: means nothing", "port: transport rtu needs", "baud: 9601 is none of 300", `parity: "N"`, "stop_bits: 3", "data_bits: 7",
			"timeout: 1ms is not", "connect_timeout: 1h", "pause: -1ns", "retries: -1",
		}},
	} {
		var got []string
		for _, p := range c.cfg.Validate() {
			got = append(got, p.Error())
		}
		if len(got) != len(c.want) {
			t.Errorf("%s: %s", c.name, strings.Join(got, "\n"))
			continue
		}
		for i, w := range c.want {
			if !strings.HasPrefix(got[i], w) {
				t.Errorf("%s: %q, want %q", c.name, got[i], w)
			}
		}
	}
}

func TestConfigDefaults(t *testing.T) {
	c := Config{Port: "/dev/ttyS1"}
	c.ApplyDefaults()
	want := Config{
		Transport: "rtu", Port: "/dev/ttyS1", Baud: 9600, Parity: "none", StopBits: 1, DataBits: 8,
		Timeout: time.Second, ConnectTimeout: 5 * time.Second, Retries: ptr(1),
	}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Error(diff)
	}
	c = Config{Address: "::1"}
	if c.ApplyDefaults(); c.Address != "[::1]:502" || c.Baud != 0 {
		t.Errorf("%+v", c)
	}
}

func TestNewRefusesWhatCanNeverWork(t *testing.T) {
	_, err := (&Config{}).New("cabinet", []*driver.Device{device(300, time.Second), device(1, 0)}, driver.Env{})
	for _, want := range []string{"connection cabinet: address:", "device unit-300: unit 300", "device unit-1: interval 0s"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}

// At 9600 baud, 8N1, a character takes 1.04 ms.
func TestTimeOnASerialLine(t *testing.T) {
	c := Config{Transport: "rtu", Port: "/dev/ttyS1"}
	c.ApplyDefaults()
	if got := c.silence().Round(time.Microsecond); got != 3646*time.Microsecond {
		t.Errorf("silence is %v", got)
	}
	if got := c.onWire(question{area: 3, count: 10}).Round(100 * time.Microsecond); got != 34400*time.Microsecond {
		t.Errorf("ten registers take %v", got)
	}
	c.Baud = 115200
	if got := c.silence(); got != 1750*time.Microsecond {
		t.Errorf("silence is %v", got)
	}
}
