package hub

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/langbiang/langbiang/pkg/api"
	"github.com/langbiang/langbiang/pkg/internal/settings"
	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
)

// The commands about who may speak to the hub.

func tokenCommand() settings.Command[*Plan] {
	var t api.EdgeToken
	return settings.Command[*Plan]{
		Use: "token", Short: "print the line to paste on a gateway, which enrols it: --site 24848 --edge lac-duong-01 --ttl 24h",
		Flags: func(fs *pflag.FlagSet) {
			fs.StringVar(&t.Edge, "edge", "", "id of the edge; must be given")
			fs.StringVar(&t.Site, "site", "", "id of the site that it stands at")
			fs.StringVar(&t.TTL, "ttl", "24h", "how long the token waits to be used, 30d at most")
			fs.StringVar(&t.Address, "hub", "", "HOST or HOST:PORT by which the gateway reaches the hub, when not as hub.yaml or the setup says")
		},
		Run: func(ctx context.Context, c settings.Call, plan *Plan) error {
			if t.Edge == "" {
				return settings.Usagef("name the edge: langbiang-hub edges token --site 24848 --edge lac-duong-01")
			}
			var out api.EdgeToken
			if err := ask(ctx, plan, "/api/v1/edges/tokens", t, &out); err != nil {
				return err
			}
			_, _ = fmt.Fprintf(c.Stderr, "# paste this on the gateway of %s before %s; it works once\n", out.Edge, out.Expires.Local().Format(time.RFC1123))
			_, err := fmt.Fprintln(c.Stdout, out.Command)
			return err
		},
	}
}

func revokeCommand() settings.Command[*Plan] {
	return settings.Command[*Plan]{
		Use: "revoke EDGE", Short: "let the gateway of an edge no longer in, at once; a new token lets it, or its successor, in again",
		Args: cobra.ExactArgs(1),
		Run: func(ctx context.Context, c settings.Call, plan *Plan) error {
			var out struct {
				Ended int `json:"connections_ended"`
			}
			if err := ask(ctx, plan, "/api/v1/edges/"+url.PathEscape(c.Args[0])+"/revoke", struct{}{}, &out); err != nil {
				return err
			}
			_, err := fmt.Fprintf(c.Stdout, "%s is revoked; %s ended\n", c.Args[0], settings.Count(out.Ended, "connection"))
			return err
		},
	}
}

// table prints the items of a list.
func table[T any](ctx context.Context, c settings.Call, plan *Plan, path, head string, row func(T) string) error {
	w := tabwriter.NewWriter(c.Stdout, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, head)
	cursor := ""
	for {
		var p struct {
			Items []T
			Next  string
		}
		if err := request(ctx, plan, http.MethodGet, path+cursor, nil, &p); err != nil {
			return err
		}
		for _, x := range p.Items {
			_, _ = fmt.Fprintln(w, row(x))
		}
		if cursor = "&cursor=" + url.QueryEscape(p.Next); p.Next == "" || strings.HasPrefix(path, "/api/v1/audit") {
			return w.Flush()
		}
	}
}

func when(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04")
}

// ends says when a token does.
func ends(t *time.Time) string {
	if t == nil {
		return "it is removed"
	}
	return when(t)
}

func some(list []string) string {
	if len(list) == 0 {
		return "all"
	}
	return strings.Join(list, ",")
}

func certificatesCommand() settings.Command[*Plan] {
	return settings.Command[*Plan]{
		Use: "certificates", Short: "list the gateways that were enrolled, and until when their certificates hold",
		Run: func(ctx context.Context, c settings.Call, plan *Plan) error {
			return table(ctx, c, plan, "/api/v1/edges/certificates?limit=1000", "EDGE\tSITE\tENROLLED\tRENEWED\tHOLDS UNTIL\tREVOKED", func(x api.EdgeCertificate) string {
				return strings.Join([]string{x.Edge, x.Site, when(x.Enrolled), when(x.Renewed), when(x.NotAfter), when(x.Revoked)}, "\t")
			})
		},
	}
}

func listUsersCommand() settings.Command[*Plan] {
	return settings.Command[*Plan]{
		Use: "list", Short: "list those who sign in",
		Run: func(ctx context.Context, c settings.Call, plan *Plan) error {
			return table(ctx, c, plan, "/api/v1/users?limit=1000", "NAME\tROLE\tSITES\tSINCE", func(u api.User) string {
				return strings.Join([]string{u.Name, string(u.Role), some(u.Groups), when(&u.Created)}, "\t")
			})
		},
	}
}

// password asks for one, without showing it on a terminal.
func password(c settings.Call) (string, error) {
	if f, ok := c.Stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		_, _ = fmt.Fprint(c.Stderr, "Password: ")
		b, err := term.ReadPassword(int(f.Fd()))
		_, _ = fmt.Fprintln(c.Stderr)
		return string(b), err
	}
	line, err := bufio.NewReader(io.LimitReader(c.Stdin, 4096)).ReadString('\n')
	if err != nil && (!errors.Is(err, io.EOF) || line == "") {
		return "", fmt.Errorf("no password was given on standard input: %w", err)
	}
	return strings.TrimRight(line, "\r\n"), nil
}

