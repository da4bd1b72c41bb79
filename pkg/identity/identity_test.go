package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/langbiang/langbiang/pkg/identity/enrol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a Store. The real one is the ledger.
type memory struct {
	mu   sync.Mutex
	data map[string][]byte
	fail error
}

func newMemory() *memory { return &memory{data: map[string][]byte{}} }

func (m *memory) GetRecord(kind, id string) ([]byte, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, ok := m.data[kind+"\x00"+id]
	return d, ok, m.fail
}

func (m *memory) PutRecord(kind, id string, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	if data == nil {
		delete(m.data, kind+"\x00"+id)
	} else {
		m.data[kind+"\x00"+id] = data
	}
	return nil
}

func (m *memory) Records(kind string, fn func(string, []byte) error) error {
	m.mu.Lock()
	all := maps.Clone(m.data)
	m.mu.Unlock()
	for _, k := range slices.Sorted(maps.Keys(all)) {
		if id, ok := strings.CutPrefix(k, kind+"\x00"); ok {
			if err := fn(id, all[k]); err != nil {
				return err
			}
		}
	}
	return m.fail
}

// rig is an authority with a clock that tests move.
type rig struct {
	*testing.T
	dir   string
	store *memory
	at    time.Time
	a     *Authority
	edges *Edges
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{T: t, dir: t.TempDir(), store: newMemory(), at: time.Date(2026, 11, 27, 8, 0, 0, 0, time.UTC)}
	r.open()
	return r
}

func (r *rig) now() time.Time { return r.at }

func (r *rig) open() {
	r.Helper()
	var err error
	if r.a, err = OpenAuthority(r.dir, Files{}, r.now); err != nil {
		r.Fatal(err)
	}
	if r.edges, err = NewEdges(r.a, r.store, r.now); err != nil {
		r.Fatal(err)
	}
}

func (r *rig) key() *ecdsa.PrivateKey {
	r.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		r.Fatal(err)
	}
	return k
}

func (r *rig) csr(k *ecdsa.PrivateKey, name string) []byte {
	r.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, k)
	if err != nil {
		r.Fatal(err)
	}
	return der
}

func (r *rig) token(edge string, ttl time.Duration) string {
	r.Helper()
	t, _, err := r.edges.NewToken(edge, "24848", ttl, "lan")
	if err != nil {
		r.Fatal(err)
	}
	return t.String()
}

func (r *rig) enrol(edge string) *x509.Certificate {
	r.Helper()
	_, der, err := r.edges.Enrol(enrol.Request{Token: r.token(edge, time.Hour), CSR: r.csr(r.key(), "")})
	if err != nil {
		r.Fatal(err)
	}
	return r.parse(der)
}

func (r *rig) parse(der []byte) *x509.Certificate {
	r.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		r.Fatal(err)
	}
	return c
}

func (r *rig) wants(c *x509.Certificate, edge string, want error) {
	r.Helper()
	got, err := r.edges.Check(c)
	if !errors.Is(err, want) || want == nil && (err != nil || got != edge) {
		r.Errorf("certificate of %s: %q, %v; want %v", c.Subject.CommonName, got, err, want)
	}
}

func TestTheAuthorityIsMadeOnceAndItsKeyIsPrivate(t *testing.T) {
	r := newRig(t)
	first := r.a.Fingerprint()
	st, err := os.Stat(filepath.Join(r.dir, AuthorityKey))
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("key: %v %v", st.Mode(), err)
	}
	r.open()
	if r.a.Fingerprint() != first {
		t.Error("another authority after a restart")
	}
	if err := os.Chmod(filepath.Join(r.dir, AuthorityKey), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenAuthority(r.dir, Files{}, r.now); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that others may read: %v", err)
	}
	if err := os.Remove(filepath.Join(r.dir, AuthorityKey)); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenAuthority(r.dir, Files{}, r.now); err == nil || !strings.Contains(err.Error(), "backup") {
		t.Errorf("a lost key must not be replaced in silence: %v", err)
	}
	supplied := newRig(t)
	a, err := OpenAuthority(t.TempDir(), Files{Cert: filepath.Join(supplied.dir, AuthorityCert), Key: filepath.Join(supplied.dir, AuthorityKey)}, r.now)
	if err != nil || a.Fingerprint() != supplied.a.Fingerprint() {
		t.Errorf("supplied: %v", err)
	}
}

