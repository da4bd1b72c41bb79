package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/langbiang/langbiang/pkg/identity/enrol"
)

// How long certificates hold. A gateway renews after half of that, so it may be
// without its hub for half a year and needs no new token.
const (
	edgeLife   = 365 * 24 * time.Hour
	serverLife = 30 * 24 * time.Hour
	backdate   = time.Hour
)

// The file names of the authority in its folder.
const (
	AuthorityCert = "authority.pem"
	AuthorityKey  = "authority.key"
)

// Files are an authority that was made elsewhere; none when empty.
type Files struct{ Cert, Key string }

// Authority signs the certificates of gateways and of the hub itself. It is safe for
// concurrent use.
type Authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	now  func() time.Time

	mu     sync.Mutex
	server *tls.Certificate // newest of the hub itself
	client *tls.Certificate // of the hub as a client of its own bus
	names  []string         // its names beside the fixed one
}

// OpenAuthority reads the authority from files that were supplied, or from dir,
// where it is made when there is none. Now is the hub's clock.
func OpenAuthority(dir string, supplied Files, now func() time.Time) (*Authority, error) {
	a := &Authority{now: now}
	if supplied.Cert != "" || supplied.Key != "" {
		return a, a.read(supplied.Cert, supplied.Key)
	}
	cert, key := filepath.Join(dir, AuthorityCert), filepath.Join(dir, AuthorityKey)
	_, err := os.Stat(key)
	if err == nil {
		return a, a.read(cert, key)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("authority: %w", err)
	}
	if _, err := os.Stat(cert); err == nil {
		return nil, fmt.Errorf("authority: %s is there and its key %s is not; restore both from a backup, or remove the certificate and enrol every gateway anew", cert, key)
	}
	return a, a.create(dir, cert, key)
}

func (a *Authority) read(certPath, keyPath string) error {
	pair, err := tls.LoadX509KeyPair(certPath, keyPath)
	if err != nil {
		return fmt.Errorf("authority: %w", err)
	}
	if st, err := os.Stat(keyPath); err == nil && st.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("authority: others may read the key %s (mode %#o); chmod 600 it", keyPath, st.Mode().Perm())
	}
	if !pair.Leaf.IsCA {
		return fmt.Errorf("authority: %s is no certificate of an authority (it says CA:FALSE)", certPath)
	}
	signer, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return fmt.Errorf("authority: %s holds a key that cannot sign", keyPath)
	}
	a.cert, a.key = pair.Leaf, signer
	return nil
}

func (a *Authority) create(dir, certPath, keyPath string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	// From a fixed day on: whatever the clock says on the first day, nothing that it
	// signs may seem older than itself.
	t := &x509.Certificate{
		SerialNumber: serial(a.now()), Subject: pkix.Name{CommonName: "Langbiang hub authority"},
		NotBefore: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2075, 1, 1, 0, 0, 0, 0, time.UTC),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("authority: %w", err)
	}
	// The key last: without it a start says what is amiss only if there is a certificate.
	for _, f := range []struct {
		path string
		mode fs.FileMode
		data []byte
	}{
		{keyPath + ".new", 0o600, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})},
		{certPath + ".new", 0o644, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})},
	} {
		if err := writeFile(f.path, f.data, f.mode); err != nil {
			return fmt.Errorf("authority: %w", err)
		}
	}
	err = errors.Join(os.Rename(keyPath+".new", keyPath), os.Rename(certPath+".new", certPath))
	if folder, e := os.Open(dir); err == nil && e == nil {
		err = errors.Join(folder.Sync(), folder.Close())
	}
	if err != nil {
		return fmt.Errorf("authority: %w", err)
	}
	a.key = key
	a.cert, err = x509.ParseCertificate(der)
	return err
}

func writeFile(path string, data []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
}

// serial is a number for a certificate: when it was issued (ms), then 64 random bits.
func serial(now time.Time) *big.Int {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], uint64(max(now.UnixMilli(), 1)))
	_, _ = rand.Read(b[8:]) // never fails, says its documentation
	return new(big.Int).SetBytes(b[:])
}

// issued is when the certificate with the number was issued, ms since the Unix epoch.
func issued(n *big.Int) int64 {
	return new(big.Int).Rsh(n, 64).Int64()
}

// Fingerprint names the authority.
func (a *Authority) Fingerprint() [sha256.Size]byte { return enrol.Fingerprint(a.cert.Raw) }

// Certificate is the authority's certificate, DER: for browsers that are to trust
// this hub's page.
func (a *Authority) Certificate() []byte { return a.cert.Raw }

// sign issues a certificate.
func (a *Authority) sign(t *x509.Certificate, pub crypto.PublicKey) (*x509.Certificate, error) {
	now := a.now()
	t.SerialNumber, t.NotBefore = serial(now), now.Add(-backdate)
	t.KeyUsage = x509.KeyUsageDigitalSignature
	if t.NotAfter.After(a.cert.NotAfter) {
		t.NotAfter = a.cert.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, pub, a.key)
	if err != nil {
		return nil, fmt.Errorf("authority: %w", err)
	}
	return x509.ParseCertificate(der)
}

// SetNames says under which names and addresses browsers reach the hub. Gateways
// need none of them.
func (a *Authority) SetNames(names []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !slices.Equal(a.names, names) {
		a.names, a.server = slices.Clone(names), nil
	}
}

// Server returns the hub's own certificate, with the authority's beside it. It is
// made anew at every start and long before it ends.
func (a *Authority) Server() (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	if a.server != nil && now.Before(a.server.Leaf.NotAfter.Add(-serverLife/2)) && now.After(a.server.Leaf.NotBefore) {
		return a.server, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		Subject: pkix.Name{CommonName: "Langbiang hub"}, NotAfter: now.Add(serverLife),
		DNSNames: []string{enrol.ServerName, "localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, n := range a.names {
		if ip := net.ParseIP(n); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, n)
		}
	}
	leaf, err := a.sign(t, &key.PublicKey)
	if err != nil {
		return nil, err
	}
	a.server = &tls.Certificate{Certificate: [][]byte{leaf.Raw, a.cert.Raw}, PrivateKey: key, Leaf: leaf}
	return a.server, nil
}

// Own is how a part of the hub connects to the hub's own bus, whose listener wants
// certificates. It is no edge's: who it is, the bus must know by other means.
func (a *Authority) Own() (*tls.Config, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.client == nil {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		leaf, err := a.sign(&x509.Certificate{
			Subject: pkix.Name{CommonName: "Langbiang hub"}, NotAfter: a.cert.NotAfter, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}, &key.PublicKey)
		if err != nil {
			return nil, err
		}
		a.client = &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	return &tls.Config{MinVersion: tls.VersionTLS13, ServerName: enrol.ServerName, RootCAs: roots, Certificates: []tls.Certificate{*a.client}}, nil
}

// own reports whether the certificate is the one of [Authority.Own], of this run.
func (a *Authority) own(c *x509.Certificate) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.client != nil && a.client.Leaf.Equal(c)
}
