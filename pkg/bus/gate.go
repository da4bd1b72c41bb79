package bus

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/hex"
	"net"
	"strings"
	"sync"

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
	ID             string // MQTT client id; a second connection with it ends the first
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
	server *server.Server // set before it starts

	// Held for reading from the question to the authenticator until the server knows
	// the answer, so that whoever was let in before a disconnect is found by it.
	admitting sync.RWMutex
}

// edgeUser begins the names of connections that are bound to one edge.
const edgeUser = "edge:"

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
	if g.auth == nil {
		c.RegisterUser(&server.User{Username: o.Username, Permissions: permissions("")})
		return true
	}
	g.admitting.RLock()
	defer g.admitting.RUnlock()
	edge, ok := g.auth.Authenticate(Client{
		ID: g.clientID(c.GetID()), User: o.Username, Password: o.Password, TLS: c.GetTLSConnectionState(), Remote: c.RemoteAddress(),
	})
	if !ok || edge != "" && !ValidEdge(edge) {
		return false
	}
	name := o.Username
	if edge != "" {
		name = edgeUser + edge // by which the server finds the connection again
	}
	c.RegisterUser(&server.User{Username: name, Permissions: permissions(edge)})
	return true
}

// speakerPassword is made of the hub's secret, and does not give it away.
func speakerPassword(secret string) string {
	sum := sha256.Sum256([]byte(speakerUser + secret))
	return hex.EncodeToString(sum[:])
}

// clientID returns the MQTT client id of a connection, which the server does not show
// to the check itself.
func (g *gate) clientID(conn uint64) string {
	z, err := g.server.Connz(&server.ConnzOptions{CID: conn})
	if err != nil || len(z.Conns) != 1 {
		return ""
	}
	return z.Conns[0].MQTTClient
}

// disconnect ends the connections of an edge and returns their number.
func (g *gate) disconnect(edge string) int {
	g.admitting.Lock() // whoever comes after asks the authenticator anew
	z, err := g.server.Connz(&server.ConnzOptions{Username: true, User: edgeUser + edge, Limit: maxOfOneEdge})
	g.admitting.Unlock()
	if err != nil {
		return 0
	}
	n := 0
	for _, c := range z.Conns {
		if g.server.DisconnectClientByID(c.Cid) == nil {
			n++
		}
	}
	return n
}

// maxOfOneEdge bounds the connections of one edge that are ended at once.
const maxOfOneEdge = 1000

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
	for _, k := range []string{KindAck, KindConfig, KindAsk, KindState} {
		p.Subscribe.Allow = append(p.Subscribe.Allow, subjectPrefix+edge+"."+k)
	}
	if anybody {
		p.Subscribe.Allow = append(p.Subscribe.Allow, alertSubjects, strings.TrimSuffix(alertSubjects, ".>")) // MQTT's # is the level above, too
	}
	return p
}
