package edge

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	firmwareprofiles "github.com/langbiang/langbiang/firmware-profiles"
	"github.com/langbiang/langbiang/pkg/internal/settings"
	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// shelf is where commands look for profiles: the built-in ones, and the folders
// of edge.yaml when there is one.
type shelf struct {
	call    settings.Call
	config  string
	folders []string

	q   telemetry.Quantities
	lib *profile.Library
	own []string // folders that were found
}

func (s *shelf) flags(f *pflag.FlagSet) {
	f.StringVar(&s.config, "config", defaultPath, "edge.yaml whose profiles: folders are looked into, when it is there")
	f.StringArrayVar(&s.folders, "folder", nil, "folder with profiles of your own, VENDOR/MODEL.yaml; may be given several times")
}

// open finds the folders. Of an edge.yaml nothing but profiles: is read: whatever
// else is wrong with it is no matter here.
func (s *shelf) open() (err error) {
	if s.q, err = catalogue(); err != nil {
		return err
	}
	var cfg Config
	if data, err := os.ReadFile(s.config); err == nil {
		if doc, errs := strictyaml.Parse(s.config, data); len(errs) == 0 {
			_ = doc.Decode(&cfg)
		}
	}
	trees := []fs.FS{firmwareprofiles.FS}
	add := func(dir string) error {
		if st, err := os.Stat(dir); err != nil || !st.IsDir() {
			return fmt.Errorf("%q is not a folder", dir)
		}
		trees, s.own = append(trees, profile.Dir(dir)), append(s.own, dir)
		return nil
	}
	for _, dir := range cfg.Profiles {
		if err := add(relative(filepath.Dir(s.config), dir)); err != nil {
			_, _ = fmt.Fprintf(s.call.Stderr, "%s: profiles: %v\n", s.config, err)
		}
	}
	for _, dir := range s.folders {
		if err := add(dir); err != nil {
			return settings.Usagef("--folder: %v", err)
		}
	}
	s.lib = profile.Open(s.q, trees...)
	return nil
}

// mine reports whether a profile stands in a folder of the user's own.
func (s *shelf) mine(id string) bool {
	return slices.ContainsFunc(s.own, func(dir string) bool {
		_, err := os.Stat(filepath.Join(dir, filepath.FromSlash(id)+".yaml"))
		return err == nil
	})
}

func profilesCommand() settings.Command[*Plan] {
	s := &shelf{}
	lang := ""
	with := func(run func() error) func(context.Context, settings.Call) error {
		return func(_ context.Context, c settings.Call) error {
			s.call = c
			if err := s.open(); err != nil {
				return err
			}
			return run()
		}
	}
	return settings.Command[*Plan]{
		Use: "profiles", Short: "what is known of devices: list, show, and test profiles",
		Commands: []settings.Command[*Plan]{
			{
				Use: "list [WORD...]", Short: "the profiles that hold all of the words in their names, titles or quantities",
				Args: cobra.ArbitraryArgs, Flags: s.flags, Free: with(s.list),
			},
			{
				Use: "show VENDOR/MODEL", Short: "what a profile reads, how the agent tells its firmware, and what surprises",
				Args: cobra.ExactArgs(1),
				Flags: func(f *pflag.FlagSet) {
					s.flags(f)
					f.StringVar(&lang, "lang", language(os.Getenv("LANG")), "vi or en")
				},
				Free: with(func() error { return s.show(s.call.Args[0], lang) }),
			},
			{
				Use: "test [VENDOR/MODEL | FILE | FOLDER]...", Short: "check profiles and run their fixtures; without a name those of your own folders, or all built-in ones",
				Args: cobra.ArbitraryArgs, Flags: s.flags, Free: with(s.test),
			},
		},
	}
}

func language(env string) string {
	if strings.HasPrefix(env, "vi") {
		return "vi"
	}
	return "en"
}

