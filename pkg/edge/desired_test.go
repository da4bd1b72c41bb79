package edge

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestTheHubsConfigurationIsJudgedWithItsPlaces(t *testing.T) {
	good := `# of the hub
filters: {water_level: {deadband: 0.01}}
connections:
  - {id: cabinet, modbus: {address: 10.0.0.5}}
  - {id: broker, mqtt: {url: "tcp://10.0.0.6", user: a, password_file: broker}}
devices:
  - {id: tank, connection: cabinet, unit: 1, points: [{id: level, quantity: water_level, holding: 4, type: uint16, scale: 0.001, unit: m}]}
  - {id: air, profile: renke/cwt-uwd, connection: cabinet, unit: 2}
`
	s, err := CheckDesired("a-01.yaml", "a-01", good)
	if err != nil || s.Connections != 2 || s.Devices != 2 || s.Points < 3 {
		t.Errorf("%+v, %v", s, err)
	}
	for _, c := range []struct{ name, text, want string }{
		{"the hub's address", "hub: {url: mqtt://elsewhere}\n" + good, "a-01.yaml:1:1: hub: does not belong into a configuration of the hub; how the hub is reached stays with the gateway"},
		{"who it is", "edge: {id: b}\n", "a-01.yaml:1:1: edge: does not belong"},
		{"a key that is none", "device: []\n", `a-01.yaml:1:1: device: unknown key; did you mean "devices"?`},
		{"a secret of a broker", strings.Replace(good, "password_file: broker", "password: hunter2", 1), "a-01.yaml:5:67: connections[1].mqtt.password: a secret does not belong"},
		{"a secret of cameras", "connections:\n  - {id: c, camera: {user: a, password: b}}\n", "a-01.yaml:2:41: connections[0].camera.password: a secret"},
		{"a file of the gateway", strings.Replace(good, "password_file: broker", "password_file: /var/lib/langbiang-edge/identity/key.pem", 1), "is not a file that the hub may name"},
		{"a file above", strings.Replace(good, "password_file: broker", "password_file: ..", 1), "is not a file that the hub may name"},
		{"the environment", strings.Replace(good, "password_file: broker", "password_env: HOME", 1), "begins with LANGBIANG_SECRET_"},
		{"a port that is a file", "connections: [{id: c, modbus: {port: /var/lib/langbiang-edge/fleet.json}}]\n", "is no serial port"},
		{"a port beyond /dev", "connections: [{id: c, modbus: {port: /dev/../etc/passwd}}]\n", "is no serial port"},
		{"what does not hold", strings.Replace(good, "unit: 2", "unit: 1", 1), `a-01.yaml:8:66: devices[1].unit: unit 1 of connection "cabinet" is read by "tank" already`},
		{"no YAML", "connections: [", "a-01.yaml:1:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := CheckDesired("a-01.yaml", "a-01", c.text); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v\nwant %s", err, c.want)
			}
		})
	}
	s, err = CheckDesired("a-01.yaml", "a-01", strings.Replace(good, "renke/cwt-uwd", "acme/mine", 1))
	if err != nil || len(s.Warnings) != 1 || !strings.Contains(s.Warnings[0].Error(), "the agent judges") {
		t.Errorf("a profile of the gateway's own: %v, %v", s.Warnings, err)
	}
}

// Every setting of a connection that may hold a secret, or names a file, is one that
// confine knows.
func TestNoSecretOfAConnectionIsForgotten(t *testing.T) {
	known := map[string]bool{
		"mqtt.password": true, "mqtt.password_file": true, "mqtt.password_env": true, "mqtt.ca_file": true, "mqtt.cert_file": true, "mqtt.key_file": true,
		"camera.password": true, "camera.password_file": true, "camera.password_env": true, "camera.ca_file": true,
	}
	kinds := reflect.TypeFor[ConnectionConfig]()
	for i := range kinds.NumField() {
		kind := kinds.Field(i)
		if kind.Type.Kind() != reflect.Pointer {
			continue
		}
		for j := range kind.Type.Elem().NumField() {
			key, _, _ := strings.Cut(kind.Type.Elem().Field(j).Tag.Get("yaml"), ",")
			for _, word := range []string{"password", "secret", "token", "key", "file", "path", "env"} {
				if name := kind.Tag.Get("yaml") + "." + key; strings.Contains(key, word) && !known[name] {
					t.Errorf("%s: may a configuration of the hub have it? See confine", name)
				}
			}
		}
	}
}

