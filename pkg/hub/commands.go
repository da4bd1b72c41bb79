package hub

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/api"
	"github.com/langbiang/langbiang/pkg/internal/settings"
)

// The commands that ask the running hub for something, through its API.

// socketName is the name of the socket in the data folder on which the running hub
// answers its own machine: the API, for those who may write there, who need not sign
// in.
const socketName = "hub.sock"

// ask posts a body to the running hub, or gets when there is none, and decodes its
// answer. A problem document becomes the error.
func ask(ctx context.Context, plan *Plan, path string, body, answer any) error {
	method := http.MethodPost
	if body == nil {
		method = http.MethodGet
	}
	return request(ctx, plan, method, path, body, answer)
}

// consoleURL begins the addresses of requests through the socket.
const consoleURL = "http://localhost"

// console is a client that reaches the running hub through its socket.
func (p *Plan) console() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return settings.DialControl(ctx, filepath.Join(p.Config.DataDir, socketName))
		},
		DisableKeepAlives: true,
	}}
}

// unreached says why the running hub could not be asked.
func (p *Plan) unreached(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the hub on %s may not be asked by this user; run this command as the hub's user or as root", p.Config.DataDir)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no hub runs on %s; start it with langbiang-hub run", p.Config.DataDir)
	}
	return fmt.Errorf("the hub on %s: %w", p.Config.DataDir, err)
}

// request is ask with another method; body and answer may be nil.
func request(ctx context.Context, plan *Plan, method, path string, body, answer any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 45*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, consoleURL+path, bytes.NewReader(data))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := plan.console().Do(req)
	if err != nil {
		return plan.unreached(err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err = io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	if err != nil {
		return err
	}
	switch {
	case resp.StatusCode == http.StatusNoContent, resp.StatusCode == http.StatusOK && answer == nil:
		return nil
	case resp.StatusCode == http.StatusOK:
		return json.Unmarshal(data, answer)
	}
	var problem struct {
		Title, Detail string
		Faults        []api.Fault
	}
	if json.Unmarshal(data, &problem) != nil || problem.Title == "" {
		if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
			return errors.New(strings.TrimSpace(string(data[:min(len(data), 1000)])))
		}
		return fmt.Errorf("the hub answered %s", resp.Status)
	}
	text := problem.Title + ": " + problem.Detail
	for _, f := range problem.Faults {
		text += "\n" + f.Message
	}
	return errors.New(text)
}

func reloadCommand() settings.Command[*Plan] {
	return settings.Command[*Plan]{
		Use: "reload", Short: "let the running hub read its rule files anew; a mistake changes nothing",
		Run: func(ctx context.Context, c settings.Call, plan *Plan) error {
			var st api.RulesStatus
			if err := ask(ctx, plan, "/api/v1/rules/reload", struct{}{}, &st); err != nil {
				return err
			}
			newest := st.Sets[len(st.Sets)-1]
			text := "the rules say the same as before"
			if st.Last.Changed && newest.From != nil {
				text = "in force from " + newest.From.Format(time.RFC3339)
			}
			_, err := fmt.Fprintf(c.Stdout, "%s: %s\n", settings.Count(newest.Rules, "rule"), text)
			return err
		},
	}
}

func forgetCommand() settings.Command[*Plan] {
	return settings.Command[*Plan]{
		Use: "forget EDGE", Short: "let the running hub forget where it stands in the log of an edge, which then sends anew what it keeps: the way out of a fork",
		Args: cobra.ExactArgs(1),
		Run: func(ctx context.Context, c settings.Call, plan *Plan) error {
			var done struct{ Edge string }
			if err := ask(ctx, plan, "/api/v1/edges/"+url.PathEscape(c.Args[0])+"/forget", struct{}{}, &done); err != nil {
				return err
			}
			_, err := fmt.Fprintf(c.Stdout, "the hub has forgotten its position in the log of %s; what the edge keeps comes anew, and the store keeps it once\n", done.Edge)
			return err
		},
	}
}

func fireCommand() settings.Command[*Plan] {
	var f api.Fire
	var severity string
	var test bool
	return settings.Command[*Plan]{
		Use: "fire", Short: "raise a test alert through the running hub: --test RULE --series EDGE/DEVICE/POINT",
		Flags: func(fs *pflag.FlagSet) {
			fs.BoolVar(&test, "test", false, "the alert is a test, marked everywhere and left out of counts and statistics; must be given")
			fs.StringVar(&f.Rule, "rule", "", "id of the rule; or the first argument")
			fs.StringVar(&f.Series, "series", "", "EDGE/DEVICE/POINT, a series that the rule watches")
			fs.StringVar(&severity, "severity", "", "info, warning, critical or emergency; the rule's lowest when not said")
			fs.StringVar(&f.For, "for", "", "how long it stands, 1m when not said")
			fs.StringVar(&f.Who, "who", "", "name of who tries it; the user of this machine when not said")
			fs.StringVar(&f.Why, "why", "", "what it is for")
		},
		Args: cobra.MaximumNArgs(1),
		Run: func(ctx context.Context, c settings.Call, plan *Plan) error {
			if len(c.Args) == 1 {
				f.Rule = c.Args[0]
			}
			switch {
			case !test:
				return fmt.Errorf("%w: only tests can be fired: add --test", settings.ErrUsage)
			case f.Rule == "" || f.Series == "":
				return fmt.Errorf("%w: name a rule and a series: langbiang-hub rules fire --test RULE --series EDGE/DEVICE/POINT", settings.ErrUsage)
			}
			if severity != "" {
				var ok bool
				if f.Severity, ok = alert.ParseSeverity(severity); !ok {
					return fmt.Errorf("%w: severity %q is none of info, warning, critical, emergency", settings.ErrUsage, severity)
				}
			}
			f.Who = me(f.Who)
			var e alert.Entry
			if err := ask(ctx, plan, "/api/v1/rules/"+url.PathEscape(f.Rule)+"/test", f, &e); err != nil {
				return err
			}
			_, err := fmt.Fprintf(c.Stdout, "test alert %s (%s, entry %d) until %s\n", e.Alert.ID, e.Alert.Severity, e.Sequence, e.Alert.TestUntil.Format(time.RFC3339))
			return err
		},
	}
}