func putUserCommand() settings.Command[*Plan] {
	var body struct {
		Role     api.Role `json:"role"`
		Groups   []string `json:"groups"`
		Language string   `json:"language"`
		Password string   `json:"password"`
	}
	var role string
	var keep bool
	return settings.Command[*Plan]{
		Use: "put NAME", Short: "make or change somebody who signs in; the password is asked for",
		Args: cobra.ExactArgs(1),
		Flags: func(fs *pflag.FlagSet) {
			fs.StringVar(&role, "role", "viewer", "viewer, operator, technician or admin")
			fs.StringSliceVar(&body.Groups, "groups", nil, "groups of sites, or sites, that they may see; all when not said")
			fs.StringVar(&body.Language, "language", "", "vi or en")
			fs.BoolVar(&keep, "keep-password", false, "leave the password as it is")
		},
		Run: func(ctx context.Context, c settings.Call, plan *Plan) error {
			body.Role = api.Role(role)
			if !keep {
				var err error
				if body.Password, err = password(c); err != nil {
					return err
				}
			}
			if err := request(ctx, plan, http.MethodPut, "/api/v1/users/"+url.PathEscape(c.Args[0]), body, nil); err != nil {
				return err
			}
			_, err := fmt.Fprintf(c.Stdout, "%s is %s of %s sites\n", c.Args[0], role, some(body.Groups))
			return err
		},
	}
}

func removal(use, short, path, done string) settings.Command[*Plan] {
	return settings.Command[*Plan]{
		Use: use, Short: short, Args: cobra.ExactArgs(1),
		Run: func(ctx context.Context, c settings.Call, plan *Plan) error {
			if err := request(ctx, plan, http.MethodDelete, path+url.PathEscape(c.Args[0]), nil, nil); err != nil {
				return err
			}
			_, err := fmt.Fprintf(c.Stdout, done+"\n", c.Args[0])
			return err
		},
	}
}

func removeUserCommand() settings.Command[*Plan] {
	return removal("remove NAME", "take somebody away, who is signed out at once", "/api/v1/users/", "%s is gone")
}

func removeTokenCommand() settings.Command[*Plan] {
	return removal("remove ID", "make a token void, at once", "/api/v1/tokens/", "token %s is void")
}

func listTokensCommand() settings.Command[*Plan] {
	return settings.Command[*Plan]{
		Use: "list", Short: "list the tokens of machines and screens",
		Run: func(ctx context.Context, c settings.Call, plan *Plan) error {
			return table(ctx, c, plan, "/api/v1/tokens?limit=1000", "ID\tNAME\tROLE\tSITES\tENDS\tKIND", func(t api.Token) string {
				kind := "machine"
				if t.Kiosk {
					kind = "screen"
				}
				return strings.Join([]string{t.ID, t.Name, string(t.Role), some(t.Groups), when(t.Expires), kind}, "\t")
			})
		},
	}
}

func newTokenCommand() settings.Command[*Plan] {
	var t api.Token
	var role, ttl string
	return settings.Command[*Plan]{
		Use: "new NAME", Short: "make a token for a machine, or --kiosk for a screen on a wall; it is shown once",
		Args: cobra.ExactArgs(1),
		Flags: func(fs *pflag.FlagSet) {
			fs.StringVar(&role, "role", "viewer", "viewer, operator, technician, admin, or source for a machine that pushes data")
			fs.StringVar(&t.Source, "source", "", "with role source: what it pushes for")
			fs.StringSliceVar(&t.Groups, "groups", nil, "groups of sites, or sites, that it may see; all when not said")
			fs.StringVar(&ttl, "ttl", "365d", "how long it holds; never: until it is removed")
			fs.BoolVar(&t.Kiosk, "kiosk", false, "a screen: a link to open in its browser")
		},
		Run: func(ctx context.Context, c settings.Call, plan *Plan) error {
			t.Name, t.Role = c.Args[0], api.Role(role)
			if ttl != "never" {
				d, err := strictyaml.ParseDuration(ttl)
				if err != nil {
					return settings.Usagef("--ttl %q: %v", ttl, err)
				}
				until := time.Now().Add(d).UTC()
				t.Expires = &until
			}
			var out struct {
				Text string `json:"text"`
				Link string `json:"link"`
				api.Token
			}
			if err := ask(ctx, plan, "/api/v1/tokens", t, &out); err != nil {
				return err
			}
			_, _ = fmt.Fprintf(c.Stderr, "# %s, token %s, holds until %s; it is shown this once\n", out.Name, out.ID, ends(out.Expires))
			if out.Link != "" {
				out.Text = out.Link
				_, _ = fmt.Fprintln(c.Stderr, "# open this in the browser of the screen")
			}
			_, err := fmt.Fprintln(c.Stdout, out.Text)
			return err
		},
	}
}

func auditCommand() settings.Command[*Plan] {
	var n int
	return settings.Command[*Plan]{
		Use: "audit", Short: "show what people and machines did to this hub, newest first",
		Flags: func(fs *pflag.FlagSet) { fs.IntVar(&n, "limit", 50, "how many entries, 1000 at most") },
		Run: func(ctx context.Context, c settings.Call, plan *Plan) error {
			return table(ctx, c, plan, fmt.Sprintf("/api/v1/audit?limit=%d", n), "WHEN\tWHO\tROLE\tFROM\tACT\tRESULT", func(e api.AuditEntry) string {
				return strings.Join([]string{when(&e.Recorded), e.Who, e.Role, e.Remote, strings.TrimSpace(e.Act + " " + e.Target), e.Result}, "\t")
			})
		},
	}
}