func TestAGatewayThatDecidesAgainGoesOnWithWhatWasInForce(t *testing.T) {
	own := `# The agent of the cabinet.
edge: {id: a-01}
owner: hub # since May
hub: {url: mqtt://127.0.0.1:1}

# Ours.
connections:
  - {id: old, modbus: {address: 10.0.0.1}}
devices: []
log: {level: warn}
`
	text := "connections:\n  - {id: broker, mqtt: {url: \"tcp://10.0.0.6\", user: a, password_file: broker}}\n  - {id: cams, camera: {user: b, password_file: \"cams\"}}\ndevices: []\n"
	dir := files(t, map[string]string{"edge.yaml": own})
	path := filepath.Join(dir, "edge.yaml")
	if err := os.MkdirAll(filepath.Join(dir, "data", "edge"), 0o755); err != nil {
		t.Fatal(err)
	}
	hub := &hubConfig{Version: 7, Name: "a.yaml", Text: text}
	if err := fleetFolder(filepath.Join(dir, "data", "edge")).save(&fleetState{Newest: 7, Running: hub}); err != nil {
		t.Fatal(err)
	}
	code, out, errs := command(t, dir, "owner")
	if code != 0 || !strings.Contains(out, "the hub decides: version 7 (a.yaml) is in force") {
		t.Errorf("owner: %d %s %s", code, out, errs)
	}
	code, out, _ = command(t, dir, "owner", "--print")
	if code != 0 || !strings.Contains(out, text) {
		t.Errorf("owner --print: %d %s", code, out)
	}
	if code, out, errs = command(t, dir, "owner", "gateway"); code != 0 {
		t.Fatalf("owner gateway: %d %s %s", code, out, errs)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got := string(data)
	for _, want := range []string{"# The agent of the cabinet.\nedge:", "owner: gateway # since May\n", "log: {level: warn}", "password_file: " + dir + "/secrets/broker}", `password_file: "` + dir + `/secrets/cams"}`} {
		if !strings.Contains(got, want) {
			t.Errorf("the file has no %q:\n%s", want, got)
		}
	}
	if strings.Contains(got, "old") || strings.Contains(got, "# Ours") {
		t.Errorf("what was not in force is still there:\n%s", got)
	}
	plan, err := Load(path, nil)
	if err != nil || plan.hub != nil || len(plan.Connections) != 2 {
		t.Errorf("%v, %v", plan, err)
	}
	if code, out, errs = command(t, dir, "owner", "hub"); code != 0 || !strings.Contains(out, "owner: hub") {
		t.Errorf("owner hub: %d %s %s", code, out, errs)
	}
	if code, _, errs = command(t, dir, "owner", "hubb"); code != 2 || !strings.Contains(errs, `did you mean "hub"?`) {
		t.Errorf("owner hubb: %d %s", code, errs)
	}
}

func TestADamagedFleetFileLeavesWhatWasBefore(t *testing.T) {
	dir := fleetFolder(t.TempDir())
	if s, err := dir.load(); err != nil || s.Newest != 0 {
		t.Fatal(s, err)
	}
	for v := uint64(1); v <= 2; v++ {
		if err := dir.save(&fleetState{Newest: v, Running: &hubConfig{Version: v, Text: "devices: []\n"}}); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(string(dir), fleetFile)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range data {
		bent := []byte(string(data))
		bent[i] ^= 4
		if err := os.WriteFile(path, bent, 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := dir.load(); err != nil || s.Newest != 1 {
			// A bit in the name of a field that is empty anyway changes nothing.
			if s.Newest != 2 || s.Running == nil || s.Running.Text != "devices: []\n" {
				t.Fatalf("byte %d: %+v, %v", i, s, err)
			}
		}
	}
	if err := os.Remove(path + ".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data[:len(data)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := dir.load(); err == nil || !strings.Contains(err.Error(), "is damaged") {
		t.Errorf("%v", err)
	}
}
