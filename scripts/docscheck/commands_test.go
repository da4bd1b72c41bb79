package docscheck

import (
	"bytes"
	"context"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/langbiang/langbiang/pkg/edge"
	"github.com/langbiang/langbiang/pkg/hub"
)

var programs = map[string]func(context.Context, string, []string, io.Writer, io.Writer) int{
	"langbiang-edge": edge.Main, "langbiang-hub": hub.Main,
}

// words splits a command line as a shell does, without what a shell would do to it.
var word = regexp.MustCompile(`(?:[^\s'"]|'[^']*'|"[^"]*")+`)

// lines are the calls in a text of a terminal: what follows $, sudo or | counts, what
// follows # or > does not.
func calls(text string) (out [][]string) {
	for _, l := range strings.Split(strings.ReplaceAll(text, "\\\n", " "), "\n") {
		all := word.FindAllString(l, -1)
		for len(all) > 0 && (all[0] == "$" || all[0] == "sudo" || strings.Contains(all[0], "=") && !strings.HasPrefix(all[0], "-")) {
			all = all[1:]
		}
		if len(all) < 2 || programs[all[0]] == nil {
			continue
		}
		if i := slices.IndexFunc(all, func(w string) bool {
			return strings.HasPrefix(w, "#") || strings.HasPrefix(w, ">") || w == "|" || w == "&&" || w == "&"
		}); i > 0 {
			all = all[:i]
		}
		for i := range all {
			all[i] = strings.Trim(all[i], `'"`)
		}
		out = append(out, all)
	}
	return out
}

var (
	usage       = regexp.MustCompile(`(?m)^  (langbiang-\w+(?: [a-z-]+)*) \[command\]$`)
	placeholder = regexp.MustCompile(`^[A-Z][A-Z0-9_-]*$|^…$|^\.\.\.$`)
)

// try asks the program itself: its help for a call is given only where command and
// flags are known. It returns what is wrong.
func try(call []string) string {
	var out, errs bytes.Buffer
	args := slices.Clone(call[1:])
	for i, a := range args { // a value that stands for another
		if name, value, ok := strings.Cut(a, "="); ok && placeholder.MatchString(value) {
			args[i] = name + "=1s"
		}
	}
	status := programs[call[0]](context.Background(), "", append(args, "--help"), &out, &errs)
	if status != 0 {
		said := strings.TrimSpace(errs.String())
		if strings.Contains(said, "invalid argument") && slices.ContainsFunc(args, placeholder.MatchString) {
			return ""
		}
		return said
	}
	if m := usage.FindStringSubmatch(out.String()); m != nil { // a command with commands below it
		rest := args[len(strings.Fields(m[1]))-1:]
		if len(rest) > 0 && !strings.HasPrefix(rest[0], "-") && !placeholder.MatchString(rest[0]) {
			return "unknown command " + rest[0]
		}
	}
	return ""
}

var (
	span    = regexp.MustCompile("`([^`]+)`")
	choices = regexp.MustCompile(`\[([^\]]*)\]`)
)

func TestCommandsOnThePagesExist(t *testing.T) {
	n := 0
	named := map[string]bool{}
	for _, p := range pages(t) {
		check := func(line int, text string) {
			for _, call := range calls(text) {
				n++
				if wrong := try(call); wrong != "" {
					t.Errorf("%s:%d: %s: %s", p.path, line, strings.Join(call, " "), wrong)
				}
				for i := 2; i <= len(call); i++ {
					named[strings.Join(call[:i], " ")] = true
				}
			}
		}
		for _, b := range p.blocks {
			check(b.line, b.text)
		}
		program, table := "langbiang-edge", false
		for i, l := range p.prose {
			for _, m := range span.FindAllStringSubmatch(l, -1) {
				check(i+1, choices.ReplaceAllString(m[1], "$1"))
			}
			// The tables of docs/commands.md leave the program's name out.
			if p.path == "docs/commands.md" {
				if strings.HasPrefix(l, "# ") && strings.Contains(l, "hub") {
					program = "langbiang-hub"
				}
				table = table && strings.HasPrefix(l, "|") || strings.HasPrefix(l, "| command |")
				if cell, _, ok := strings.Cut(strings.TrimPrefix(l, "|"), "|"); table && ok {
					group := ""
					for _, m := range span.FindAllStringSubmatch(cell, -1) {
						text := choices.ReplaceAllString(m[1], "$1")
						if group == "" && strings.Contains(text, " ") {
							group, _, _ = strings.Cut(text, " ")
						} else if group != "" && try([]string{program, strings.Fields(text)[0]}) != "" {
							text = group + " " + text
						}
						check(i+1, program+" "+text)
					}
				}
			}
		}
	}
	for _, name := range every(t) {
		if !named[name] {
			t.Errorf("%s is on no page", name)
		}
	}
	if n < 100 {
		t.Errorf("%d calls only", n)
	}
}

var listed = regexp.MustCompile(`(?m)^  ([a-z][a-z-]*) +\S`)

// every is all commands of both programs that do something, from their help.
func every(t *testing.T) (out []string) {
	t.Helper()
	var walk func(program string, path []string)
	walk = func(program string, path []string) {
		var help, errs bytes.Buffer
		if programs[program](context.Background(), "", append(slices.Clone(path), "--help"), &help, &errs) != 0 {
			t.Fatalf("%s %v: %s", program, path, errs.String())
		}
		_, list, ok := strings.Cut(help.String(), "Available Commands:\n")
		if !ok {
			out = append(out, strings.Join(append([]string{program}, path...), " "))
			return
		}
		list, _, _ = strings.Cut(list, "\n\n")
		for _, m := range listed.FindAllStringSubmatch(list, -1) {
			if m[1] != "help" && m[1] != "version" {
				walk(program, append(slices.Clone(path), m[1]))
			}
		}
	}
	for program := range programs {
		walk(program, nil)
	}
	return out
}

func TestAMistakenCallIsFound(t *testing.T) {
	for text, good := range map[string]bool{
		"$ sudo langbiang-edge check --strict # says more": true,
		"langbiang-edge chekc":                             false,
		"langbiang-edge check --stict":                     false,
		"langbiang-edge queue stats":                       false,
		"langbiang-edge queue status":                      true,
		"langbiang-edge maintain gauge --for TIME":         true,
		"langbiang-hub edges token --edge ID":              true,
	} {
		all := calls(text)
		if len(all) != 1 || (try(all[0]) == "") != good {
			t.Errorf("%s: %v", text, all)
		}
	}
}

var advised = regexp.MustCompile(`(langbiang-(?:edge|hub)) ([a-z]+)`)

// TestCommandsThatTheProgramsAdviseExist looks at what programs and page tell people
// to type.
func TestCommandsThatTheProgramsAdviseExist(t *testing.T) {
	n := 0
	prose := []string{"is", "on", "tr", "langbiang"} // what follows a name in a sentence, or in a script
	for _, m := range advised.FindAllStringSubmatch(spoken(t), -1) {
		if slices.Contains(prose, m[2]) {
			continue
		}
		if n++; try(m[1:]) != "" {
			t.Errorf("%s: there is no such command", m[0])
		}
	}
	if n < 30 {
		t.Errorf("%d calls only", n)
	}
}
