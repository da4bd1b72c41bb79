package identity

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/langbiang/langbiang/pkg/identity/enrol"
)

// Why a gateway is refused. Each is counted by its own reason.
var (
	ErrToken      = errors.New("this token is not known here, has been used by another gateway, or has ended")
	ErrForged     = errors.New("the certificate is not of this hub's authority")
	ErrExpired    = errors.New("the certificate has ended")
	ErrRevoked    = errors.New("the edge has been revoked")
	ErrSuperseded = errors.New("the edge has been enrolled anew since this certificate")
	ErrRequest    = errors.New("the request for a certificate cannot be used")
	ErrEdge       = errors.New("not an id of an edge")
	ErrUnknown    = errors.New("no such edge")
)

const reasonOther = "other"

var reasons = map[error]string{
	ErrToken: "token", ErrForged: "forged", ErrExpired: "expired", ErrRevoked: "revoked", ErrSuperseded: "superseded", ErrRequest: "request", ErrClientID: "client_id",
}

// Reason is the short name of a refusal, for a metric.
func Reason(err error) string {
	for e, name := range reasons {
		if errors.Is(err, e) {
			return name
		}
	}
	return reasonOther
}

// Reasons are all that [Reason] returns: a counter of each begins at 0, so that the
// first refusal is an increase.
func Reasons() []string { return append(slices.Collect(maps.Values(reasons)), reasonOther) }

var edgePattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// EdgeRecord is what is known of the certificates of one edge.
type EdgeRecord struct {
	Edge     string     `json:"edge"`
	Site     string     `json:"site,omitempty"`
	Enrolled time.Time  `json:"enrolled"` // certificates issued before are void
	By       string     `json:"by,omitempty"`
	Renewed  time.Time  `json:"renewed,omitzero"`
	Revoked  *time.Time `json:"revoked,omitempty"`
	NotAfter time.Time  `json:"not_after"` // of the newest certificate
}

