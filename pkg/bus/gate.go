package bus

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/hex"
	"net"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
)

// hubUser is the name under which the hub connects in process.
const hubUser = "hub"

// speakerUser is the name under which the hub publishes alerts, over the listener
// like any client: only so can messages be retained.
const speakerUser = "hub-alerts"

// alertSubjects are those of alerts: BusTopic/# in the words of the server.
const alertSubjects = "langbiang.alerts.>"

// Client is what is known of a connection that wants in.
type Client struct {
	User, Password string
	TLS            *tls.ConnectionState // nil on a plaintext listener
	Remote         net.Addr             // may be nil
}

// Authenticator decides who a client is. It is called concurrently, before
// anything that the client sends is looked at, and must not block for long.
type Authenticator interface {
	// Authenticate returns the id of the one edge that the client may speak as, or
	// "" when it may speak as any; ok is false when it is refused.
	Authenticate(c Client) (edge string, ok bool)
}

// gate gives every connection its permissions.
type gate struct {
	secret string
	auth   Authenticator
}

// Check implements [server.Authentication].
func (g *gate) Check(c server.ClientAuthentication) bool {
	o := c.GetOpts()
	// No client from outside can pass for the hub: the secret is made anew at every
	// start and never leaves the process.
	if o.Username == hubUser && subtle.ConstantTimeCompare([]byte(o.Password), []byte(g.secret)) == 1 {
		c.RegisterUser(&server.User{Username: hubUser})
		return true
	}
	if o.Username == speakerUser && subtle.ConstantTimeCompare([]byte(o.Password), []byte(speakerPassword(g.secret))) == 1 {
		c.RegisterUser(&server.User{Username: speakerUser, Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Allow: []string{alertSubjects}}, Subscribe: &server.SubjectPermission{Deny: []string{">"}},
		}})
		return true
	}
	edge := ""
	if g.auth != nil {
		var ok bool
		edge, ok = g.auth.Authenticate(Client{User: o.Username, Password: o.Password, TLS: c.GetTLSConnectionState(), Remote: c.RemoteAddress()})
		if !ok || edge != "" && !ValidEdge(edge) {
			return false
		}
	}
	c.RegisterUser(&server.User{Username: o.Username, Permissions: permissions(edge)})
	return true
}

// speakerPassword is made of the hub's secret, and does not give it away.
func speakerPassword(secret string) string {
	sum := sha256.Sum256([]byte(speakerUser + secret))
	return hex.EncodeToString(sum[:])
}

// permissions lets a client speak and hear as the edge, or as any edge when it
// is ""; then it may hear alerts, too.
func permissions(edge string) *server.Permissions {
	anybody := edge == ""
	if anybody {
		edge = "*"
	}
	p := &server.Permissions{Publish: &server.SubjectPermission{}, Subscribe: &server.SubjectPermission{}}
	for _, k := range kindNames {
		p.Publish.Allow = append(p.Publish.Allow, subjectPrefix+edge+"."+k)
	}
	for _, k := range []string{KindAck, KindConfig, KindState} {
		p.Subscribe.Allow = append(p.Subscribe.Allow, subjectPrefix+edge+"."+k)
	}
	if anybody {
		p.Subscribe.Allow = append(p.Subscribe.Allow, alertSubjects, strings.TrimSuffix(alertSubjects, ".>")) // MQTT's # is the level above, too
	}
	return p
}