func TestATokenWorksOnceForOneKeyAndIsKeptAsAHash(t *testing.T) {
	r := newRig(t)
	token, key := r.token("lac-duong-01", time.Hour), r.key()
	for k, v := range r.store.data {
		secret, err := enrol.ParseToken(token)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(k+string(v), string(secret.Secret[:])) || strings.Contains(k+string(v), token) {
			t.Error("the secret stands in the store")
		}
	}
	rec, der, err := r.edges.Enrol(enrol.Request{Token: token, CSR: r.csr(key, "somebody-else")})
	if err != nil || rec.Edge != "lac-duong-01" || rec.Site != "24848" {
		t.Fatalf("%+v %v", rec, err)
	}
	r.wants(r.parse(der), "lac-duong-01", nil) // by the token, not by what the request says
	r.at = r.at.Add(time.Second)
	if _, _, err := r.edges.Enrol(enrol.Request{Token: token, CSR: r.csr(key, "")}); err != nil {
		t.Errorf("the answer got lost, the same key asks again: %v", err)
	}
	if _, _, err := r.edges.Enrol(enrol.Request{Token: token, CSR: r.csr(r.key(), "")}); !errors.Is(err, ErrToken) {
		t.Errorf("another key: %v", err)
	}
	r.open()
	if _, _, err := r.edges.Enrol(enrol.Request{Token: token, CSR: r.csr(r.key(), "")}); !errors.Is(err, ErrToken) {
		t.Errorf("another key after a restart: %v", err)
	}
}

