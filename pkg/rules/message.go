package rules

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"text/template/parse"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// language is how a language writes numbers and severities.
type language struct {
	point, group string
	severities   [5]string
}

var (
	vi = &language{",", ".", [5]string{"", "thông tin", "cảnh báo", "nghiêm trọng", "khẩn cấp"}}
	en = &language{".", ",", [5]string{"", "info", "warning", "critical", "emergency"}}
)

// fallback is the message of a rule that has none.
func (r *rule) fallback(l *language) string {
	in := map[bool][2]string{
		true:  {"tại {{.Device}}, {{.Site.Name}}", "at {{.Device}}, {{.Site.Name}}"},
		false: {"tại {{if .Site.Name}}{{.Site.Name}}{{else}}{{.Group}}{{end}}", "at {{if .Site.Name}}{{.Site.Name}}{{else}}{{.Group}}{{end}}"},
	}[r.kind != Several && r.kind != Fewer]
	switch r.kind {
	case NoData:
		return l.of("Không có số liệu {{.Quantity}} "+in[0]+" trong {{.Value}}", "No data of {{.Quantity}} "+in[1]+" for {{.Value}}")
	case Flatline:
		return l.of("{{.Quantity}} "+in[0]+" đứng yên ở {{.Last}} trong {{.Value}}", "{{.Quantity}} "+in[1]+" has stood at {{.Last}} for {{.Value}}")
	case State:
		return l.of("{{.Quantity}} "+in[0]+": trạng thái {{.Last}}", "{{.Quantity}} "+in[1]+": state {{.Last}}")
	case Several:
		return l.of("{{.Value}} cảnh báo cùng lúc "+in[0], "{{.Value}} alerts at once "+in[1])
	case Fewer:
		return l.of("Chỉ còn {{.Value}} nơi có số liệu {{.Quantity}} "+in[0]+" (cần {{.Limit}})", "Only {{.Value}} report {{.Quantity}} "+in[1]+" (of {{.Limit}} needed)")
	case Expression:
		where := "{{.Title}}{{if .Device}}, {{.Device}}{{end}}{{if .Site.Name}}, {{.Site.Name}}{{end}}: {{.Value}}{{if .Unit}} {{.Unit}}{{end}}"
		return l.of(where+" (ngưỡng {{.Limit}})", where+" (limit {{.Limit}})")
	case EdgeOffline:
		return l.of("Gateway {{.Edge}} tại {{.Site.Name}} mất kết nối {{.Value}}", "Gateway {{.Edge}} at {{.Site.Name}} has been offline for {{.Value}}")
	case Index:
		return l.of("Chỉ số {{.Quantity}} "+in[0]+": {{.Value}} ({{.Level}})", "Index of {{.Quantity}} "+in[1]+": {{.Value}} ({{.Level}})")
	}
	return l.of("{{.Quantity}} "+in[0]+": {{.Value}} {{.Unit}} (ngưỡng {{.Limit}})", "{{.Quantity}} "+in[1]+": {{.Value}} {{.Unit}} (limit {{.Limit}})")
}

// of returns the text of the language.
func (l *language) of(inVI, inEN string) string {
	if l == vi {
		return inVI
	}
	return inEN
}

// messageData is what a message may use; all of it text, written as its
// language writes it.
type messageData struct {
	Site struct{ ID, Name string }
	Edge, Device, Point,
	Quantity, Rule, Title, Severity, Level, Group,
	Value, Last, Peak, Limit, Unit string
	Labels map[string]string
}

var messageFields = []string{
	"Site.Name", "Site.ID", "Edge", "Device", "Point", "Quantity", "Rule", "Title", "Severity", "Level", "Group", "Value", "Last", "Peak", "Limit", "Unit", "Labels",
}

// message is a compiled template in one language.
type message struct {
	text string
	tmpl *template.Template
	lang *language
}

// message compiles one language's text; fallback stands in when there is none.
func (c *compiler) message(text, fallback string, r *rule, q telemetry.Quantity, lang *language, path ...any) *message {
	if text == "" {
		text = fallback
	}
	m := &message{text: text, lang: lang}
	if len(text) > telemetry.MaxTextLen {
		c.fault(fmt.Sprintf("longer than %d bytes", telemetry.MaxTextLen), "", path...)
		return m
	}
	t, err := template.New("message").Option("missingkey=zero").Parse(text)
	if err != nil {
		c.fault("bad template: "+strings.TrimPrefix(err.Error(), "template: message:"), "places are written {{.Value}}", path...)
		return m
	}
	if len(t.Templates()) > 1 {
		c.fault("define and block have no place in a message", "", path...)
		return m
	}
	m.tmpl = t
	faults := 0
	checkTemplate(t.Root, func(msg, hint string) {
		faults++
		c.fault(msg, hint, path...)
	})
	if faults > 0 {
		return m
	}
	if _, err := m.run(sampleData(r, q, lang)); err != nil {
		c.fault("the message cannot be written: "+err.Error(), "", path...)
	}
	return m
}

