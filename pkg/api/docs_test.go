package api

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var inBackticks = regexp.MustCompile("`([a-z_]+)`")

// The tables of docs/api.md name the fields that the lists have, all of them and no
// others; those of objects within them in the row of their list.
func TestTheTablesOfFieldsAreWhatIsAnswered(t *testing.T) {
	text, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	for list, of := range map[string]any{"sites": Site{}, "edges": Edge{}, "devices": Device{}, "series": Series{}} {
		_, after, found := strings.Cut(string(text), "Fields of `GET /api/v1/"+list+"`:\n\n| field | meaning |\n| --- | --- |\n")
		if !found {
			t.Errorf("no table of the fields of %s", list)
			continue
		}
		table, _, _ := strings.Cut(after, "\n\n")
		var said []string
		rows := map[string]string{}
		for row := range strings.Lines(table) {
			cells := strings.SplitN(row, "|", 4)
			for _, m := range inBackticks.FindAllStringSubmatch(cells[1], -1) {
				said = append(said, m[1])
				rows[m[1]] = cells[2]
			}
		}
		var has []string
		for _, f := range reflect.VisibleFields(reflect.TypeOf(of)) {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			has = append(has, name)
			if f.Type.Kind() != reflect.Slice || f.Type.Elem().Kind() != reflect.Struct || strings.Contains(rows[name], "in the same form") {
				continue
			}
			for _, inner := range reflect.VisibleFields(f.Type.Elem()) {
				if tag, _, _ := strings.Cut(inner.Tag.Get("json"), ","); !strings.Contains(rows[name], "`"+tag+"`") {
					t.Errorf("%s: the row of %s does not speak of %s", list, name, tag)
				}
			}
		}
		slices.Sort(said)
		slices.Sort(has)
		if !slices.Equal(said, has) {
			t.Errorf("%s: the table has\n%v, the answer\n%v", list, said, has)
		}
	}
}