func TestTokensThatDoNotHold(t *testing.T) {
	r := newRig(t)
	ended := r.token("a", time.Hour)
	r.at = r.at.Add(2 * time.Hour)
	other := newRig(t)
	var unknown enrol.Token
	unknown.Authority = r.a.Fingerprint()
	csr := r.csr(r.key(), "")
	for name, req := range map[string]enrol.Request{
		"ended": {Token: ended, CSR: csr}, "of another hub": {Token: other.token("a", time.Hour), CSR: csr},
		"made up": {Token: unknown.String(), CSR: csr}, "cut": {Token: ended[:40], CSR: csr}, "none": {CSR: csr},
	} {
		if _, _, err := r.edges.Enrol(req); !errors.Is(err, ErrToken) {
			t.Errorf("%s: %v", name, err)
		}
	}
	good := r.token("a", time.Hour)
	broken := slices.Clone(csr)
	broken[len(broken)-1] ^= 1
	for name, c := range map[string][]byte{"no request": nil, "garbage": []byte("x"), "signature broken": broken} {
		if _, _, err := r.edges.Enrol(enrol.Request{Token: good, CSR: c}); !errors.Is(err, ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := r.edges.Enrol(enrol.Request{Token: good, CSR: csr}); err != nil {
		t.Errorf("bad requests must not use a token up: %v", err)
	}
	for _, edge := range []string{"", "A", "a.b", "a/b", "-a", "a-", "*", ">", strings.Repeat("a", 64)} {
		if _, _, err := r.edges.NewToken(edge, "", time.Hour, ""); !errors.Is(err, ErrEdge) {
			t.Errorf("token for %q: %v", edge, err)
		}
	}
}

func TestCertificatesThatDoNotHold(t *testing.T) {
	r := newRig(t)
	good := r.enrol("lac-duong-01")
	r.wants(good, "lac-duong-01", nil)

	other := newRig(t)
	r.wants(other.enrol("lac-duong-01"), "", ErrForged)
	key := r.key()
	self := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "lac-duong-01"}, NotBefore: r.at, NotAfter: r.at.Add(time.Hour),
		Issuer: r.a.cert.Subject, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, self, self, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	r.wants(r.parse(der), "", ErrForged)
	server, err := r.a.Server()
	if err != nil {
		t.Fatal(err)
	}
	r.wants(server.Leaf, "", ErrForged) // the hub's own is no edge's
	// An edge's certificate signs no others.
	edgeKey := r.key()
	_, der, err = r.edges.Enrol(enrol.Request{Token: r.token("b", time.Hour), CSR: r.csr(edgeKey, "")})
	if err != nil {
		t.Fatal(err)
	}
	child, err := x509.CreateCertificate(rand.Reader, self, r.parse(der), &key.PublicKey, edgeKey)
	if err != nil {
		t.Fatal(err)
	}
	r.wants(r.parse(child), "", ErrForged)

	r.at = r.at.Add(edgeLife + time.Minute)
	r.wants(good, "", ErrExpired)
	r.at = r.at.Add(-edgeLife)
	r.wants(good, "lac-duong-01", nil)

	if err := r.edges.Revoke("lac-duong-01"); err != nil {
		t.Fatal(err)
	}
	r.wants(good, "", ErrRevoked)
	r.open()
	r.wants(good, "", ErrRevoked)
	if _, _, err := r.edges.Renew(good, enrol.Request{CSR: r.csr(r.key(), "")}); !errors.Is(err, ErrRevoked) {
		t.Errorf("renewal by a revoked edge: %v", err)
	}
	r.at = r.at.Add(time.Minute)
	next := r.enrol("lac-duong-01")
	r.wants(next, "lac-duong-01", nil)
	r.wants(good, "", ErrSuperseded)
}

func TestARevocationVoidsTokensThatWait(t *testing.T) {
	r := newRig(t)
	token := r.token("a", time.Hour)
	r.at = r.at.Add(time.Minute)
	if err := r.edges.Revoke("a"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.edges.Enrol(enrol.Request{Token: token, CSR: r.csr(r.key(), "")}); !errors.Is(err, ErrRevoked) {
		t.Errorf("a token from before: %v", err)
	}
}

func TestRenewalAndAHubRestoredFromAnOlderBackup(t *testing.T) {
	r := newRig(t)
	before := maps.Clone(r.store.data)
	first := r.enrol("a")
	backup := maps.Clone(r.store.data)
	r.at = r.at.Add(200 * 24 * time.Hour)
	rec, der, err := r.edges.Renew(first, enrol.Request{CSR: r.csr(r.key(), "")})
	if err != nil || rec.Renewed.IsZero() {
		t.Fatal(rec, err)
	}
	renewed := r.parse(der)
	r.wants(first, "a", nil) // until the gateway has its answer
	r.wants(renewed, "a", nil)
	for name, data := range map[string]map[string][]byte{"of before the renewal": backup, "of before the enrolment": before} {
		r.store.data = maps.Clone(data)
		r.open()
		r.wants(renewed, "a", nil)
		if _, _, err := r.edges.Renew(renewed, enrol.Request{CSR: r.csr(r.key(), "")}); err != nil {
			t.Errorf("a backup %s: %v", name, err)
		}
	}
}

func TestNothingIsGivenThatCannotBeNoted(t *testing.T) {
	r := newRig(t)
	token := r.token("a", time.Hour)
	r.store.fail = errors.New("disk full")
	if _, der, err := r.edges.Enrol(enrol.Request{Token: token, CSR: r.csr(r.key(), "")}); err == nil || der != nil {
		t.Errorf("a certificate was given: %v", err)
	}
	if err := r.edges.Revoke("a"); err == nil {
		t.Error("a revocation that is not on disk")
	}
}

func TestAClientIDIsTheEdgesOwn(t *testing.T) {
	r := newRig(t)
	cs := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{r.enrol("lac-duong")}}
	for id, want := range map[string]error{
		"lac-duong-0123abcd": nil, "lac-duong-01-0123abcd": ErrClientID, "dam-rong-0123abcd": ErrClientID, "": ErrClientID,
		"lac-duong-": ErrClientID, "lac-duong-0123ABCD": ErrClientID, "lac-duong-0123abcde": ErrClientID,
	} {
		if edge, err := r.edges.Admit(cs, id); !errors.Is(err, want) || want == nil && (err != nil || edge != "lac-duong") {
			t.Errorf("%q: %q %v", id, edge, err)
		}
	}
	if _, err := r.edges.Admit(nil, "lac-duong-0123abcd"); !errors.Is(err, ErrForged) {
		t.Errorf("plain text: %v", err)
	}
}

func TestTheHubsOwnCertificateIsMadeAnewInTime(t *testing.T) {
	r := newRig(t)
	r.a.SetNames([]string{"hub.example", "192.0.2.7"})
	first, err := r.a.Server()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"hub.example", "192.0.2.7", "localhost", enrol.ServerName} {
		if err := first.Leaf.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	r.at = r.at.Add(serverLife / 3)
	if again, _ := r.a.Server(); again != first {
		t.Error("made anew too early")
	}
	r.at = r.at.Add(serverLife / 3)
	if again, _ := r.a.Server(); again == first || again.Leaf.NotAfter.Before(r.at.Add(serverLife-time.Hour)) {
		t.Error("not made anew")
	}
}

func FuzzEnrolRequest(f *testing.F) {
	f.Add([]byte(`{"token":"lbe1.x","csr":"MA=="}`))
	dir := f.TempDir()
	a, err := OpenAuthority(dir, Files{}, time.Now)
	if err != nil {
		f.Fatal(err)
	}
	e, err := NewEdges(a, newMemory(), time.Now)
	if err != nil {
		f.Fatal(err)
	}
	t, _, err := e.NewToken("a", "", time.Hour, "")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(tt *testing.T, body []byte) {
		var r enrol.Request
		if json.Unmarshal(body, &r) != nil {
			return
		}
		if _, _, err := e.Enrol(r); err == nil && r.Token != t.String() {
			tt.Error("let in without the token")
		}
		r.Token = t.String()
		_, _, _ = e.Enrol(r) // must not panic
	})
}
