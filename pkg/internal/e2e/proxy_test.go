package e2e

import (
	"bufio"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// proxy stands between one edge and the hub's bus and is the bad network. It is
// our own and not a general one since it must know where an MQTT packet begins
// and ends: to cut in the middle of one, to lose, repeat and reorder publications
// of QoS 0 as any broker may, and to take down what the edge has ever sent.
type proxy struct {
	ln     net.Listener
	target string
	sent   func(topic string, payload []byte) // every publication of the edge, whatever becomes of it
	wg     sync.WaitGroup

	mu     sync.Mutex
	closed bool
	links  map[*link]struct{}
	trick  trick
	rnd    *rand.Rand
	old    []packet // publications of the edge, for repeating them much later
	counts map[string]int
}

// trick is what a proxy does to the traffic. The zero trick does nothing.
type trick struct {
	down   bool          // no connection stands or is made
	frozen bool          // connections stand, and nothing passes: half-open
	delay  time.Duration // of each packet, in both directions
	rate   int           // bytes per second in each direction; 0: no bound
	mess   bool          // publications are lost, repeated, reordered
	midway bool          // the next large publication is cut in the middle, and the connection with it
}

// link is one connection of the edge and its other half.
type link struct {
	edge, hub net.Conn
	dead      bool // was half-open: nothing passes any more
}

func (l *link) close() {
	_ = l.edge.Close() // both may have been closed by their other end
	_ = l.hub.Close()
}

// packet is an MQTT control packet as it goes over the wire.
type packet struct {
	data    []byte
	topic   string // of a publication
	payload []byte
	due     time.Time
	only    int // forward so many bytes, then close; 0: all
}

func newProxy(t *testing.T, host, target string, seed uint64, sent func(string, []byte)) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{ln: ln, target: target, sent: sent, links: map[*link]struct{}{}, rnd: rand.New(rand.NewPCG(seed, 77)), counts: map[string]int{}}
	p.wg.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

func (p *proxy) addr() string { return p.ln.Addr().String() }

func (p *proxy) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	_ = p.ln.Close()
	p.set(trick{down: true})
	p.wg.Wait()
}

// set changes what the proxy does from now on.
func (p *proxy) set(to trick) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.trick.frozen && !to.frozen {
		for l := range p.links {
			l.dead = true
		}
	}
	p.trick = to
	if to.down {
		p.cutLocked()
	}
}

// cut ends all connections, as a router does that is switched off and on.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cutLocked()
}

func (p *proxy) cutLocked() {
	for l := range p.links {
		l.close()
	}
}

func (p *proxy) accept() {
	for {
		c, err := p.ln.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		refuse := p.trick.down || p.closed
		p.mu.Unlock()
		if refuse {
			_ = c.Close()
			continue
		}
		p.wg.Go(func() { p.serve(c) })
	}
}

func (p *proxy) serve(edge net.Conn) {
	hub, err := net.Dial("tcp", p.target)
	if err != nil {
		_ = edge.Close()
		return
	}
	l := &link{edge: edge, hub: hub}
	p.mu.Lock()
	p.links[l] = struct{}{}
	if p.trick.down || p.closed {
		l.close()
	}
	p.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() { p.flow(l, edge, hub, true) })
	wg.Go(func() { p.flow(l, hub, edge, false) })
	wg.Wait()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// flow forwards one direction, packet by packet.
func (p *proxy) flow(l *link, from, to net.Conn, up bool) {
	defer l.close()
	queue := make(chan packet, 4096)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer l.close()
		for k := range queue {
			if !p.forward(l, to, k) {
				break
			}
		}
		for range queue { // what could not be forwarded is lost
		}
	}()
	r := bufio.NewReader(from)
	var held []packet
	for {
		k, err := readPacket(r)
		if err != nil {
			break
		}
		if up && k.topic != "" {
			p.sent(k.topic, k.payload)
		}
		for _, k := range p.treat(k, &held, up) {
			queue <- k
		}
	}
	close(queue)
	<-done
}

// treat makes of one packet those that are to be forwarded.
func (p *proxy) treat(k packet, held *[]packet, up bool) (out []packet) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k.due = time.Now().Add(p.trick.delay)
	if k.topic == "" || !p.trick.mess {
		out = append(*held, k)
		*held = nil
	} else {
		switch p.rnd.IntN(10) {
		case 0:
			p.counts["lost"]++
		case 1, 2:
			p.counts["repeated"]++
			out = append(out, k, k)
		case 3, 4:
			p.counts["held back"]++
			*held = append(*held, k)
			return nil
		case 5:
			if up && len(p.old) > 0 {
				p.counts["repeated late"]++
				o := p.old[p.rnd.IntN(len(p.old))]
				o.due = k.due
				out = append(out, o)
			}
			out = append(out, k)
		default:
			out = append(out, k)
		}
		p.rnd.Shuffle(len(*held), func(i, j int) { (*held)[i], (*held)[j] = (*held)[j], (*held)[i] })
		out = append(out, *held...) // after the one that came later
		*held = nil
	}
	if up && strings.HasSuffix(k.topic, "/frame") {
		if len(p.old) < 500 {
			p.old = append(p.old, k)
		} else {
			p.old[p.rnd.IntN(len(p.old))] = k
		}
		if p.trick.midway && len(out) > 0 {
			p.trick.midway = false
			p.counts["cut midway"]++
			out[0].only = 1 + p.rnd.IntN(len(out[0].data)-1)
		}
	}
	return out
}

// forward writes a packet when it is due. It reports false when the connection
// is to end.
func (p *proxy) forward(l *link, to net.Conn, k packet) bool {
	if wait := time.Until(k.due); wait > 0 {
		<-time.After(wait)
	}
	p.mu.Lock()
	swallow, rate := l.dead || p.trick.frozen, p.trick.rate
	p.mu.Unlock()
	if swallow {
		return true
	}
	if k.only > 0 {
		_, _ = to.Write(k.data[:k.only]) // it is about to be closed
		return false
	}
	if rate > 0 {
		<-time.After(time.Duration(len(k.data)) * time.Second / time.Duration(rate))
	}
	_, err := to.Write(k.data)
	return err == nil
}

// readPacket reads one control packet of MQTT 3.1.1: a byte, the length of the
// rest as a varint, the rest. A publication of QoS 0 has a topic and a payload.
func readPacket(r *bufio.Reader) (k packet, err error) {
	head, err := r.ReadByte()
	if err != nil {
		return k, err
	}
	k.data = append(k.data, head)
	n := 0
	for shift := 0; ; shift += 7 {
		b, err := r.ReadByte()
		if err != nil {
			return k, err
		}
		k.data = append(k.data, b)
		n |= int(b&0x7F) << shift
		if b < 0x80 {
			break
		}
		if shift > 21 {
			return k, errors.New("a length of more than four bytes")
		}
	}
	at := len(k.data)
	k.data = append(k.data, make([]byte, n)...)
	if _, err := io.ReadFull(r, k.data[at:]); err != nil {
		return k, err
	}
	if body := k.data[at:]; head>>4 == 3 && head&6 == 0 && len(body) >= 2 {
		if n := 2 + int(body[0])<<8 + int(body[1]); n <= len(body) {
			k.topic, k.payload = string(body[2:n]), body[n:]
		}
	}
	return k, nil
}
