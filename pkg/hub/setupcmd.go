package hub

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/langbiang/langbiang/pkg/api"
	"github.com/langbiang/langbiang/pkg/internal/settings"
)

// setupWait bounds how long the setup waits for the hub that starts anew with it.
const setupWait = time.Minute

func setupCommand() settings.Command[*Plan] {
	var s api.Setup
	var places []string
	return settings.Command[*Plan]{
		Use: "setup", Short: "print the link that makes the first administrator, or with --admin make them here",
		Long: `Prints the link that makes the first administrator in a browser. Without a browser:

  langbiang-hub setup --admin an --hub hub.example --communes 24848,24846

asks for the password, or reads it from standard input.`,
		Flags: func(fs *pflag.FlagSet) {
			fs.StringVar(&s.Name, "admin", "", "name of the administrator to make")
			fs.StringVar(&s.Language, "language", "vi", "vi or en")
			fs.StringVar(&s.Address, "hub", "", "name or address by which gateways and browsers reach this hub")
			fs.StringSliceVar(&places, "communes", nil, "communes of the bundled list, by code or name; others go into sites.yaml")
		},
		Run: func(ctx context.Context, c settings.Call, plan *Plan) error {
			var out struct {
				Link     string
				Communes []api.Commune
			}
			if err := request(ctx, plan, http.MethodGet, "/api/v1/setup", nil, &out); err != nil {
				return err
			}
			if out.Link == "" {
				return errors.New("there is an administrator already, or nobody signs in at this hub (http.auth: off); langbiang-hub users put makes others")
			}
			if s.Name == "" {
				if s.Address != "" || len(places) > 0 {
					return settings.Usagef("name the administrator: --admin NAME")
				}
				_, err := fmt.Fprintln(c.Stdout, out.Link)
				return err
			}
			for _, place := range places {
				id, err := communeOf(place, out.Communes)
				if err != nil {
					return err
				}
				s.Sites = append(s.Sites, api.Place{ID: id})
			}
			_, s.Secret, _ = strings.Cut(out.Link, "#setup=")
			var err error
			if s.Password, err = password(c); err != nil {
				return err
			}
			if err := request(ctx, plan, http.MethodPost, "/api/v1/setup", s, nil); err != nil {
				return err
			}
			if err := settled(ctx, plan, s.Sites); err != nil {
				return err
			}
			u, err := url.Parse(out.Link)
			if err != nil {
				return err
			}
			if s.Address != "" {
				u.Host = net.JoinHostPort(s.Address, u.Port())
			}
			_, err = fmt.Fprintf(c.Stdout, "%s is the administrator; sign in at %s://%s/\n", s.Name, u.Scheme, u.Host)
			return err
		},
	}
}

// communeOf finds a commune by its code or by one of its names.
func communeOf(text string, list []api.Commune) (id string, err error) {
	var found []string
	for i := range list {
		c := &list[i]
		if c.ID == text {
			return c.ID, nil
		}
		if strings.EqualFold(c.Name, text) || strings.EqualFold(c.NameEN, text) {
			found = append(found, c.ID)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", settings.Usagef("--communes: no commune of the bundled list is called %q; write its code or its name, and places of your own into sites.yaml", text)
	}
	return "", settings.Usagef("--communes: %q are several: %s", text, strings.Join(found, ", "))
}

// settled returns once the hub, which starts anew after its setup, knows the sites.
func settled(ctx context.Context, plan *Plan, sites []api.Place) error {
	if len(sites) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, setupWait)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		var out struct{ Items []struct{ ID string } }
		err := request(ctx, plan, http.MethodGet, "/api/v1/sites?limit=1000", nil, &out)
		if err == nil && slices.ContainsFunc(out.Items, func(s struct{ ID string }) bool { return s.ID == sites[0].ID }) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(errors.New("the hub is set up, and does not start anew; its log says why: journalctl -u langbiang-hub"), err)
		}
	}
}
