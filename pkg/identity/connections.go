package identity

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
)

// ErrClientID says that an MQTT client id is not one of the edge.
var ErrClientID = errors.New("the client id is not one of this edge")

// TLS is how the bus serves: gateways with certificates that hold, and nobody else.
// A connection that is resumed is checked as one that is new. Refused is told why and
// from where; it must not block.
func (e *Edges) TLS(refused func(remote net.Addr, edge string, err error)) *tls.Config {
	base := &tls.Config{
		MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAnyClientCert,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return e.authority.Server() },
	}
	check := func(remote net.Addr) func(tls.ConnectionState) error {
		return func(cs tls.ConnectionState) error {
			if len(cs.PeerCertificates) > 0 && e.authority.own(cs.PeerCertificates[0]) {
				return nil
			}
			edge, err := e.peer(&cs)
			if err != nil && refused != nil {
				refused(remote, edge, err)
			}
			return err
		}
	}
	base.VerifyConnection = check(nil)
	c := base.Clone()
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		// Only to know the address. The keys of session tickets must be base's, or no
		// connection could be resumed.
		each := base.Clone()
		each.VerifyConnection = check(hello.Conn.RemoteAddr())
		return each, nil
	}
	return c
}

func (e *Edges) peer(cs *tls.ConnectionState) (string, error) {
	if len(cs.PeerCertificates) == 0 {
		return "", fmt.Errorf("%w: there is none", ErrForged)
	}
	return e.Check(cs.PeerCertificates[0])
}

// Admit says which edge an MQTT connection is, by its certificate, and that its client
// id is one of that edge's: its id, a hyphen and eight hexadecimal digits, as agents
// choose it. With another's id it could end the other's connection.
func (e *Edges) Admit(cs *tls.ConnectionState, clientID string) (edge string, err error) {
	if cs == nil {
		return "", fmt.Errorf("%w: the connection is not encrypted", ErrForged)
	}
	if edge, err = e.peer(cs); err != nil {
		return edge, err
	}
	rest, ok := strings.CutPrefix(clientID, edge+"-")
	if !ok || len(rest) != 8 || strings.Trim(rest, "0123456789abcdef") != "" {
		return edge, fmt.Errorf("%w: %.80q", ErrClientID, clientID)
	}
	return edge, nil
}
