package enrol

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// ServerName is the name in the certificates of hubs, and what a gateway asks for
// when it connects, whatever the hub's address is.
const ServerName = "hub.langbiang.internal"

// Token lets one gateway in, once. Its text is one word to paste.
type Token struct {
	Authority [sha256.Size]byte // fingerprint of the hub's authority
	Secret    [16]byte
}

// tokenPrefix names the kind and the version of a token.
const tokenPrefix = "lbe1."

// ErrToken says that a text is no token.
var ErrToken = errors.New("not an enrolment token")

// NewToken makes a token with a random secret.
func NewToken(authority [sha256.Size]byte) Token {
	t := Token{Authority: authority}
	_, _ = rand.Read(t.Secret[:]) // never fails, says its documentation
	return t
}

// String is the text that an operator hands over.
func (t Token) String() string {
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(append(bytes.Clone(t.Authority[:]), t.Secret[:]...))
}

// ParseToken reads the text of a token. It fails with [ErrToken].
func ParseToken(text string) (t Token, err error) {
	rest, ok := strings.CutPrefix(strings.TrimSpace(text), tokenPrefix)
	if !ok {
		return t, fmt.Errorf("%w: it begins with %s", ErrToken, tokenPrefix)
	}
	b, err := base64.RawURLEncoding.DecodeString(rest)
	if err != nil || len(b) != len(t.Authority)+len(t.Secret) {
		return t, fmt.Errorf("%w: it has been cut or changed; copy the whole line anew", ErrToken)
	}
	copy(t.Authority[:], b)
	copy(t.Secret[:], b[len(t.Authority):])
	return t, nil
}

// Fingerprint is the SHA-256 of a certificate.
func Fingerprint(der []byte) [sha256.Size]byte { return sha256.Sum256(der) }

// Paths of the hub.
const (
	Path      = "/api/v1/enrol"
	RenewPath = "/api/v1/enrol/renew"
)

// Request asks for a certificate.
type Request struct {
	Token   string `json:"token,omitempty"` // not when the connection shows a certificate
	CSR     []byte `json:"csr"`             // PKCS #10, DER
	Version string `json:"version,omitempty"`
}

// Answer is what an enrolled gateway gets.
type Answer struct {
	Edge        string `json:"edge"`
	Site        string `json:"site,omitempty"`
	Certificate []byte `json:"certificate"` // DER
	MQTT        string `json:"mqtt"`        // port, or host:port when it is another host than this one
	Now         int64  `json:"now"`         // the hub's clock, ms since the Unix epoch
}
