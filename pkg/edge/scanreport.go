package edge

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/langbiang/langbiang/pkg/driver/camera"
	"github.com/langbiang/langbiang/pkg/edge/scan"
	"github.com/langbiang/langbiang/pkg/internal/settings"
)

// scanReport is what was found as YAML.
type scanReport struct {
	connection []string // lines of a new connection; none when edge.yaml has it
	devices    []string // lines of new devices
	guesses    []string // lines of devices that may be, as comments
	remarks    []string // comments about what cannot be added
}

// maxShown is how many values stand in a device's comment.
const maxShown = 4

// report writes the findings as devices of edge.yaml.
func (s *scanner) report(t *target, found []scan.Finding) *scanReport {
	r := &scanReport{}
	taken := map[string]bool{}
	if s.plan != nil {
		for _, d := range s.plan.Config.Devices { // those that are disabled, too
			taken[d.ID] = true
		}
		for _, d := range s.plan.Devices { // those that each: makes, too
			taken[d.ID] = true
		}
	}
	connection := t.id
	if connection == "" {
		connection = s.freeConnection(t)
		r.connection = []string{fmt.Sprintf("- {id: %s, %s}", connection, t.yaml)}
	}
	for i := range found {
		f := &found[i]
		where := f.Topic
		if t.modbus != nil {
			where = fmt.Sprintf("unit %d", f.Unit)
		}
		switch id := s.configured(t, f); {
		case id != "":
			r.remarks = append(r.remarks, fmt.Sprintf("# %s is configured as %s", where, id))
		case f.Profile == nil:
			r.remarks = append(r.remarks, fmt.Sprintf("# %s %s", where, headline(f)))
			for j := range f.Guesses {
				g := &f.Guesses[j]
				r.guesses = append(r.guesses, fmt.Sprintf("# %s does not say what it is; %s", where, "as "+g.Profile.ID+" it would read "+valuesOf(g)),
					"# "+deviceLine(t, g, connection, freeID(g, maps.Clone(taken))))
			}
		default:
			r.device(t, f, connection, freeID(f, taken))
		}
	}
	if len(r.devices)+len(r.guesses) == 0 {
		r.connection = nil
	}
	return r
}

func (r *scanReport) device(t *target, f *scan.Finding, connection, id string) {
	facts := []string{headline(f)}
	if text := valuesOf(f); text != "" {
		facts = append(facts, "it reads "+text)
	}
	if f.Seen != "" {
		facts = append(facts, "known by "+f.Seen)
	}
	if len(f.Others) > 0 {
		facts = append(facts, "these would fit too: "+strings.Join(f.Others, ", "))
	}
	if f.Choose {
		var ids []string
		for i := range f.Profile.Firmware {
			ids = append(ids, f.Profile.Firmware[i].ID)
		}
		facts = append(facts, "it does not tell its revision: write revision: "+strings.Join(ids, " or ")+" when it is not the first")
	}
	for _, fact := range facts {
		r.devices = append(r.devices, "# "+strings.ReplaceAll(fact, "\n", " "))
	}
	r.devices = append(r.devices, deviceLine(t, f, connection, id))
}

func deviceLine(t *target, f *scan.Finding, connection, id string) string {
	line := fmt.Sprintf("- {id: %s, profile: %s, connection: %s", id, f.Profile.ID, connection)
	if t.modbus != nil && f.Unit != f.Profile.Modbus.Unit {
		line += fmt.Sprintf(", unit: %d", f.Unit)
	}
	return line + withText(f.With) + "}"
}

// valuesOf shows some of what a device reads.
func valuesOf(f *scan.Finding) string {
	var values []string
	for _, v := range f.Values[:min(len(f.Values), maxShown)] {
		text := strings.TrimSpace(number(v.Value) + " " + v.Unit)
		if v.Text != "" {
			text = v.Text
		}
		values = append(values, v.Point+" "+text)
	}
	return strings.Join(values, ", ")
}

// yaml returns the report as a part of edge.yaml.
func (r *scanReport) yaml() string {
	var b strings.Builder
	for _, line := range r.remarks {
		b.WriteString(line + "\n")
	}
	for _, list := range []struct {
		name  string
		lines []string
	}{{"connections", r.connection}, {"devices", append(slices.Clone(r.devices), r.guesses...)}} {
		if len(list.lines) == 0 {
			continue
		}
		b.WriteString(list.name + ":\n")
		for _, line := range list.lines {
			b.WriteString("  " + line + "\n")
		}
	}
	return b.String()
}

// configured returns the device of edge.yaml that a finding is.
func (s *scanner) configured(t *target, f *scan.Finding) string {
	if s.plan == nil || t.id == "" {
		return ""
	}
	for _, c := range s.plan.Connections {
		if c.ID != t.id {
			continue
		}
		for _, d := range c.Devices {
			if t.modbus != nil && d.Unit == f.Unit || t.camera != nil && camera.Host(d) == f.Topic {
				return d.ID
			}
			if t.modbus == nil && f.Profile != nil && d.Profile == f.Profile.ID && agrees(d.With, f.With) {
				return d.ID
			}
		}
	}
	return ""
}

