package edge

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	firmwareprofiles "github.com/langbiang/langbiang/firmware-profiles"
	"github.com/langbiang/langbiang/pkg/filter"
	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/wire"
)

// The part of a configuration that the hub may decide: what is read. Who this edge is,
// how it reaches the hub, and what concerns the gateway itself stay in edge.yaml, so
// that nothing that comes from the hub can cut the gateway off or fill its disk.

// hubPart are the keys of edge.yaml that a configuration of the hub may have.
var hubPart = []string{"filters", "connections", "devices"}

// gatewayPart says why the others may not stand there.
var gatewayPart = map[string]string{
	"edge":     "who this edge is stays with the gateway",
	"owner":    "who decides is said on the gateway: langbiang-edge owner",
	"data_dir": "where the log stands stays with the gateway",
	"hub":      "how the hub is reached stays with the gateway, so that no mistake here can cut it off",
	"buffer":   "the log stays with the gateway, whose disk it is on",
	"clock":    "the clock stays with the gateway",
	"http":     "what the gateway listens on stays with it",
	"log":      "what the gateway prints stays with it",
	"profiles": "folders of the gateway stay with it; profiles of your own are put there",
}

// hubConfig is a configuration of the hub.
type hubConfig struct {
	Version uint64    `json:"version"`
	Name    string    `json:"name"` // of its file, for the places of faults
	Hash    wire.Hash `json:"hash"`
	Text    string    `json:"text"`
}

// file is the name that faults are told with.
func (h *hubConfig) file() string {
	if h.Name == "" {
		return "desired.yaml"
	}
	return h.Name
}

// deviceConfig is what stands in such a document.
type deviceConfig struct {
	Filters     map[string]filter.Config `yaml:"filters" doc:"as in edge.yaml"`
	Connections []ConnectionConfig       `yaml:"connections" doc:"as in edge.yaml; secrets are names of files in the gateway's folder of secrets, or of variables of its environment"`
	Devices     []DeviceConfig           `yaml:"devices" doc:"as in edge.yaml"`
}

// Summary is what a configuration comes to.
type Summary struct {
	Connections, Devices, Points int
	Warnings                     strictyaml.Errors
}

// CheckDesired judges a configuration that an edge is to be given, with the code that
// its agent judges it by. Name is that of its file. The error holds every fault with
// its place ([strictyaml.Errors]). Profiles that the gateway alone may have are warnings.
func CheckDesired(name, edge, text string) (Summary, error) {
	quantities, err := catalogue()
	if err != nil {
		return Summary{}, err
	}
	cfg := DefaultConfig()
	cfg.Edge.ID = edge
	c := &checker{cfg: &cfg, quantities: maps.Clone(quantities), elsewhere: true}
	plan := &Plan{Disabled: map[string]error{}, Quantities: c.quantities, Filters: filterSet{}, library: profile.Open(quantities, firmwareprofiles.FS)}
	c.decode(&hubConfig{Name: name, Text: text}, "")
	if c.hubDoc == nil {
		return Summary{}, c.errs.Err()
	}
	c.resolve(plan)
	s := Summary{Connections: len(plan.Connections), Devices: len(plan.Devices), Warnings: c.warnings}
	for _, d := range plan.Devices {
		s.Points += len(d.Points)
	}
	return s, c.errs.Err()
}

// decode puts a configuration of the hub in the place of the file's own part. Secrets
// is the folder that its files are in.
func (c *checker) decode(hub *hubConfig, secrets string) {
	doc, errs := strictyaml.Parse(hub.file(), []byte(hub.Text))
	if len(errs) > 0 {
		c.errs = append(c.errs, errs...)
		return
	}
	c.hubDoc = doc
	var own deviceConfig
	errs = doc.Decode(&own)
	for _, key := range doc.Keys() {
		if why, stays := gatewayPart[key]; stays {
			at := doc.KeyAt(key)
			errs = slices.DeleteFunc(errs, func(e strictyaml.Error) bool { return e.Pos == at })
			errs = append(errs, strictyaml.Error{Pos: at, Path: key, Msg: "does not belong into a configuration of the hub", Hint: why})
		}
	}
	c.errs = append(c.errs, errs...)
	c.cfg.Filters, c.cfg.Connections, c.cfg.Devices = own.Filters, own.Connections, own.Devices
	for i := range c.cfg.Connections {
		c.confine(i, &c.cfg.Connections[i], secrets)
	}
}

// secretEnv begins the names of the environment variables that a configuration of the
// hub may name.
const secretEnv = "LANGBIANG_SECRET_"

// secretsDir is the folder beside edge.yaml of which a configuration of the hub may
// name files.
func secretsDir(path string) string { return filepath.Join(filepath.Dir(path), "secrets") }

