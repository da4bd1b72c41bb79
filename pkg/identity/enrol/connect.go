package enrol

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// Clock says what time it is, and whether that can be relied on.
type Clock func() (now time.Time, trusted bool)

// ErrHub says that whoever answered is not the hub of this authority.
var ErrHub = errors.New("this is not the hub that was asked for")

// verify checks a hub's certificate against its authority.
func verify(cs *tls.ConnectionState, authority *x509.Certificate, clock Clock) error {
	if len(cs.PeerCertificates) == 0 {
		return fmt.Errorf("%w: it shows no certificate", ErrHub)
	}
	leaf := cs.PeerCertificates[0]
	at := leaf.NotBefore
	if clock != nil {
		if now, trusted := clock(); trusted {
			at = now
		}
	}
	roots := x509.NewCertPool()
	roots.AddCert(authority)
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, DNSName: ServerName, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrHub, err)
	}
	return nil
}

// pinned is a connection to whoever the check accepts.
func pinned(check func(tls.ConnectionState) error) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, ServerName: ServerName,
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection does it: one authority, any address, any clock
		VerifyConnection:   check,
	}
}

// first trusts the authority of a fingerprint. It keeps what it was shown.
func first(t Token, got **x509.Certificate) *tls.Config {
	return pinned(func(cs tls.ConnectionState) error {
		for _, c := range cs.PeerCertificates {
			if c.IsCA && Fingerprint(c.Raw) == t.Authority {
				*got = c
				return verify(&cs, c, nil)
			}
		}
		return fmt.Errorf("%w: its authority is another than the token's", ErrHub)
	})
}

// TLS is how an enrolled gateway connects to its hub. The certificate is the one
// that is in force when a connection is made.
func (id *Identity) TLS(clock Clock) *tls.Config {
	c := pinned(func(cs tls.ConnectionState) error { return verify(&cs, id.authority, clock) })
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return id.cert.Load(), nil }
	return c
}