// tokenRecord is a token of a gateway.
type tokenRecord struct {
	Edge    string    `json:"edge"`
	Site    string    `json:"site,omitempty"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	By      string    `json:"by,omitempty"`
	Key     string    `json:"key,omitempty"` // hash of the key that used it
}

// Edges enrols gateways and knows whose certificates hold. It is safe for
// concurrent use.
type Edges struct {
	authority *Authority
	store     Store
	now       func() time.Time

	mu      sync.RWMutex // also makes the use of a token one step
	records map[string]EdgeRecord
}

// NewEdges reads what is known of the edges.
func NewEdges(a *Authority, s Store, now func() time.Time) (*Edges, error) {
	e := &Edges{authority: a, store: s, now: now, records: map[string]EdgeRecord{}}
	err := each(s, kindEdge, func(id string, r EdgeRecord) error {
		e.records[id] = r
		return nil
	})
	return e, err
}

// MaxTokenLife bounds the life of a token for a gateway.
const MaxTokenLife = 30 * 24 * time.Hour

// maxTokens bounds the tokens that are kept.
const maxTokens = 10_000

// NewToken makes a token for the gateway of an edge; by is who asked for it.
func (e *Edges) NewToken(edge, site string, ttl time.Duration, by string) (enrol.Token, time.Time, error) {
	if !edgePattern.MatchString(edge) {
		return enrol.Token{}, time.Time{}, fmt.Errorf("%w: %.80q; use a-z, 0-9 and -, at most 63, a letter or digit at both ends", ErrEdge, edge)
	}
	if ttl <= 0 || ttl > MaxTokenLife {
		return enrol.Token{}, time.Time{}, fmt.Errorf("%w: a token holds for some time, at most %v", ErrRequest, MaxTokenLife)
	}
	t := enrol.NewToken(e.authority.Fingerprint())
	now := e.now().UTC()
	r := tokenRecord{Edge: edge, Site: site, Created: now, Expires: now.Add(ttl), By: by}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.sweep(now); err != nil {
		return t, r.Expires, err
	}
	return t, r.Expires, save(e.store, kindEnrol, hashOf(t.Secret[:]), &r)
}

// sweep forgets tokens that have ended.
func (e *Edges) sweep(now time.Time) error {
	var gone []string
	n := 0
	err := each(e.store, kindEnrol, func(id string, r tokenRecord) error {
		if n++; now.After(r.Expires) {
			gone = append(gone, id)
		}
		return nil
	})
	if err == nil && n-len(gone) >= maxTokens {
		err = fmt.Errorf("%w: %d tokens wait to be used; let some of them end", ErrRequest, n-len(gone))
	}
	for _, id := range gone {
		if err == nil {
			err = remove(e.store, kindEnrol, id)
		}
	}
	return err
}

// hashOf is how a random secret is kept. It has 128 bits or more, so no salt and no
// slow hash is needed.
func hashOf(secret []byte) string {
	sum := sha256.Sum256(secret)
	return hex.EncodeToString(sum[:])
}

// request reads a request for a certificate and checks that whoever asks has the key.
func request(der []byte) (*x509.CertificateRequest, error) {
	r, err := x509.ParseCertificateRequest(der)
	if err == nil {
		err = r.CheckSignature()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	switch k := r.PublicKey.(type) {
	case *ecdsa.PublicKey, ed25519.PublicKey:
	case *rsa.PublicKey:
		if k.N.BitLen() < 2048 {
			return nil, fmt.Errorf("%w: an RSA key of %d bits", ErrRequest, k.N.BitLen())
		}
	default:
		return nil, fmt.Errorf("%w: a key of a kind that is not known here", ErrRequest)
	}
	return r, nil
}

// Enrol gives a certificate for a token. The token works once; the same key may ask
// again while it holds, since the answer can get lost.
func (e *Edges) Enrol(r enrol.Request) (rec EdgeRecord, cert []byte, err error) {
	t, err := enrol.ParseToken(r.Token)
	if err != nil {
		return rec, nil, fmt.Errorf("%w (%w)", ErrToken, err)
	}
	csr, err := request(r.CSR)
	if err != nil {
		return rec, nil, err
	}
	key, id := hashOf(csr.RawSubjectPublicKeyInfo), hashOf(t.Secret[:])
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.now().UTC()
	tr, ok, err := load[tokenRecord](e.store, kindEnrol, id)
	switch {
	case err != nil:
		return rec, nil, err
	case !ok || t.Authority != e.authority.Fingerprint() || now.After(tr.Expires) || tr.Key != "" && tr.Key != key:
		return rec, nil, ErrToken
	}
	if was, ok := e.records[tr.Edge]; ok && was.Revoked != nil && was.Revoked.After(tr.Created) {
		return rec, nil, ErrRevoked // since the token was made: what an operator said last holds
	}
	tr.Key = key
	if err := save(e.store, kindEnrol, id, &tr); err != nil { // used, before anything is given for it
		return rec, nil, err
	}
	rec = EdgeRecord{Edge: tr.Edge, Site: tr.Site, Enrolled: now.Truncate(time.Millisecond), By: tr.By}
	return e.issue(rec, csr)
}

// Renew gives another certificate to the holder of one that holds.
func (e *Edges) Renew(cert *x509.Certificate, r enrol.Request) (rec EdgeRecord, der []byte, err error) {
	edge, err := e.Check(cert)
	if err != nil {
		return rec, nil, err
	}
	csr, err := request(r.CSR)
	if err != nil {
		return rec, nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.now().UTC()
	rec, ok := e.records[edge]
	if !ok {
		// Signed by us, and unknown: the hub was restored from a backup of before.
		rec = EdgeRecord{Edge: edge, Enrolled: time.UnixMilli(issued(cert.SerialNumber)).UTC()}
	}
	if rec.Revoked != nil {
		return rec, nil, ErrRevoked
	}
	rec.Renewed = now
	return e.issue(rec, csr)
}

// issue signs and notes it. The caller has the lock.
func (e *Edges) issue(rec EdgeRecord, csr *x509.CertificateRequest) (EdgeRecord, []byte, error) {
	leaf, err := e.authority.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: rec.Edge}, NotAfter: e.now().Add(edgeLife), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, csr.PublicKey)
	if err != nil {
		return rec, nil, err
	}
	rec.NotAfter = leaf.NotAfter
	if err := save(e.store, kindEdge, rec.Edge, &rec); err != nil {
		return rec, nil, err
	}
	e.records[rec.Edge] = rec
	return rec, leaf.Raw, nil
}

// Check says whose certificate this is, or why it does not hold.
func (e *Edges) Check(cert *x509.Certificate) (edge string, err error) {
	roots := x509.NewCertPool()
	roots.AddCert(e.authority.cert)
	now := e.now()
	// Who signed it first, whatever the time: what is forged is not expired.
	opts := x509.VerifyOptions{Roots: roots, CurrentTime: cert.NotBefore, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if _, err := cert.Verify(opts); err != nil {
		return "", fmt.Errorf("%w: %w", ErrForged, err)
	}
	edge = cert.Subject.CommonName
	if !edgePattern.MatchString(edge) {
		return "", fmt.Errorf("%w: it names %.80q", ErrForged, edge)
	}
	if now.After(cert.NotAfter) {
		return edge, fmt.Errorf("%w (%s)", ErrExpired, cert.NotAfter.Format(time.RFC3339))
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	rec, ok := e.records[edge]
	switch {
	case !ok:
		return edge, nil // see Renew
	case rec.Revoked != nil:
		return edge, fmt.Errorf("%w (%s)", ErrRevoked, rec.Revoked.Format(time.RFC3339))
	case issued(cert.SerialNumber) < rec.Enrolled.UnixMilli():
		return edge, ErrSuperseded
	}
	return edge, nil
}

// Revoke makes the certificates of an edge void. The caller ends its connections.
func (e *Edges) Revoke(edge string) error {
	if !edgePattern.MatchString(edge) {
		return ErrUnknown
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.now().UTC()
	rec, ok := e.records[edge]
	if !ok {
		// It may hold a certificate from before a restore; void it all the same.
		rec = EdgeRecord{Edge: edge}
	}
	rec.Revoked = &now
	if err := save(e.store, kindEdge, edge, &rec); err != nil {
		return err
	}
	e.records[edge] = rec
	return nil
}

// List returns the records of all edges, by id.
func (e *Edges) List() []EdgeRecord {
	e.mu.RLock()
	defer e.mu.RUnlock()
	out := make([]EdgeRecord, 0, len(e.records))
	for _, r := range e.records {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b EdgeRecord) int { return strings.Compare(a.Edge, b.Edge) })
	return out
}
