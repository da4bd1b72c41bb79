package edge

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
)

// withHub returns the text of edge.yaml with the edge's id and site and the hub's
// address; everything else, comments too, stays as it is. Path is its name in errors.
func withHub(text []byte, path, edge, site, hub string) ([]byte, error) {
	if strings.TrimSpace(string(text)) == "" {
		return firstEnrolled(path, edge, site, hub), nil
	}
	var err error
	for _, set := range []struct{ section, key, value string }{
		{"edge", "id", edge}, {"edge", "site", strconv.Quote(site)}, {"hub", "url", hub},
	} {
		if set.key == "site" && site == "" {
			continue
		}
		if text, err = setScalar(text, path, set.section, set.key, set.value); err != nil {
			return nil, err
		}
	}
	doc, errs := strictyaml.Parse(path, text)
	if len(errs) > 0 {
		return nil, errs
	}
	cfg := DefaultConfig()
	_ = doc.Decode(&cfg) // what else is wrong was wrong before
	if cfg.Edge.ID != edge || site != "" && cfg.Edge.Site != site || cfg.Hub.URL != hub {
		return nil, errNotSet
	}
	return text, nil
}

var errNotSet = errors.New("its edge: and hub: parts are written in a way that this command does not change")

// firstEnrolled is the file of a gateway that has none.
func firstEnrolled(path, edge, site, hub string) []byte {
	data := "./data"
	if strings.HasPrefix(filepath.Clean(path), "/etc/") {
		data = packagedData
	}
	return fmt.Appendf(nil, `# The agent of %s. docs/configuration.md has every setting; langbiang-edge check
# says what is wrong with this file.

edge: {id: %s, site: %q}
data_dir: %s
hub:
  url: %s
  # link: metered             # 4G paid by volume: readings are bundled for a minute

# What is read. langbiang-edge scan finds devices and writes them here.
connections: []
devices: []
`, edge, edge, site, data, hub)
}

// setScalar sets a key of a section at the top of a YAML file, in braces or in lines.
func setScalar(text []byte, path, section, key, value string) ([]byte, error) {
	doc, errs := strictyaml.Parse(path, text)
	if len(errs) > 0 {
		return nil, errs
	}
	lines := strings.Split(string(text), "\n")
	switch keys := doc.Keys(section); {
	case doc.Has(section, key) || hasKey(keys, key):
		at := doc.KeyAt(section, key)
		line := []rune(lines[at.Line-1])
		begin, end, ok := valueAfter(line, at.Col-1, key)
		if !ok {
			return nil, errNotSet
		}
		lines[at.Line-1] = string(line[:begin]) + " " + value + string(line[end:])
	case len(keys) > 0:
		at := doc.KeyAt(section, keys[0])
		line := []rune(lines[at.Line-1])
		before := string(line[:at.Col-1])
		if strings.Contains(before, "{") { // in braces, before the first key
			lines[at.Line-1] = before + key + ": " + value + ", " + string(line[at.Col-1:])
		} else { // a line of its own, as deep as the first
			lines = append(lines[:at.Line-1], append([]string{before + key + ": " + value}, lines[at.Line-1:]...)...)
		}
	case hasKey(doc.Keys(), section): // empty
		at := doc.KeyAt(section)
		line := []rune(lines[at.Line-1])
		begin, end, ok := valueAfter(line, at.Col-1, section)
		if !ok {
			return nil, errNotSet
		}
		lines[at.Line-1] = string(line[:begin]) + " {" + key + ": " + value + "}" + string(line[end:])
	default:
		part := section + ": {" + key + ": " + value + "}"
		if n := len(lines); lines[n-1] == "" {
			lines = append(lines[:n-1], part, "")
		} else {
			lines = append(lines, part, "")
		}
	}
	return []byte(strings.Join(lines, "\n")), nil
}

func hasKey(keys []string, key string) bool {
	for _, k := range keys {
		if k == key {
			return true
		}
	}
	return false
}

// valueAfter finds the scalar after a key that begins at a place of a line: from behind
// the colon up to what follows the value.
func valueAfter(line []rune, at int, key string) (begin, end int, ok bool) {
	rest := string(line[at:])
	quoted := false
	for _, k := range []string{key, `"` + key + `"`, "'" + key + "'"} {
		if strings.HasPrefix(rest, k) {
			at += len([]rune(k))
			quoted = true
			break
		}
	}
	if !quoted || at >= len(line) || line[at] != ':' {
		return 0, 0, false
	}
	begin = at + 1
	i := begin
	for i < len(line) && line[i] == ' ' {
		i++
	}
	flow := strings.Contains(string(line[:at]), "{")
	switch {
	case i < len(line) && (line[i] == '"' || line[i] == '\''):
		q := line[i]
		for i++; i < len(line) && line[i] != q; i++ {
			if q == '"' && line[i] == '\\' {
				i++
			}
		}
		if i >= len(line) {
			return 0, 0, false
		}
		return begin, i + 1, true
	case i < len(line) && strings.ContainsRune("|>&*!", line[i]):
		return 0, 0, false
	case i+1 < len(line) && line[i] == '{' && line[i+1] == '}':
		return begin, i + 2, true
	}
	end = i
	for j := i; j < len(line); j++ {
		if line[j] == '#' && (j == 0 || line[j-1] == ' ') || flow && (line[j] == ',' || line[j] == '}') {
			break
		}
		if line[j] != ' ' {
			end = j + 1
		}
	}
	if end == i {
		end = begin
	}
	return begin, end, true
}
