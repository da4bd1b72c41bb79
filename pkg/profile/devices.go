package profile

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
)

// categoryNames are the headings of the table of devices, in its order.
var categoryNames = []struct{ id, vi, en string }{
	{"weather", "Thời tiết", "Weather"},
	{"rain", "Mưa", "Rain"},
	{"water_level", "Mực nước", "Water level"},
	{"air", "Chất lượng không khí", "Air quality"},
	{"soil", "Đất", "Soil"},
	{"slope", "Mái dốc", "Slopes"},
	{"noise", "Tiếng ồn", "Noise"},
	{"light", "Ánh sáng", "Light"},
	{"traffic", "Giao thông", "Traffic"},
	{"camera", "Camera", "Cameras"},
	{"power", "Nguồn điện", "Power"},
	{"gateway", "Cổng và truyền dẫn", "Gateways and links"},
	{"io", "Vào/ra", "I/O"},
	{"device", "Khác", "Other"},
}

// WriteDevices writes the library as a document: what there is, what it
// measures, how the agent tells its firmware, and what surprises. It fails on a
// profile that is broken.
func WriteDevices(w io.Writer, lib *Library) error {
	out := bufio.NewWriter(w)
	byCategory := map[string][]*Profile{}
	count := 0
	for _, id := range lib.IDs() {
		p, err := lib.Get(id)
		if err != nil {
			return err
		}
		byCategory[p.Category] = append(byCategory[p.Category], p)
		count++
	}
	_, _ = fmt.Fprintf(out, `# Devices

<!-- generated from firmware-profiles: go test ./pkg/profile -update -->

%d profiles are built in; docs/profiles.md says how to write one of your own. *Checked against* is what a profile was tested with: a document (and its examples), a capture of real traffic, or a device. *Firmware* says whether the agent tells the revision by itself; where it cannot, `+"`revision:`"+` in edge.yaml chooses one, and the first is taken otherwise.
`, count)
	for _, c := range categoryNames {
		list := byCategory[c.id]
		if len(list) == 0 {
			continue
		}
		_, _ = fmt.Fprintf(out, "\n## %s · %s\n\n| profile | device | measures | firmware | checked against |\n| --- | --- | --- | --- | --- |\n", c.en, c.vi)
		for _, p := range list {
			_, _ = fmt.Fprintf(out, "| `%s` | **%s %s**<br>%s<br>%s | %s | %s | %s |\n", p.ID, p.Vendor, p.Model, p.Title.EN, p.Title.VI,
				strings.Join(p.Measures(), ", "), p.firmwareCell(), p.Tested)
		}
	}
	_, _ = out.WriteString("\n## What surprises\n")
	for _, c := range categoryNames {
		for _, p := range byCategory[c.id] {
			_, _ = fmt.Fprintf(out, "\n### %s\n\n", p.ID)
			for i := range p.Caveats {
				_, _ = fmt.Fprintf(out, "- %s *(%s)*\n", p.Caveats[i].Text.EN, p.Caveats[i].Source)
			}
			_, _ = fmt.Fprintf(out, "\nFrom: %s.\n", strings.Join(p.Links, "; "))
		}
	}
	return out.Flush()
}

// Measures lists the quantities of a profile in the order of its points, each
// once.
func (p *Profile) Measures() (ids []string) {
	add := func(points []Point) {
		for i := range points {
			if !slices.Contains(ids, points[i].Quantity) {
				ids = append(ids, points[i].Quantity)
			}
		}
	}
	add(p.Points)
	for i := range p.Firmware {
		add(p.Firmware[i].Points)
	}
	return ids
}

func (p *Profile) firmwareCell() string {
	ids := make([]string, len(p.Firmware))
	for i := range p.Firmware {
		ids[i] = "`" + p.Firmware[i].ID + "`"
	}
	list := strings.Join(ids, " ")
	switch told := p.TellsRevision(); {
	case told:
		return "told: " + list
	case len(ids) > 0:
		return "chosen: " + list
	case len(p.Match) > 0:
		return "model told"
	}
	return ""
}

// TellsRevision reports whether the agent can tell the revision of a device by
// what it says of itself.
func (p *Profile) TellsRevision() bool {
	if len(p.Firmware) < 2 {
		return false
	}
	version := slices.ContainsFunc(p.Match, func(m Match) bool { return m.Version != "" })
	return slices.ContainsFunc(p.Firmware, func(r Revision) bool { return len(r.Match) > 0 || version && r.Range != "" })
}
