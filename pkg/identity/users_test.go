package identity

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

const sentence = "trời Đà Lạt hôm nay nhiều mây"

func (r *rig) users() *Users {
	r.Helper()
	u, err := NewUsers(r.store, r.now)
	if err != nil {
		r.Fatal(err)
	}
	return u
}

func withAdmin(t *testing.T) (*rig, *Users) {
	t.Helper()
	r := newRig(t)
	u := r.users()
	if err := u.Setup(u.SetupSecret(), "10.0.0.1", "lan", sentence, "vi"); err != nil {
		t.Fatal(err)
	}
	return r, u
}

func TestTheSetupLinkWorksOnce(t *testing.T) {
	r := newRig(t)
	u := r.users()
	secret := u.SetupSecret()
	if err := u.Setup("lbs_guess", "a", "eve", sentence, ""); !errors.Is(err, ErrSetup) {
		t.Errorf("a guess: %v", err)
	}
	if err := u.Setup("", "a", "eve", sentence, ""); !errors.Is(err, ErrSetup) {
		t.Errorf("nothing: %v", err)
	}
	if err := u.Setup(secret, "a", "lan", "short", ""); !errors.Is(err, ErrPassword) {
		t.Errorf("a bad password: %v", err)
	}
	if err := u.Setup(secret, "a", "lan", sentence, ""); err != nil {
		t.Fatal(err)
	}
	for _, v := range []*Users{u, r.users()} {
		if v.SetupSecret() != "" {
			t.Error("the link lives on")
		}
		for _, s := range []string{secret, ""} {
			if err := v.Setup(s, "a", "eve", sentence, ""); !errors.Is(err, ErrSetup) {
				t.Errorf("a second time: %v", err)
			}
		}
	}
}

func TestASessionIsNobodysChoiceAndEnds(t *testing.T) {
	r, u := withAdmin(t)
	secret, g, until, err := u.Login("lan", sentence, "10.0.0.1")
	if err != nil || g.Role != RoleAdmin || until.Sub(r.at) != sessionLife {
		t.Fatal(g, until, err)
	}
	other, _, _, err := u.Login("lan", sentence, "10.0.0.1")
	if err != nil || other == secret {
		t.Fatal("two sessions share a secret", err)
	}
	if _, ok := u.Session("fixed-by-eve"); ok {
		t.Error("a secret that nobody gave out")
	}
	if g, ok := r.users().Session(secret); !ok || g.Name != "lan" {
		t.Error("a restart of the hub signs out")
	}
	for k, v := range r.store.data {
		if strings.Contains(k+string(v), secret) || strings.Contains(string(v), sentence) {
			t.Error("a secret stands in the store")
		}
	}
	if err := u.Logout(secret); err != nil {
		t.Fatal(err)
	}
	if _, ok := u.Session(secret); ok {
		t.Error("signed out, and yet not")
	}
	r.at = r.at.Add(sessionLife + time.Second)
	if _, ok := u.Session(other); ok {
		t.Error("a session without an end")
	}
}

func TestAChangeOfAUserHoldsAtOnce(t *testing.T) {
	_, u := withAdmin(t)
	if err := u.Put(User{Name: "minh", Role: RoleTechnician}, sentence); err != nil {
		t.Fatal(err)
	}
	secret, _, _, err := u.Login("minh", sentence, "x")
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Put(User{Name: "minh", Role: RoleViewer, Groups: []string{"river"}}, ""); err != nil {
		t.Fatal(err)
	}
	if g, ok := u.Session(secret); !ok || g.Role != RoleViewer || len(g.Groups) != 1 {
		t.Errorf("%+v %v", g, ok)
	}
	if err := u.Put(User{Name: "minh", Role: RoleViewer}, sentence+"!"); err != nil {
		t.Fatal(err)
	}
	if _, ok := u.Session(secret); ok {
		t.Error("a new password leaves old sessions open")
	}
	if err := u.Remove("minh"); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := u.Login("minh", sentence+"!", "x"); !errors.Is(err, ErrLogin) {
		t.Errorf("gone: %v", err)
	}
	for _, err := range []error{
		u.Remove("lan"), u.Put(User{Name: "lan", Role: RoleViewer}, ""), u.Put(User{Name: "lan", Role: RoleAdmin, Groups: []string{"river"}}, ""),
		u.Put(User{Name: "x", Role: "root"}, sentence), u.Put(User{Name: "../x", Role: RoleViewer}, sentence), u.Put(User{Name: "x ", Role: RoleViewer}, sentence),
	} {
		if !errors.Is(err, ErrUser) {
			t.Errorf("taken: %v", err)
		}
	}
}

