package edge

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/langbiang/langbiang/pkg/internal/settings"
	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
	"github.com/langbiang/langbiang/pkg/wire"
)

func ownerCommand() settings.Command[*Plan] {
	var show bool
	return settings.Command[*Plan]{
		Use: "owner [gateway|hub]", Short: "say or change who decides connections, devices and filters: this gateway's edge.yaml, or the hub",
		Args: cobra.MaximumNArgs(1),
		Flags: func(f *pflag.FlagSet) {
			f.BoolVar(&show, "print", false, "print the configuration that is in force")
		},
		Run: func(ctx context.Context, c settings.Call, plan *Plan) error {
			switch {
			case show:
				return printInForce(c, plan)
			case len(c.Args) == 0:
				return sayOwner(ctx, c, plan)
			case c.Args[0] != wire.OwnerGateway && c.Args[0] != wire.OwnerHub:
				return settings.Usagef("%q is no owner; %s", c.Args[0], strictyaml.Meant(c.Args[0], []string{wire.OwnerGateway, wire.OwnerHub}))
			}
			return changeOwner(ctx, c, plan, c.Args[0])
		},
	}
}

// printInForce prints the text of what is read.
func printInForce(c settings.Call, plan *Plan) error {
	if plan.hub != nil {
		_, err := fmt.Fprintf(c.Stdout, "# %s, version %d of the hub\n%s", plan.hub.file(), plan.hub.Version, plan.hub.Text)
		return err
	}
	data, err := os.ReadFile(plan.path)
	if err != nil {
		return err
	}
	part, _, ok := partOf(plan.path, string(data))
	if !ok {
		part = string(data)
	}
	_, err = fmt.Fprintf(c.Stdout, "# %s\n%s", plan.path, part)
	return err
}

func sayOwner(ctx context.Context, c settings.Call, plan *Plan) error {
	var s status
	switch err := ask(ctx, plan.Config.DataDir, "/status", nil, &s); {
	case errors.Is(err, errNotRunning):
	case err != nil:
		return err
	default:
		if s.Agent.Fleet != nil {
			_, err = fmt.Fprintln(c.Stdout, s.Agent.Fleet.line())
			return err
		}
	}
	f := fleetStatus{Owner: plan.Config.Owner}
	if plan.hub != nil {
		f.Version, f.Name = plan.hub.Version, plan.hub.Name
	}
	if plan.unfit != nil {
		f.Fault = plan.unfit.Error()
	}
	_, err := fmt.Fprintf(c.Stdout, "%s\nno agent is running\n", f.line())
	return err
}

// line says how it stands, and what there is to do.
func (f *fleetStatus) line() string {
	var b strings.Builder
	switch {
	case f.Owner != wire.OwnerHub:
		b.WriteString("the gateway decides: edge.yaml is in force")
	case f.Version == 0:
		b.WriteString("the hub decides, and has sent nothing that is in force: edge.yaml is")
	default:
		fmt.Fprintf(&b, "the hub decides: version %d", f.Version)
		if f.Name != "" {
			fmt.Fprintf(&b, " (%s)", f.Name)
		}
		b.WriteString(" is in force")
	}
	if f.Trial {
		b.WriteString(", on trial until the hub has been heard of with it")
	}
	if v := f.Verdict; v != nil {
		what := "was refused"
		if v.Outcome == wire.ConfigRolledBack {
			what = "was tried and taken back"
		}
		fmt.Fprintf(&b, "\nversion %d %s", v.Version, what)
		if v.At > 0 {
			fmt.Fprintf(&b, " at %s", time.UnixMilli(v.At).Local().Format(time.DateTime))
		}
		b.WriteString(": " + v.Reason)
	}
	if f.Drift != "" {
		b.WriteString("\n" + f.Drift + ".\n  To let the hub have them: langbiang-hub edges config adopt EDGE, there. To decide here again: langbiang-edge owner gateway")
	}
	if f.Fault != "" {
		b.WriteString("\n" + f.Fault)
	}
	return b.String()
}

