package hub

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os/user"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/langbiang/langbiang/pkg/alert/feed"
	"github.com/langbiang/langbiang/pkg/internal/settings"
)

// me is who calls a command, when it is not said.
func me(who string) string {
	if who == "" {
		if u, err := user.Current(); err == nil {
			return u.Username
		}
	}
	return who
}

func whoFlag(fs *pflag.FlagSet, who *string) {
	fs.StringVar(who, "who", "", "name of who does it; the user of this machine when not said")
}

func deliveryCommands() []settings.Command[*Plan] {
	var who, why string
	return []settings.Command[*Plan]{
		{Use: "list", Short: "say how it stands with every target", Run: listDeliveries},
		{
			Use: "skip TARGET ENTRY", Short: "put the entry that a target refuses among the dead letters, so that it goes on", Args: cobra.ExactArgs(2),
			Flags: func(fs *pflag.FlagSet) { whoFlag(fs, &who); fs.StringVar(&why, "why", "", "why") },
			Run: func(ctx context.Context, c settings.Call, plan *Plan) error {
				n, err := strconv.ParseUint(c.Args[1], 10, 64)
				if err != nil {
					return fmt.Errorf("%w: ENTRY is the number of the entry, as langbiang-hub deliveries list says it", settings.ErrUsage)
				}
				return actOnDelivery(ctx, c, plan, "skip", map[string]any{"sequence": n, "who": me(who), "why": why})
			},
		},
		{
			Use: "retry TARGET", Short: "let a target that waits try again at once", Args: cobra.ExactArgs(1),
			Flags: func(fs *pflag.FlagSet) { whoFlag(fs, &who) },
			Run: func(ctx context.Context, c settings.Call, plan *Plan) error {
				return actOnDelivery(ctx, c, plan, "retry", map[string]any{"who": me(who)})
			},
		},
		{Use: "dead [TARGET]", Short: "list the entries that were skipped, newest first", Args: cobra.MaximumNArgs(1), Run: listDead},
	}
}

func deliveryPath(name string, more string) string {
	return "/api/v1/deliveries/" + url.PathEscape(name) + more
}

func actOnDelivery(ctx context.Context, c settings.Call, plan *Plan, act string, body map[string]any) error {
	var d feed.Delivery
	if err := ask(ctx, plan, deliveryPath(c.Args[0], "/"+act), body, &d); err != nil {
		return err
	}
	_, err := fmt.Fprintf(c.Stdout, "%s: %s\n", d.Name, d.Summary)
	return err
}

func listDeliveries(ctx context.Context, c settings.Call, plan *Plan) error {
	var list struct{ Items []feed.Delivery }
	if err := ask(ctx, plan, "/api/v1/deliveries", nil, &list); err != nil {
		return err
	}
	if len(list.Items) == 0 {
		_, err := fmt.Fprintln(c.Stdout, "no target is configured; see deliver: in docs/configuration.md")
		return err
	}
	w := tabwriter.NewWriter(c.Stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "TARGET\tKIND\tSTATE\tBEHIND\tWHERE TO")
	for _, d := range list.Items {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\n", d.Name, d.Kind, d.State, d.Lag, d.Target)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, d := range list.Items {
		if d.State == feed.Held || d.State == feed.Retrying {
			if _, err := fmt.Fprintf(c.Stdout, "\n%s %s\n", d.Name, d.Summary); err != nil {
				return err
			}
		}
		if d.Notice != "" {
			if _, err := fmt.Fprintf(c.Stdout, "\n%s: %s\n", d.Name, d.Notice); err != nil {
				return err
			}
		}
	}
	return nil
}

func listDead(ctx context.Context, c settings.Call, plan *Plan) error {
	query := url.Values{"limit": {"100"}}
	if len(c.Args) == 1 {
		query.Set("target", c.Args[0])
	}
	var list struct{ Items []feed.DeadLetter }
	if err := ask(ctx, plan, "/api/v1/deliveries/dead?"+query.Encode(), nil, &list); err != nil {
		return err
	}
	for _, d := range list.Items {
		by := d.Who
		if by == "" {
			by = "itself"
		}
		if _, err := fmt.Fprintf(c.Stdout, "%s  %s  entry %d, alert %s (%s)  skipped by %s %s\n    %s\n",
			d.At.Format(time.RFC3339), d.Consumer, d.Entry.Sequence, d.Entry.Alert.ID, d.Entry.Kind, by, d.Why, d.Reason); err != nil {
			return err
		}
	}
	if len(list.Items) == 0 {
		_, err := fmt.Fprintln(c.Stdout, "none")
		return err
	}
	return nil
}

// notifyTestCommand tries targets through the running hub.
func notifyTestCommand() settings.Command[*Plan] {
	var who, route, target string
	return settings.Command[*Plan]{
		Use: "test", Short: "send a test to a route or a target through the running hub; without a name, to all of them",
		Flags: func(fs *pflag.FlagSet) {
			fs.StringVar(&route, "route", "", "name of a route to people")
			fs.StringVar(&target, "target", "", "name of any target: a webhook, an Alertmanager, a broker")
			whoFlag(fs, &who)
		},
		Run: func(ctx context.Context, c settings.Call, plan *Plan) error {
			var list struct{ Items []feed.Delivery }
			if err := ask(ctx, plan, "/api/v1/deliveries", nil, &list); err != nil {
				return err
			}
			failed, tried := 0, 0
			for _, d := range list.Items {
				if route+target != "" && !(d.Name == target || d.Name == route && d.Kind == "route") {
					continue
				}
				tried++
				var result struct {
					OK     bool
					Result string
				}
				if err := ask(ctx, plan, deliveryPath(d.Name, "/test"), map[string]string{"who": me(who)}, &result); err != nil {
					return err
				}
				word := "ok"
				if !result.OK {
					word = "FAILED"
					failed++
				}
				if _, err := fmt.Fprintf(c.Stdout, "%s (%s): %s: %s\n", d.Name, d.Kind, word, result.Result); err != nil {
					return err
				}
			}
			switch {
			case tried == 0 && route+target != "":
				return fmt.Errorf("%w: there is no such route or target; langbiang-hub deliveries list names them", settings.ErrUsage)
			case tried == 0:
				return errors.New("no target is configured; see deliver: in docs/configuration.md")
			case failed > 0:
				return fmt.Errorf("%s failed", settings.Count(failed, "test"))
			}
			return nil
		},
	}
}