// checkTemplate allows text, places, and if with comparisons: nothing that
// loops or writes without bound.
func checkTemplate(n parse.Node, fault func(msg, hint string)) {
	switch n := n.(type) {
	case nil, *parse.TextNode, *parse.CommentNode, *parse.StringNode, *parse.NumberNode, *parse.BoolNode:
	case *parse.ListNode:
		if n == nil {
			return
		}
		for _, x := range n.Nodes {
			checkTemplate(x, fault)
		}
	case *parse.ActionNode:
		checkTemplate(n.Pipe, fault)
	case *parse.IfNode:
		checkTemplate(n.Pipe, fault)
		checkTemplate(n.List, fault)
		checkTemplate(n.ElseList, fault)
	case *parse.PipeNode:
		if n == nil {
			return
		}
		if len(n.Decl) > 0 {
			fault("variables have no place in a message", "")
		}
		for _, cmd := range n.Cmds {
			for _, a := range cmd.Args {
				checkTemplate(a, fault)
			}
		}
	case *parse.IdentifierNode:
		if !slices.Contains([]string{"eq", "ne", "and", "or", "not"}, n.Ident) {
			fault(fmt.Sprintf("the function %s has no place in a message", n.Ident), "there are eq, ne, and, or, not")
		}
	case *parse.FieldNode:
		checkField(n, fault)
	default:
		fault(fmt.Sprintf("%s has no place in a message", n), "there are places such as {{.Value}} and {{if eq .Severity \"critical\"}}")
	}
}

func checkField(n *parse.FieldNode, fault func(msg, hint string)) {
	name := strings.Join(n.Ident, ".")
	if slices.Contains(messageFields, name) && name != "Labels" || n.Ident[0] == "Labels" && len(n.Ident) == 2 {
		return
	}
	switch name {
	case "Site":
		fault(".Site is a place with a name and an id", "write {{.Site.Name}} or {{.Site.ID}}")
		return
	case "Labels":
		fault(".Labels needs the name of a label", "write {{.Labels.spot}}")
		return
	}
	hint := strictyaml.Nearest(name, messageFields)
	if hint == "" && n.Ident[0] == "Site" {
		hint = "Site.Name"
	}
	if hint != "" {
		hint = "did you mean ." + hint + "?"
	} else {
		hint = "there are ." + strings.Join(messageFields, ", .")
	}
	fault(fmt.Sprintf("no place is named .%.60s", name), hint)
}

func sampleData(r *rule, q telemetry.Quantity, lang *language) *messageData {
	d := &messageData{
		Edge: "edge-01", Device: "device-01", Point: "point", Quantity: q.Label.In("en"), Rule: r.id, Title: r.id, Severity: lang.severities[2],
		Value: lang.number(1234.5, q.Decimals), Last: lang.number(1234.5, q.Decimals), Peak: lang.number(-1234.5, q.Decimals),
		Limit: lang.limit(1000), Unit: telemetry.UnitSymbol(r.judgedUnit(q.Unit)), Level: "II", Group: "24848",
	}
	d.Site.ID, d.Site.Name = "24848", "Lạc Dương"
	return d
}

var errTooLong = errors.New("longer than " + strconv.Itoa(telemetry.MaxTextLen) + " bytes")

// limited keeps what is written up to MaxTextLen bytes and fails then.
type limited struct{ b []byte }

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), telemetry.MaxTextLen-len(l.b))
	l.b = append(l.b, p[:n]...)
	if n < len(p) {
		return n, errTooLong
	}
	return n, nil
}

var _ io.Writer = (*limited)(nil)

// run writes the message. What is too long is cut; the error says so.
func (m *message) run(d *messageData) (string, error) {
	var l limited
	err := m.tmpl.Execute(&l, d)
	return strings.TrimSpace(strings.ToValidUTF8(string(l.b), "")), err
}

// number writes v with this many digits after the point, thousands grouped.
func (l *language) number(v float64, decimals int) string {
	return l.spell(strconv.FormatFloat(v, 'f', max(0, min(decimals, 9)), 64))
}

// limit writes a limit exactly: with the digits that it has.
func (l *language) limit(v float64) string {
	if a := math.Abs(v); a != 0 && (a >= 1e15 || a < 1e-9) {
		return strings.Replace(strconv.FormatFloat(v, 'g', -1, 64), ".", l.point, 1)
	}
	return l.spell(strconv.FormatFloat(v, 'f', -1, 64))
}

// duration writes a time in its two largest units.
func (l *language) duration(seconds float64) string {
	units := []struct {
		s      int64
		vi, en string
	}{{86400, "ngày", "d"}, {3600, "giờ", "h"}, {60, "phút", "min"}, {1, "giây", "s"}}
	left := int64(math.Round(seconds))
	for i, u := range units {
		if left < u.s && u.s > 1 {
			continue
		}
		text := l.number(float64(left/u.s), 0) + " " + l.of(u.vi, u.en)
		if rest := left % u.s; i+1 < len(units) && rest/units[i+1].s > 0 {
			text += " " + l.number(float64(rest/units[i+1].s), 0) + " " + l.of(units[i+1].vi, units[i+1].en)
		}
		return text
	}
	return "0"
}

func (l *language) spell(s string) string {
	sign, digits := "", s
	if strings.HasPrefix(s, "-") {
		sign, digits = "-", s[1:]
	}
	whole, frac, _ := strings.Cut(digits, ".")
	if strings.Trim(whole+frac, "0") == "" {
		sign = "" // no "-0"
	}
	var b strings.Builder
	b.WriteString(sign)
	for i, c := range whole {
		if i > 0 && (len(whole)-i)%3 == 0 {
			b.WriteString(l.group)
		}
		b.WriteRune(c)
	}
	if frac != "" {
		b.WriteString(l.point)
		b.WriteString(frac)
	}
	return b.String()
}

// severity returns the severity in the language.
func (l *language) severity(s alert.Severity) string {
	if int(s) < len(l.severities) {
		return l.severities[s]
	}
	return s.String()
}
