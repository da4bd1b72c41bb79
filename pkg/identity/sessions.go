package identity

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Login begins a session for a name and a password. Remote is the address of who
// asks. It fails with [ErrLogin], which does not say which of the two is wrong, or
// with [ErrTooMany].
func (u *Users) Login(name, password, remote string) (secret string, g Grant, until time.Time, err error) {
	now := u.now()
	keys := []struct {
		key  string
		most int
	}{
		{"address\x00" + remote, attemptsOfAddress},
		{"both\x00" + remote + "\x00" + name, attemptsOfBoth},
		{"name\x00" + name, attemptsOfName},
	}
	for _, k := range keys {
		if wait := u.attempts.take(k.key, k.most, now); wait > 0 {
			return "", g, until, fmt.Errorf("%w; try again in %v", ErrTooMany, wait.Round(time.Second))
		}
	}
	u.mu.RLock()
	x, ok := u.users[name]
	u.mu.RUnlock()
	hash := x.Hash
	if !ok {
		hash = u.dummy // as slow as for a name that is known
	}
	switch fits, err := u.fits(hash, password); {
	case err != nil:
		return "", g, until, err
	case !fits || !ok:
		return "", g, until, ErrLogin
	}
	for _, k := range keys {
		u.attempts.forgive(k.key)
	}
	secret, until, err = u.begin(session{User: name}, sessionLife)
	return secret, grantOf(&x), until, err
}

func grantOf(x *User) Grant {
	return Grant{Name: x.Name, Role: x.Role, Groups: x.Groups, Language: x.Language}
}

// Kiosk begins a session for a screen that has a token made for that. It lasts as long
// as the token.
func (u *Users) Kiosk(token, remote string) (secret string, g Grant, until time.Time, err error) {
	if wait := u.attempts.take("address\x00"+remote, attemptsOfAddress, u.now()); wait > 0 {
		return "", g, until, fmt.Errorf("%w; try again in %v", ErrTooMany, wait.Round(time.Second))
	}
	g, t, ok := u.token(token)
	if !ok || !t.Kiosk {
		return "", g, until, ErrLogin
	}
	life := 400 * 24 * time.Hour // the most that browsers keep a cookie
	if t.Expires != nil {
		life = min(life, t.Expires.Sub(u.now()))
	}
	secret, until, err = u.begin(session{Token: hashOf([]byte(token))}, life)
	return secret, g, until, err
}

// begin makes a session with a secret that nobody has chosen.
func (u *Users) begin(s session, life time.Duration) (string, time.Time, error) {
	key := secret("")
	now := u.now().UTC()
	s.Expires = now.Add(life)
	u.mu.Lock()
	defer u.mu.Unlock()
	if err := u.endSessions(func(s session) bool { return now.After(s.Expires) }); err != nil {
		return "", s.Expires, err
	}
	if len(u.sessions) >= maxSessions {
		return "", s.Expires, fmt.Errorf("%w: %d sessions are open", ErrTooMany, len(u.sessions))
	}
	id := hashOf([]byte(key))
	if err := save(u.store, kindSession, id, &s); err != nil {
		return "", s.Expires, err
	}
	u.sessions[id] = s
	return key, s.Expires, nil
}

// Session says whose session a secret is, with the role that they have now.
func (u *Users) Session(secret string) (g Grant, ok bool) {
	id := hashOf([]byte(secret))
	u.mu.RLock()
	defer u.mu.RUnlock()
	s, ok := u.sessions[id]
	if !ok || u.now().After(s.Expires) {
		return g, false
	}
	if s.Token != "" {
		t, ok := u.tokens[s.Token]
		return tokenGrant(&t), ok && !u.ended(&t)
	}
	x, ok := u.users[s.User]
	return grantOf(&x), ok
}

// Logout ends a session.
func (u *Users) Logout(secret string) error {
	id := hashOf([]byte(secret))
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, ok := u.sessions[id]; !ok {
		return nil
	}
	delete(u.sessions, id)
	return remove(u.store, kindSession, id)
}

func tokenGrant(t *Token) Grant {
	return Grant{Name: t.Name, Role: t.Role, Groups: t.Groups, Source: t.Source, Token: true}
}

func (u *Users) ended(t *Token) bool { return t.Expires != nil && u.now().After(*t.Expires) }

func (u *Users) token(text string) (Grant, Token, bool) {
	u.mu.RLock()
	defer u.mu.RUnlock()
	t, ok := u.tokens[hashOf([]byte(text))]
	if !ok || u.ended(&t) {
		return Grant{}, t, false
	}
	return tokenGrant(&t), t, true
}

// Token says whose token a text is.
func (u *Users) Token(text string) (Grant, bool) {
	g, _, ok := u.token(text)
	return g, ok
}

// NewToken makes a token and returns its text, which is shown once and not kept.
func (u *Users) NewToken(t Token) (string, Token, error) {
	switch {
	case !userPattern.MatchString(t.Name):
		return "", t, fmt.Errorf("%w: name %.80q; use letters, digits, blanks and . _ @ -, at most 64", ErrUser, t.Name)
	case t.Role != RoleSource && !slices.Contains(Roles(), t.Role):
		return "", t, fmt.Errorf("%w: role %.40q; it is source, viewer, operator, technician or admin", ErrUser, t.Role)
	case t.Kiosk && t.Role != RoleViewer:
		return "", t, fmt.Errorf("%w: a screen is a viewer", ErrUser)
	case (t.Role == RoleSource) != (t.Source != ""):
		return "", t, fmt.Errorf("%w: a token of role source names the source that it pushes for, and no other does", ErrUser)
	case t.Expires != nil && !t.Expires.After(u.now()):
		return "", t, fmt.Errorf("%w: it has ended before it begins", ErrUser)
	}
	text := secret("lbt_")
	hash := hashOf([]byte(text))
	t.ID, t.Created = hash[:12], u.now().UTC()
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.tokens) >= maxMachines {
		return "", t, fmt.Errorf("%w: there are %d tokens already", ErrUser, len(u.tokens))
	}
	if err := save(u.store, kindToken, hash, &t); err != nil {
		return "", t, err
	}
	u.tokens[hash] = t
	return text, t, nil
}

// Tokens returns all tokens, by name.
func (u *Users) Tokens() []Token {
	u.mu.RLock()
	defer u.mu.RUnlock()
	out := make([]Token, 0, len(u.tokens))
	for _, t := range u.tokens {
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b Token) int { return strings.Compare(a.Name+"\x00"+a.ID, b.Name+"\x00"+b.ID) })
	return out
}

// RemoveToken makes a token void, with the sessions that it began.
func (u *Users) RemoveToken(id string) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	for hash, t := range u.tokens {
		if t.ID == id {
			if err := remove(u.store, kindToken, hash); err != nil {
				return err
			}
			delete(u.tokens, hash)
			return u.endSessions(func(s session) bool { return s.Token == hash })
		}
	}
	return ErrNoToken
}