func (s *shelf) list() error {
	words := s.call.Args
	w := tabwriter.NewWriter(s.call.Stdout, 0, 8, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "PROFILE\tFOR\tOVER\tFIRMWARE\tDEVICE")
	n, faulty := 0, 0
	for _, id := range s.lib.IDs() {
		p, err := s.lib.Get(id)
		if err != nil {
			faulty++
			_, _ = fmt.Fprintf(w, "%s\t-\t-\t-\tfaulty: %s\n", id, firstLine(err.Error()))
			continue
		}
		text := strings.ToLower(strings.Join(append([]string{id, p.Vendor, p.Model, p.Title.EN, p.Title.VI, p.Category, p.Protocol}, p.Measures()...), " "))
		if slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(text, strings.ToLower(word)) }) {
			continue
		}
		n++
		device := p.Vendor + " " + p.Model
		if s.mine(id) {
			device += " (your own)"
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", id, p.Category, p.Protocol, firmwareOf(p), device)
	}
	_ = w.Flush()
	_, _ = fmt.Fprintf(s.call.Stderr, "%s\n", settings.Count(n, "profile"))
	if faulty > 0 {
		_, _ = fmt.Fprintf(s.call.Stderr, "%s faulty; langbiang-edge profiles test says all of it\n", settings.Count(faulty, "profile"))
	}
	return nil
}

// firmwareOf says how a revision is come by.
func firmwareOf(p *profile.Profile) string {
	ids := make([]string, len(p.Firmware))
	for i := range p.Firmware {
		ids[i] = p.Firmware[i].ID
	}
	if len(ids) > 4 {
		ids = append(ids[:3], fmt.Sprintf("%d more", len(ids)-3))
	}
	list := strings.Join(ids, " ")
	switch {
	case p.TellsRevision():
		return "told: " + list
	case len(ids) > 0:
		return "chosen: " + list
	case len(p.Match) > 0:
		return "model told"
	}
	return "-"
}

// tested is what came of testing one profile.
type tested struct{ passed, failed, without int }

func (s *shelf) test() error {
	names := s.call.Args
	var t tested
	if len(names) == 0 {
		for _, id := range s.lib.IDs() {
			if len(s.own) == 0 || s.mine(id) {
				s.testOne(s.lib, id, &t)
			}
		}
	}
	for _, name := range names {
		if err := s.testNamed(name, &t); err != nil {
			return err
		}
	}
	line := fmt.Sprintf("%d passed", t.passed)
	if t.without > 0 {
		line += fmt.Sprintf(", %d without a fixture", t.without)
	}
	if t.failed > 0 {
		return fmt.Errorf("%s, %d failed", line, t.failed)
	}
	_, err := fmt.Fprintln(s.call.Stdout, line)
	return err
}

// testNamed tests what a person calls by an id, a file or a folder.
func (s *shelf) testNamed(name string, t *tested) error {
	st, err := os.Stat(name)
	switch {
	case err != nil && !strings.HasSuffix(name, ".yaml"):
		s.testOne(s.lib, name, t)
		return nil
	case err != nil:
		return err
	case st.IsDir():
		lib := profile.Open(s.q, profile.Dir(name))
		ids := lib.IDs()
		if len(ids) == 0 {
			return fmt.Errorf("%s holds no profile; they stand in VENDOR/MODEL.yaml below it", name)
		}
		for _, id := range ids {
			s.testOne(lib, id, t)
		}
		return nil
	}
	path, err := filepath.Abs(strings.Replace(name, ".fixtures.yaml", ".yaml", 1))
	if err != nil {
		return err
	}
	vendor, file := filepath.Split(path)
	id := filepath.Base(vendor) + "/" + strings.TrimSuffix(file, ".yaml")
	s.testOne(profile.Open(s.q, profile.Dir(filepath.Dir(filepath.Clean(vendor)))), id, t)
	return nil
}

func (s *shelf) testOne(lib *profile.Library, id string, t *tested) {
	out := s.call.Stdout
	fail := func(err error) {
		t.failed++
		_, _ = fmt.Fprintf(out, "FAIL  %s\n%s\n", id, indent(err.Error()))
	}
	p, err := lib.Get(id)
	if err != nil {
		fail(err)
		return
	}
	file, data, err := lib.Fixtures(id)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		t.passed++
		t.without++
		_, _ = fmt.Fprintf(out, "ok    %s  (no fixture: %s would show that its values come out right)\n", id, filepath.Base(file))
		return
	case err == nil:
		err = profile.CheckFixtures(p, file, data, s.q)
	}
	if err != nil {
		fail(err)
		return
	}
	fixtures, err := profile.ParseFixtures(file, data)
	if err != nil {
		fail(err)
		return
	}
	t.passed++
	_, _ = fmt.Fprintf(out, "ok    %s  (%s)\n", id, settings.Count(len(fixtures), "fixture"))
}

func indent(text string) string { return "      " + strings.ReplaceAll(text, "\n", "\n      ") }