// confine refuses secrets in a configuration of the hub, and what would let it read or
// write more of the gateway than was set aside for it.
func (c *checker) confine(i int, cc *ConnectionConfig, secrets string) {
	at := func(kind, field string) []any { return []any{"connections", i, kind, field} }
	literal := func(kind, v string) {
		if v != "" {
			c.fault("a secret does not belong into a configuration of the hub", "write password_file: NAME, a file in the folder secrets beside edge.yaml on the gateway, or password_env: "+secretEnv+"NAME", at(kind, "password")...)
		}
	}
	env := func(kind, v string) {
		if v != "" && !strings.HasPrefix(v, secretEnv) {
			c.fault(fmt.Sprintf("%.80q is not a variable that the hub may name", v), "give it a name that begins with "+secretEnv, at(kind, "password_env")...)
		}
	}
	file := func(kind, field string, v *string) {
		switch {
		case *v == "":
		case filepath.Base(*v) != *v || *v == "." || *v == "..":
			c.fault(fmt.Sprintf("%.80q is not a file that the hub may name", *v), "write the name alone; the file stands in the folder secrets beside edge.yaml on the gateway", at(kind, field)...)
		default:
			*v = filepath.Join(secrets, *v)
		}
	}
	if m := cc.MQTT; m != nil {
		literal("mqtt", m.Password)
		env("mqtt", m.PasswordEnv)
		file("mqtt", "password_file", &m.PasswordFile)
		file("mqtt", "ca_file", &m.CAFile)
		file("mqtt", "cert_file", &m.CertFile)
		file("mqtt", "key_file", &m.KeyFile)
	}
	if m := cc.Camera; m != nil {
		literal("camera", m.Password)
		env("camera", m.PasswordEnv)
		file("camera", "password_file", &m.PasswordFile)
		file("camera", "ca_file", &m.CAFile)
	}
	if m := cc.Modbus; m != nil && m.Port != "" && (filepath.Clean(m.Port) != m.Port || !strings.HasPrefix(m.Port, "/dev/")) {
		c.fault(fmt.Sprintf("%.80q is no serial port", m.Port), "a path below /dev, such as /dev/serial/by-id/...", at("modbus", "port")...)
	}
}

// withoutPart leaves out the faults of what the hub decides.
func withoutPart(errs strictyaml.Errors) strictyaml.Errors {
	return slices.DeleteFunc(slices.Clone(errs), func(e strictyaml.Error) bool {
		key, _, _ := strings.Cut(e.Path, ".")
		key, _, _ = strings.Cut(key, "[")
		return slices.Contains(hubPart, key)
	})
}

// hashPart names what a file says of the part that the hub may decide.
func hashPart(cfg *Config) wire.Hash {
	data, err := json.Marshal([]any{cfg.Filters, cfg.Connections, cfg.Devices})
	if err != nil {
		return wire.HashConfig(err.Error()) // of values that no file can hold
	}
	return wire.HashConfig(string(data))
}

// partOf cuts the part that the hub may decide out of the text of an edge.yaml, with
// its comments, and returns what is left besides. A file that is written in braces has
// no lines to cut at: ok is false.
func partOf(path, text string) (part, rest string, ok bool) {
	doc, errs := strictyaml.Parse(path, []byte(text))
	if len(errs) > 0 {
		return "", text, false
	}
	keys := doc.Keys()
	lines := strings.SplitAfter(text, "\n")
	begins := map[int]string{} // by line, from 0
	for _, k := range keys {
		at := doc.KeyAt(k)
		if at.Col != 1 {
			return "", text, false
		}
		begins[at.Line-1] = k
	}
	starts := slices.Sorted(maps.Keys(begins))
	var in, out strings.Builder
	write := func(key string, from, to int) {
		b := &out
		if slices.Contains(hubPart, key) {
			b = &in
		}
		for _, l := range lines[from:to] {
			b.WriteString(l)
		}
	}
	from := 0
	key := "" // what stands before the first key is the file's
	for _, begin := range starts {
		// Comments right above a key are the key's; those above the first are the file's.
		cut := begin
		for cut > from && strings.HasPrefix(lines[cut-1], "#") && key != "" {
			cut--
		}
		write(key, from, cut)
		from, key = cut, begins[begin]
	}
	write(key, from, len(lines))
	return in.String(), out.String(), true
}

// ownPart is the file's own part as it stands on the disk. The error says why its text
// cannot be shown at the hub.
func (p *Plan) ownPart() (wire.Hash, string, error) {
	f, err := readFile(p.path, nil)
	if err != nil {
		return wire.Hash{}, "", err
	}
	for i := range f.cfg.Connections {
		for kind, secret := range map[string]bool{
			"mqtt":   f.cfg.Connections[i].MQTT != nil && f.cfg.Connections[i].MQTT.Password != "",
			"camera": f.cfg.Connections[i].Camera != nil && f.cfg.Connections[i].Camera.Password != "",
		} {
			if secret {
				return f.own, "", f.doc.Fault([]any{"connections", i, kind, "password"}, "a secret does not leave the gateway", "write password_file: NAME, a file in "+secretsDir(p.path)+", in its place")
			}
		}
	}
	data, err := os.ReadFile(p.path)
	if err != nil {
		return f.own, "", err
	}
	text, _, ok := partOf(p.path, string(data))
	if !ok {
		return f.own, "", fmt.Errorf("%s: its part cannot be cut out: write filters, connections and devices in lines of their own", p.path)
	}
	return f.own, text, nil
}
