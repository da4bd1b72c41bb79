package identity

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// Role is what somebody may do; each may do what those before it may.
type Role string

// The roles of people. [RoleSource] is for machines that push data, and may do that
// alone.
const (
	RoleViewer     Role = "viewer"
	RoleOperator   Role = "operator"
	RoleTechnician Role = "technician"
	RoleAdmin      Role = "admin"
	RoleSource     Role = "source"
)

// Roles are the roles of people, least first.
func Roles() []Role { return []Role{RoleViewer, RoleOperator, RoleTechnician, RoleAdmin} }

// What callers branch on.
var (
	ErrLogin   = errors.New("name or password is wrong")
	ErrTooMany = errors.New("too many attempts")
	ErrUser    = errors.New("this user cannot be kept so")
	ErrNoUser  = errors.New("no such user")
	ErrNoToken = errors.New("no such token")
	ErrSetup   = errors.New("this setup link is not valid, or has been used")
)

// User is somebody who signs in.
type User struct {
	Name     string    `json:"name"`
	Role     Role      `json:"role"`
	Groups   []string  `json:"groups,omitempty"` // of sites; empty: all
	Language string    `json:"language,omitempty"`
	Hash     string    `json:"hash"`
	Created  time.Time `json:"created"`
	By       string    `json:"by,omitempty"`
}

// Token is a machine, or a screen on a wall.
type Token struct {
	ID      string     `json:"id"` // begins its hash
	Name    string     `json:"name"`
	Role    Role       `json:"role"`
	Groups  []string   `json:"groups,omitempty"`
	Source  string     `json:"source,omitempty"` // of RoleSource: what it may push for
	Kiosk   bool       `json:"kiosk,omitempty"`  // it may begin a session, for a screen
	Created time.Time  `json:"created"`
	Expires *time.Time `json:"expires,omitempty"` // nil: never
	By      string     `json:"by,omitempty"`
}

// session is a browser that signed in.
type session struct {
	User    string    `json:"user,omitempty"`
	Token   string    `json:"token,omitempty"` // hash of the kiosk's
	Expires time.Time `json:"expires"`
}

// Grant is who asks, and what they may.
type Grant struct {
	Name     string
	Role     Role
	Groups   []string
	Source   string
	Language string
	Token    bool // a token's, not a person's
}

// Users is everybody who may ask the hub. It is safe for concurrent use. What it
// changes is on disk when it returns.
type Users struct {
	store Store
	now   func() time.Time

	hashing  chan struct{} // bounds the memory that passwords take
	attempts *limiter
	dummy    string // a hash that takes as long as a real one

	mu       sync.RWMutex
	users    map[string]User
	tokens   map[string]Token   // by hash
	sessions map[string]session // by hash
	setup    string             // the one-time secret; empty once there is a user
}

const (
	sessionLife = 24 * time.Hour
	// Attempts within attemptWindow: of one name from one address, of one address, of
	// one name. The last is generous, or anybody could lock somebody else out.
	attemptWindow         = 15 * time.Minute
	attemptsOfBoth        = 5
	attemptsOfAddress     = 30
	attemptsOfName        = 100
	maxSessions           = 10_000
	maxUsers, maxMachines = 10_000, 10_000
)

var userPattern = regexp.MustCompile(`^[\p{L}\p{N}][\p{L}\p{M}\p{N} ._@-]{0,63}$`)

// NewUsers reads who is known. When there is nobody, [Users.SetupSecret] has a secret.
func NewUsers(s Store, now func() time.Time) (*Users, error) {
	u := &Users{
		store: s, now: now, hashing: make(chan struct{}, 2), attempts: newLimiter(attemptWindow),
		users: map[string]User{}, tokens: map[string]Token{}, sessions: map[string]session{},
	}
	err := errors.Join(
		each(s, kindUser, func(id string, x User) error { u.users[id] = x; return nil }),
		each(s, kindToken, func(id string, x Token) error { u.tokens[id] = x; return nil }),
		each(s, kindSession, func(id string, x session) error { u.sessions[id] = x; return nil }),
	)
	if err != nil {
		return nil, err
	}
	if len(u.users) == 0 {
		u.setup = secret("lbs_")
	}
	u.dummy = hashPassword(secret(""))
	return u, nil
}

// secret makes 192 random bits, after a prefix that says what they are.
func secret(prefix string) string {
	var b [24]byte
	_, _ = rand.Read(b[:]) // never fails, says its documentation
	return prefix + base64.RawURLEncoding.EncodeToString(b[:])
}

// SetupSecret is what lets the first administrator in, once; empty when there is one.
func (u *Users) SetupSecret() string {
	u.mu.RLock()
	defer u.mu.RUnlock()
	return u.setup
}

