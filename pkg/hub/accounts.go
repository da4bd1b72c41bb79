package hub

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/langbiang/langbiang/pkg/api"
	"github.com/langbiang/langbiang/pkg/identity"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// accounts implements [api.Accounts].
type accounts struct{ *access }

func (a accounts) Login(l api.Login, remote string) (string, api.Who, time.Time, error) {
	var secret string
	var g identity.Grant
	var until time.Time
	var err error
	if l.Token != "" {
		secret, g, until, err = a.users.Kiosk(l.Token, remote)
	} else {
		secret, g, until, err = a.users.Login(l.Name, l.Password, remote)
	}
	if err != nil {
		return "", api.Who{Name: l.Name}, until, refusalOf(err)
	}
	return secret, *a.who(&g), until, nil
}

func (a accounts) Logout(secret string) error {
	if secret == "" {
		return nil
	}
	return a.users.Logout(secret)
}

func (a accounts) Password(name, old, password, remote string) error {
	// The limits of a login hold here too.
	secret, _, _, err := a.users.Login(name, old, remote)
	if err != nil {
		return refusalOf(err)
	}
	if err := a.users.Logout(secret); err != nil {
		return err
	}
	for _, u := range a.users.List() {
		if u.Name == name {
			return refusalOf(a.users.Put(u, password))
		}
	}
	return refusalOf(identity.ErrNoUser)
}

func (a accounts) Users() []api.User {
	list := a.users.List()
	out := make([]api.User, len(list))
	for i, u := range list {
		out[i] = api.User{Name: u.Name, Role: api.Role(u.Role), Groups: groups(u.Groups), Language: u.Language, Created: u.Created}
	}
	return out
}

func groups(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// known refuses groups that no site has: a user of them would see nothing, and a slip
// of the pen is the likeliest reason.
func (a accounts) known(groups []string) error {
	for _, g := range groups {
		if !slices.ContainsFunc(a.hub.plan.Sites, func(s Site) bool { return s.ID == g || slices.Contains(s.Groups, g) }) {
			return &api.Refusal{Status: http.StatusUnprocessableEntity, What: fmt.Sprintf("no site is %.80q or in a group of that name; groups stand in sites.yaml", g)}
		}
	}
	return nil
}

func (a accounts) PutUser(u api.User, password, by string) error {
	if err := a.known(u.Groups); err != nil {
		return err
	}
	return refusalOf(a.users.Put(identity.User{Name: u.Name, Role: identity.Role(u.Role), Groups: u.Groups, Language: u.Language, By: by}, password))
}

func (a accounts) RemoveUser(name string) error { return refusalOf(a.users.Remove(name)) }

func (a accounts) Tokens() []api.Token {
	list := a.users.Tokens()
	out := make([]api.Token, len(list))
	for i, t := range list {
		out[i] = tokenOf(t)
	}
	return out
}

func tokenOf(t identity.Token) api.Token {
	return api.Token{
		ID: t.ID, Name: t.Name, Role: api.Role(t.Role), Groups: groups(t.Groups), Source: t.Source, Kiosk: t.Kiosk, Created: t.Created, Expires: t.Expires, By: t.By,
	}
}

func (a accounts) NewToken(t api.Token, by string) (string, api.Token, error) {
	if err := a.known(t.Groups); err != nil {
		return "", t, err
	}
	if t.Source != "" && !slices.ContainsFunc(a.hub.plan.Config.Push.Sources, func(s SourceConfig) bool { return s.ID == t.Source }) {
		return "", t, &api.Refusal{Status: http.StatusUnprocessableEntity, What: fmt.Sprintf("there is no source %.80q; push.sources of hub.yaml has them", t.Source)}
	}
	text, made, err := a.users.NewToken(identity.Token{
		Name: t.Name, Role: identity.Role(t.Role), Groups: t.Groups, Source: t.Source, Kiosk: t.Kiosk, Expires: t.Expires, By: by,
	})
	return text, tokenOf(made), refusalOf(err)
}

func (a accounts) RemoveToken(id string) error { return refusalOf(a.users.RemoveToken(id)) }

func (a accounts) ScreenLink(text string) string { return a.screenLink(text) }

func (a accounts) SetupLink() string { return a.setupLink() }

func (a accounts) Communes() []api.Commune { return communes() }

var hostPattern = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`)

// maxPlaces bounds the sites of a setup.
const maxPlaces = 200

// Setup makes the first administrator and keeps what else was said. Sites hold from a
// start of the hub on, which follows at once.
func (a accounts) Setup(s api.Setup, remote string) error {
	s.Address = strings.TrimSpace(s.Address)
	if s.Address != "" && !hostPattern.MatchString(s.Address) && net.ParseIP(s.Address) == nil {
		return &api.Refusal{Status: http.StatusUnprocessableEntity, What: fmt.Sprintf("address %.80q: write a name or an address, without https:// and without a port", s.Address)}
	}
	if len(s.Sites) > maxPlaces {
		return &api.Refusal{Status: http.StatusUnprocessableEntity, What: fmt.Sprintf("%d sites; list more than %d in sites.yaml", len(s.Sites), maxPlaces)}
	}
	for _, p := range s.Sites {
		if !sitePattern.MatchString(p.ID) || len(p.Name) > telemetry.MaxNameLen {
			return &api.Refusal{Status: http.StatusUnprocessableEntity, What: fmt.Sprintf("site %.40q %.80q: give an administrative code or a slug, and a name", p.ID, p.Name)}
		}
	}
	if err := a.users.Setup(s.Secret, remote, s.Name, s.Password, s.Language); err != nil {
		return refusalOf(err)
	}
	data, err := json.Marshal(said{Address: s.Address, Language: s.Language, Sites: s.Sites})
	if err != nil {
		return err
	}
	if err := a.hub.ledger.PutRecord(settingKind, settingHub, data); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	a.hub.logger.Info("the hub is set up", "administrator", s.Name, "address", s.Address, "sites", len(s.Sites))
	if s.Address != "" || len(s.Sites) > 0 {
		select {
		case a.hub.restart <- struct{}{}:
		default:
		}
	}
	return nil
}

func (a accounts) AuditLog(before uint64, limit int) ([]api.AuditEntry, error) {
	list, err := a.hub.ledger.AuditLog(before, limit)
	out := make([]api.AuditEntry, len(list))
	for i := range list {
		out[i] = api.AuditEntry(list[i])
	}
	return out, err
}

// withSites adds the places of the setup to the sites of sites.yaml, which go before.
func (a *access) withSites(sites []Site) []Site {
	list := communes()
	for _, p := range a.said.Sites {
		if slices.ContainsFunc(sites, func(s Site) bool { return s.ID == p.ID }) {
			continue
		}
		site := Site{ID: p.ID, Name: telemetry.Text{VI: p.Name, EN: p.Name}}
		if i := slices.IndexFunc(list, func(c api.Commune) bool { return c.ID == p.ID }); i >= 0 {
			c := &list[i]
			site = Site{ID: c.ID, Name: telemetry.Text{VI: c.Name, EN: c.NameEN}, Province: c.Province, Lat: c.Lat, Lon: c.Lon}
		}
		if site.Name.VI == "" {
			site.Name = telemetry.Text{VI: p.ID, EN: p.ID}
		}
		sites = append(slices.Clone(sites), site)
	}
	return sites
}