func TestAttemptsAreLimited(t *testing.T) {
	r, u := withAdmin(t)
	u.dummy, u.users["lan"] = "", User{Name: "lan", Role: RoleAdmin} // hashing takes its time: not here
	try := func(name, remote string) error {
		_, _, _, err := u.Login(name, "wrong", remote)
		return err
	}
	for i := range attemptsOfBoth {
		if err := try("lan", "10.0.0.9"); !errors.Is(err, ErrLogin) {
			t.Fatalf("attempt %d: %v", i, err)
		}
	}
	if err := try("lan", "10.0.0.9"); !errors.Is(err, ErrTooMany) {
		t.Errorf("one name from one address: %v", err)
	}
	if err := try("lan", "10.0.0.10"); !errors.Is(err, ErrLogin) {
		t.Errorf("somebody else is locked out with them: %v", err)
	}
	for i := 0; ; i++ {
		if errors.Is(try(fmt.Sprintf("n%d", i), "10.0.0.11"), ErrTooMany) {
			if i != attemptsOfAddress {
				t.Errorf("one address guesses %d names", i)
			}
			break
		}
	}
	for i := 0; ; i++ {
		if errors.Is(try("lan", fmt.Sprintf("10.1.%d.%d", i/250, i%250)), ErrTooMany) {
			if i > attemptsOfName {
				t.Errorf("a thousand addresses guess %d times", i)
			}
			break
		}
	}
	r.at = r.at.Add(attemptWindow + time.Second)
	if err := try("lan", "10.0.0.9"); !errors.Is(err, ErrLogin) {
		t.Errorf("after a while: %v", err)
	}
	for i := range 3 * maxLimited {
		u.attempts.take(fmt.Sprint(i), 1, r.at)
	}
	if n := len(u.attempts.failed); n > maxLimited {
		t.Errorf("%d keys are held", n)
	}
}

func TestTokensOfMachinesAndScreens(t *testing.T) {
	r, u := withAdmin(t)
	end := r.at.Add(time.Hour)
	text, token, err := u.NewToken(Token{Name: "wall", Role: RoleViewer, Kiosk: true, Groups: []string{"river"}, Expires: &end})
	if err != nil {
		t.Fatal(err)
	}
	machine, _, err := u.NewToken(Token{Name: "ioc", Role: RoleOperator})
	if err != nil {
		t.Fatal(err)
	}
	if g, ok := r.users().Token(text); !ok || !g.Token || g.Role != RoleViewer || !slices.Equal(g.Groups, []string{"river"}) {
		t.Errorf("%+v %v", g, ok)
	}
	if _, _, _, err := u.Kiosk(machine, "x"); !errors.Is(err, ErrLogin) {
		t.Errorf("a machine's token begins a session: %v", err)
	}
	session, _, until, err := u.Kiosk(text, "x")
	if err != nil || !until.Equal(end) {
		t.Fatal(until, err)
	}
	if g, ok := u.Session(session); !ok || g.Name != "wall" {
		t.Errorf("%+v %v", g, ok)
	}
	r.at = end.Add(time.Second)
	if _, ok := u.Token(text); ok {
		t.Error("it has ended")
	}
	r.at = end.Add(-time.Minute)
	if err := u.RemoveToken(token.ID); err != nil {
		t.Fatal(err)
	}
	if _, ok := u.Session(session); ok {
		t.Error("the session outlives its token")
	}
	for name, bad := range map[string]Token{
		"a screen that acts": {Name: "x", Role: RoleOperator, Kiosk: true}, "no role": {Name: "x"}, "no name": {Role: RoleViewer},
		"a source of nothing": {Name: "x", Role: RoleSource}, "a viewer with a source": {Name: "x", Role: RoleViewer, Source: "s"},
		"ended": {Name: "x", Role: RoleViewer, Expires: &time.Time{}},
	} {
		if _, _, err := u.NewToken(bad); !errors.Is(err, ErrUser) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPasswords(t *testing.T) {
	hash := hashPassword(sentence)
	if !strings.HasPrefix(hash, "$argon2id$v=19$m=19456,t=2,p=1$") || !samePassword(hash, sentence) || samePassword(hash, sentence+" ") || hash == hashPassword(sentence) {
		t.Error(hash)
	}
	for _, bad := range []string{"", "$", "$argon2id$v=19$m=99999999,t=2,p=1$AA$AA", "$argon2i$v=19$m=19456,t=2,p=1$AAAA$AAAA", hash[:len(hash)-30]} {
		if samePassword(bad, sentence) {
			t.Errorf("%q fits", bad)
		}
	}
	for _, bad := range []string{"", "short", "aaaaaaaaaaaaaaa", "nguyen-lan1", strings.Repeat("ab", 200)} {
		if err := checkPassword("nguyen-lan", bad); !errors.Is(err, ErrPassword) {
			t.Errorf("%q is taken", bad)
		}
	}
}