func agrees(has, wants map[string]string) bool {
	for name, v := range wants {
		if has[name] != v {
			return false
		}
	}
	return true
}

var notInID = regexp.MustCompile(`[^a-z0-9]+`)

// freeID makes an id for a device out of its model and address.
func freeID(f *scan.Finding, taken map[string]bool) string {
	_, model, _ := strings.Cut(f.Profile.ID, "/")
	tail := fmt.Sprint(f.Unit)
	if f.Unit == 0 && f.Name != "" {
		tail = strings.Trim(notInID.ReplaceAllString(strings.ToLower(f.Name), "-"), "-")
	} else if f.Unit == 0 {
		var words []string
		for _, name := range slices.Sorted(maps.Keys(f.With)) {
			words = append(words, f.With[name])
		}
		tail = strings.Trim(notInID.ReplaceAllString(strings.ToLower(strings.Join(words[max(0, len(words)-1):], "-")), "-"), "-")
	}
	id := strings.Trim(model+"-"+tail, "-")
	for n := 2; taken[id]; n++ {
		id = fmt.Sprintf("%s-%s-%d", model, tail, n)
	}
	taken[id] = true
	return id
}

// freeConnection is a name for a connection that edge.yaml lacks.
func (s *scanner) freeConnection(t *target) string {
	name := "bus"
	if t.mqtt != nil {
		name = "broker"
	}
	if t.camera != nil {
		name = "cameras"
	}
	if s.plan == nil {
		return name
	}
	id := name
	for n := 2; slices.ContainsFunc(s.plan.Connections, func(c Connection) bool { return c.ID == id }); n++ {
		id = fmt.Sprintf("%s-%d", name, n)
	}
	return id
}

// write adds the report to edge.yaml, if the file is still one that holds then.
func (s *scanner) write(r *scanReport) error {
	path, err := filepath.EvalSymlinks(s.config)
	if err != nil {
		return err
	}
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	text, ok := insert(old, "connections", r.connection)
	if ok {
		text, ok = insert(text, "devices", r.devices)
	}
	if !ok {
		_, _ = fmt.Fprint(s.call.Stdout, r.yaml())
		return fmt.Errorf("%s has its connections or devices in brackets, so nothing was added; copy the lines above into it", s.config)
	}
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	// In the same folder, since paths in the file are relative to it.
	f, err := os.CreateTemp(filepath.Dir(path), ".edge-*.yaml")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone already when it was renamed
	likeOwner(f, st)
	_, err = f.Write(text)
	for _, step := range []func() error{func() error { return f.Chmod(st.Mode()) }, f.Sync, f.Close} {
		if e := step(); err == nil {
			err = e
		}
	}
	if err != nil {
		return err
	}
	if _, err := Load(f.Name(), nil); err != nil {
		_, _ = fmt.Fprint(s.call.Stdout, r.yaml())
		return fmt.Errorf("with these lines %s would be wrong, so nothing was added: %w", s.config, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	for _, line := range append(r.remarks, r.guesses...) {
		_, _ = fmt.Fprintln(s.call.Stdout, line)
	}
	n := 0
	for _, line := range r.devices {
		if strings.HasPrefix(line, "- ") {
			n++
		}
	}
	_, err = fmt.Fprintf(s.call.Stdout, "%s added to %s; give them the names that people know; langbiang-edge reload takes them up\n", settings.Count(n, "device"), s.config)
	return err
}

var (
	topKey   = regexp.MustCompile(`^[A-Za-z_"'].*:`)
	emptyKey = regexp.MustCompile(`^(connections|devices):\s*(\[\s*\]|~|null)?\s*(#.*)?$`)
	plainKey = regexp.MustCompile(`^(connections|devices):\s*(#.*)?$`)
	itemLine = regexp.MustCompile(`^(\s*)- `)
)

// insert adds lines to the list under a key at the top of a YAML file, which
// keeps all else as it is, comments included. It is not ok when the list is
// written in brackets.
func insert(text []byte, key string, lines []string) ([]byte, bool) {
	if len(lines) == 0 {
		return text, true
	}
	all := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	start := slices.IndexFunc(all, func(l string) bool { return strings.HasPrefix(l, key+":") })
	indented := func(by string) (out []string) {
		for _, l := range lines {
			out = append(out, by+l)
		}
		return out
	}
	if start < 0 {
		all = append(all, append([]string{key + ":"}, indented("  ")...)...)
		return []byte(strings.Join(all, "\n") + "\n"), true
	}
	if !emptyKey.MatchString(all[start]) {
		return nil, false
	}
	end, by := start+1, "  "
	for i := start + 1; i < len(all) && !topKey.MatchString(all[i]); i++ {
		if m := itemLine.FindStringSubmatch(all[i]); m != nil && end == start+1 {
			by = m[1]
		}
		if trimmed := strings.TrimSpace(all[i]); trimmed != "" && !strings.HasPrefix(all[i], "#") {
			end = i + 1
		}
	}
	if !plainKey.MatchString(all[start]) {
		all[start] = key + ":"
	}
	all = slices.Insert(all, end, indented(by)...)
	return []byte(strings.Join(all, "\n") + "\n"), true
}