// changeOwner writes edge.yaml and lets a running agent take it. A gateway that decides
// again goes on with what the hub had it run: that is written into its file.
func changeOwner(ctx context.Context, c settings.Call, plan *Plan, owner string) error {
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(c.Stdout, format+"\n", args...) }
	if plan.Config.Owner == owner {
		return sayOwner(ctx, c, plan)
	}
	old, err := os.ReadFile(plan.path)
	if err != nil {
		return err
	}
	next := string(old)
	if owner == wire.OwnerGateway && plan.hub != nil {
		_, rest, ok := partOf(plan.path, next)
		if !ok {
			return fmt.Errorf("%s is written in a way that this command does not change: write each key at the beginning of a line", plan.path)
		}
		next = strings.TrimRight(rest, "\n") + fmt.Sprintf("\n\n# As the hub had it, version %d.\n%s", plan.hub.Version, withSecrets(plan))
	}
	text, err := setTop([]byte(next), plan.path, "owner", owner)
	if err != nil {
		return err
	}
	if err := replaceConfig(plan.path, old, text); err != nil {
		return err
	}
	undo := func(why error) error {
		return errors.Join(why, replaceConfig(plan.path, text, old))
	}
	if _, err := Load(plan.path, nil); err != nil {
		return undo(fmt.Errorf("nothing was changed: with owner: %s the file would not hold: %w", owner, err))
	}
	switch owner {
	case wire.OwnerHub:
		say("%s: owner: hub. What stands in it is in force until the hub has sent a configuration", plan.path)
	default:
		say("%s: owner: gateway. It has what was in force", plan.path)
	}
	var out Reloaded
	switch err := order(ctx, plan.Config.DataDir, "/reload", nil, &out); {
	case errors.Is(err, errNotRunning):
		say("no agent is running; the next start takes it")
	case err != nil:
		return undo(fmt.Errorf("the agent did not take it, and the file is as it was: %w", err))
	default:
		say("the running agent has taken it, and tells the hub")
	}
	return nil
}

// withSecrets is the hub's text as edge.yaml must have it: the files that it names
// stand in the folder of secrets.
func withSecrets(plan *Plan) string {
	lines := strings.SplitAfter(plan.hub.Text, "\n")
	doc, errs := strictyaml.Parse(plan.hub.file(), []byte(plan.hub.Text))
	if len(errs) > 0 {
		return plan.hub.Text
	}
	var own deviceConfig
	_ = doc.Decode(&own) // it is in force, so it holds
	for i := range own.Connections {
		for kind, fields := range map[string][]string{"mqtt": {"password_file", "ca_file", "cert_file", "key_file"}, "camera": {"password_file", "ca_file"}} {
			for _, field := range fields {
				if !doc.Has("connections", i, kind, field) {
					continue
				}
				// Where the value stands; its own name is in the folder.
				at := doc.At("connections", i, kind, field)
				line := []rune(lines[at.Line-1])
				rest := string(line[at.Col-1:])
				quote := ""
				if strings.HasPrefix(rest, `"`) || strings.HasPrefix(rest, "'") {
					quote, rest = rest[:1], rest[1:]
				}
				lines[at.Line-1] = string(line[:at.Col-1]) + quote + secretsDir(plan.path) + "/" + rest
			}
		}
	}
	return strings.Join(lines, "")
}

// setTop sets a scalar at the top of a YAML file.
func setTop(text []byte, path, key, value string) ([]byte, error) {
	doc, errs := strictyaml.Parse(path, text)
	if len(errs) > 0 {
		return nil, errs
	}
	lines := strings.Split(string(text), "\n")
	keys := doc.Keys()
	if len(keys) == 0 {
		return append(text, (key + ": " + value + "\n")...), nil
	}
	if !hasKey(keys, key) {
		at := doc.KeyAt(keys[0])
		if at.Col != 1 {
			return nil, errNotSet
		}
		return []byte(strings.Join(append(lines[:at.Line-1:at.Line-1], append([]string{key + ": " + value}, lines[at.Line-1:]...)...), "\n")), nil
	}
	at := doc.KeyAt(key)
	line := []rune(lines[at.Line-1])
	begin, end, ok := valueAfter(line, at.Col-1, key)
	if !ok {
		return nil, errNotSet
	}
	lines[at.Line-1] = string(line[:begin]) + " " + value + string(line[end:])
	return []byte(strings.Join(lines, "\n")), nil
}
