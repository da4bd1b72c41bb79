package uplink

import (
	"math/rand/v2"
	"time"
)

// The pauses before a connection is tried again.
const (
	leastPause  = 250 * time.Millisecond
	firstSpread = 5 * time.Second
)

// backoff spreads the attempts of thousands of edges that lost their hub at the same
// moment: every pause is drawn from the whole of a span that doubles ("full jitter"),
// and the first span is wide already, since what breaks for all at once is the hub, and
// each connection costs it a TLS handshake.
type backoff struct {
	most time.Duration
	span time.Duration
}

func newBackoff(most time.Duration) backoff {
	return backoff{most: most, span: min(firstSpread, most)}
}

// pause returns how long to wait before the next attempt.
func (b *backoff) pause(rng *rand.Rand) time.Duration {
	d := min(leastPause, b.most) + time.Duration(rng.Int64N(int64(b.span)+1))
	b.span = min(2*b.span, b.most)
	return d
}