// Setup makes the first administrator, for whoever has the secret.
func (u *Users) Setup(secret, remote, name, password, language string) error {
	now := u.now()
	if wait := u.attempts.take("setup\x00"+remote, attemptsOfAddress, now); wait > 0 {
		return fmt.Errorf("%w; try again in %v", ErrTooMany, wait.Round(time.Second))
	}
	u.mu.RLock()
	ok := u.setup != "" && subtle.ConstantTimeCompare([]byte(secret), []byte(u.setup)) == 1
	u.mu.RUnlock()
	if !ok {
		return ErrSetup
	}
	x := User{Name: name, Role: RoleAdmin, Language: language, By: "setup"}
	if err := u.check(&x, password, true); err != nil {
		return err
	}
	x.Hash, x.Created = u.hash(password), now.UTC()
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.setup == "" { // somebody else was faster
		return ErrSetup
	}
	if err := save(u.store, kindUser, name, &x); err != nil {
		return err
	}
	u.users[name], u.setup = x, ""
	return nil
}

func (u *Users) hash(password string) string {
	u.hashing <- struct{}{}
	defer func() { <-u.hashing }()
	return hashPassword(password)
}

// hashingWait is how long a login waits for those before it.
const hashingWait = 5 * time.Second

func (u *Users) fits(hash, password string) (bool, error) {
	limit := time.NewTimer(hashingWait)
	defer limit.Stop()
	select {
	case u.hashing <- struct{}{}:
	case <-limit.C:
		return false, fmt.Errorf("%w at once; try again in a moment", ErrTooMany)
	}
	defer func() { <-u.hashing }()
	return samePassword(hash, password), nil
}

func (u *Users) check(x *User, password string, wanted bool) error {
	switch {
	case !userPattern.MatchString(x.Name) || strings.TrimSpace(x.Name) != x.Name:
		return fmt.Errorf("%w: name %.80q; use letters, digits, blanks and . _ @ -, at most 64", ErrUser, x.Name)
	case !slices.Contains(Roles(), x.Role):
		return fmt.Errorf("%w: role %.40q; it is viewer, operator, technician or admin", ErrUser, x.Role)
	case x.Language != "" && x.Language != "vi" && x.Language != "en":
		return fmt.Errorf("%w: language %.40q; it is vi or en", ErrUser, x.Language)
	}
	if wanted || password != "" {
		return checkPassword(x.Name, password)
	}
	return nil
}

// Put makes or changes a user. An empty password leaves the one there is. The
// sessions of a user whose password changes end.
func (u *Users) Put(x User, password string) error {
	u.mu.RLock()
	old, known := u.users[x.Name]
	full := !known && len(u.users) >= maxUsers
	u.mu.RUnlock()
	if err := u.check(&x, password, !known); err != nil {
		return err
	}
	if full {
		return fmt.Errorf("%w: there are %d already", ErrUser, maxUsers)
	}
	x.Created = u.now().UTC()
	hash := ""
	if password != "" {
		hash = u.hash(password)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if now, ok := u.users[x.Name]; ok != known || now.Hash != old.Hash {
		return fmt.Errorf("%w: somebody else has just changed %s", ErrUser, x.Name)
	}
	x.Hash = hash
	if known {
		x.Created, x.By = old.Created, old.By
		if hash == "" {
			x.Hash = old.Hash
		}
		if old.Role == RoleAdmin && len(old.Groups) == 0 && (x.Role != RoleAdmin || len(x.Groups) > 0) && u.lastAdmin(x.Name) {
			return fmt.Errorf("%w: %s is the last administrator of all sites", ErrUser, x.Name)
		}
	}
	if err := save(u.store, kindUser, x.Name, &x); err != nil {
		return err
	}
	u.users[x.Name] = x
	if hash != "" && known {
		return u.endSessions(func(s session) bool { return s.User == x.Name })
	}
	return nil
}

// lastAdmin reports whether nobody but the user is an administrator of all sites.
func (u *Users) lastAdmin(name string) bool {
	for _, x := range u.users {
		if x.Role == RoleAdmin && len(x.Groups) == 0 && x.Name != name {
			return false
		}
	}
	return true
}

// Remove takes a user away, with the sessions.
func (u *Users) Remove(name string) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	x, ok := u.users[name]
	switch {
	case !ok:
		return ErrNoUser
	case x.Role == RoleAdmin && u.lastAdmin(name):
		return fmt.Errorf("%w: %s is the last administrator of all sites", ErrUser, name)
	}
	if err := remove(u.store, kindUser, name); err != nil {
		return err
	}
	delete(u.users, name)
	return u.endSessions(func(s session) bool { return s.User == name })
}

// endSessions ends those that match. The caller has the lock.
func (u *Users) endSessions(match func(session) bool) error {
	for id, s := range u.sessions {
		if match(s) {
			if err := remove(u.store, kindSession, id); err != nil {
				return err
			}
			delete(u.sessions, id)
		}
	}
	return nil
}

// List returns all users, by name, without what their passwords are checked by.
func (u *Users) List() []User {
	u.mu.RLock()
	defer u.mu.RUnlock()
	out := make([]User, 0, len(u.users))
	for _, x := range u.users {
		x.Hash = ""
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b User) int { return strings.Compare(a.Name, b.Name) })
	return out
}
