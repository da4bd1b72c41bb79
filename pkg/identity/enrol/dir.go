package enrol

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

// Dir is the folder of a gateway's identity.
type Dir string

// The files, see the package comment.
const (
	edgeFile      = "edge.pem"
	authorityFile = "authority.pem"
	hubFile       = "hub.json"
	pendingFile   = "pending.key"
)

// ErrNone says that the gateway has not been enrolled.
var ErrNone = errors.New("not enrolled")

// Identity is who the gateway is. It is safe for concurrent use.
type Identity struct {
	dir       Dir
	hub       string // https address
	authority *x509.Certificate
	cert      atomic.Pointer[tls.Certificate]
}

// Enrolled is what came of an enrolment.
type Enrolled struct {
	Answer
	// Offset is how far this machine's clock is behind the hub's, within half of RTT.
	Offset, RTT time.Duration
	NotAfter    time.Time
}

// Open reads the identity. It fails with [ErrNone].
func (d Dir) Open() (*Identity, error) {
	data, err := os.ReadFile(d.file(edgeFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNone
	}
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	id := &Identity{dir: d}
	cert, err := tls.X509KeyPair(data, data)
	if err != nil {
		return nil, fmt.Errorf("identity %s: %w; enrol this gateway anew", d.file(edgeFile), err)
	}
	id.cert.Store(&cert)
	if id.authority, err = readCertificate(d.file(authorityFile)); err != nil {
		return nil, fmt.Errorf("identity: %w; enrol this gateway anew", err)
	}
	var h struct{ Hub string }
	if data, err = os.ReadFile(d.file(hubFile)); err == nil {
		err = json.Unmarshal(data, &h)
	}
	if err != nil {
		return nil, fmt.Errorf("identity: %w; enrol this gateway anew", err)
	}
	id.hub = h.Hub
	return id, nil
}

// Edge is the id of the edge in the certificate.
func (id *Identity) Edge() string { return id.cert.Load().Leaf.Subject.CommonName }

// NotAfter is when the certificate ends.
func (id *Identity) NotAfter() time.Time { return id.cert.Load().Leaf.NotAfter }

// Due says whether the certificate should be renewed: half of its life is over.
func (id *Identity) Due(now time.Time) bool {
	leaf := id.cert.Load().Leaf
	return now.After(leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 2))
}

// Enrol gets a certificate for a token from the hub at an https address, and keeps
// it. One that was there is replaced.
func (d Dir) Enrol(ctx context.Context, hub string, token Token, version string) (*Enrolled, error) {
	if err := d.make(); err != nil {
		return nil, err
	}
	key, err := d.pendingKey()
	if err != nil {
		return nil, err
	}
	var authority *x509.Certificate
	e, err := ask(ctx, hub+Path, first(token, &authority), Request{Token: token.String(), Version: version}, key, "")
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(struct {
		Hub string `json:"hub"`
	}{hub})
	if err != nil {
		return nil, err
	}
	// The certificate last: with it the gateway is enrolled.
	if err := d.write(authorityFile, encode("CERTIFICATE", authority.Raw)); err != nil {
		return nil, err
	}
	if err := d.write(hubFile, append(text, '\n')); err != nil {
		return nil, err
	}
	if err := d.keep(e, key, authority); err != nil {
		return nil, err
	}
	_ = os.Remove(d.file(pendingFile)) // of no more use, and harmless
	return e, nil
}

// Renew gets another certificate in place of the one in force.
func (id *Identity) Renew(ctx context.Context, version string, clock Clock) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	e, err := ask(ctx, id.hub+RenewPath, id.TLS(clock), Request{Version: version}, key, id.Edge())
	if err != nil {
		return err
	}
	if e.Edge != id.Edge() {
		return fmt.Errorf("%w: it answers for edge %q", ErrHub, e.Edge)
	}
	if err := id.dir.keep(e, key, id.authority); err != nil {
		return err
	}
	next, err := id.dir.Open()
	if err != nil {
		return err
	}
	id.cert.Store(next.cert.Load())
	return nil
}

// keep checks a certificate that was issued for a key and writes both.
func (d Dir) keep(e *Enrolled, key *ecdsa.PrivateKey, authority *x509.Certificate) error {
	cert, err := x509.ParseCertificate(e.Certificate)
	if err != nil {
		return fmt.Errorf("%w: the certificate it gave: %w", ErrHub, err)
	}
	if err := cert.CheckSignatureFrom(authority); err != nil || !key.PublicKey.Equal(cert.PublicKey) || cert.Subject.CommonName != e.Edge {
		return fmt.Errorf("%w: the certificate it gave is not for this gateway", ErrHub)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	e.NotAfter = cert.NotAfter
	return d.write(edgeFile, append(encode("CERTIFICATE", cert.Raw), encode("PRIVATE KEY", der)...))
}

// Refusal is the hub's answer when it gives no certificate.
type Refusal struct {
	Status int
	Text   string
}

func (r *Refusal) Error() string { return r.Text }

const (
	askTimeout = 30 * time.Second
	maxAnswer  = 64 << 10
)

func ask(ctx context.Context, address string, config *tls.Config, r Request, key *ecdsa.PrivateKey, edge string) (*Enrolled, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("hub address %q: write https://HOST:PORT", strings.TrimSuffix(address, Path))
	}
	if r.CSR, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: edge}}, key); err != nil {
		return nil, err
	}
	body, err := json.Marshal(&r)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	client := http.Client{
		Transport:     &http.Transport{TLSClientConfig: config, DisableKeepAlives: true, Proxy: http.ProxyFromEnvironment},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	start := time.Now()
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	e := &Enrolled{RTT: time.Since(start)}
	now := time.Now()
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		var problem struct{ Title, Detail string }
		if json.Unmarshal(data, &problem) != nil || problem.Title == "" {
			return nil, &Refusal{resp.StatusCode, "the hub answered " + resp.Status}
		}
		return nil, &Refusal{resp.StatusCode, problem.Title + ": " + problem.Detail}
	}
	if err := json.Unmarshal(data, &e.Answer); err != nil {
		return nil, fmt.Errorf("%w: its answer cannot be read", ErrHub)
	}
	e.Offset = time.UnixMilli(e.Now).Add(e.RTT / 2).Sub(now)
	return e, nil
}

// pendingKey returns the key that waits for its certificate, or makes one.
func (d Dir) pendingKey() (*ecdsa.PrivateKey, error) {
	if data, err := os.ReadFile(d.file(pendingFile)); err == nil {
		if block, _ := pem.Decode(data); block != nil {
			if k, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
				if key, ok := k.(*ecdsa.PrivateKey); ok {
					return key, nil
				}
			}
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, d.write(pendingFile, encode("PRIVATE KEY", der))
}

func (d Dir) file(name string) string { return filepath.Join(string(d), name) }

// make makes the folder, the property of whoever has the folder above it.
func (d Dir) make() error {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	return likeParent(string(d))
}

// write replaces a file durably. It belongs to the owner of the folder.
func (d Dir) write(name string, data []byte) error {
	f, err := os.CreateTemp(string(d), ".new-*") // mode 0600
	if err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = likeParent(f.Name())
	}
	if err == nil {
		err = os.Rename(f.Name(), d.file(name))
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("identity: %w", err)
	}
	folder, err := os.Open(string(d))
	if err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	return errors.Join(folder.Sync(), folder.Close())
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func readCertificate(path string) (*x509.Certificate, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("%s holds no certificate", path)
	}
	return x509.ParseCertificate(block.Bytes)
}
