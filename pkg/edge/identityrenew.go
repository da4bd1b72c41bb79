package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/langbiang/langbiang/pkg/identity/enrol"
)

// hubTLS returns how the agent connects to a hub that it was enrolled at; nil when it
// was not, and then mqtts:// trusts what this machine trusts.
func (a *Agent) hubTLS() (*tls.Config, error) {
	cfg := &a.plan.Config
	if !strings.HasPrefix(cfg.Hub.URL, "mqtts://") && !strings.HasPrefix(cfg.Hub.URL, "ssl://") {
		return nil, nil //nolint:nilnil // plain text
	}
	id, err := identityDir(cfg.DataDir).Open()
	if errors.Is(err, enrol.ErrNone) {
		a.logger.Warn("this gateway is not enrolled: a Langbiang hub will not let it in", "try", "langbiang-edge enroll HUB TOKEN")
		return nil, nil //nolint:nilnil // another broker may
	}
	if err != nil {
		return nil, err
	}
	if id.Edge() != cfg.Edge.ID {
		return nil, fmt.Errorf("edge.id is %q, and this gateway was enrolled as %q; the hub lets it in under that name only: set edge.id, or enrol it anew", cfg.Edge.ID, id.Edge())
	}
	a.identity = id
	return id.TLS(a.trustedTime), nil
}

// trustedTime is log time as certificates are checked by it.
func (a *Agent) trustedTime() (time.Time, bool) {
	t := a.clock.Now()
	return time.UnixMilli(t.Ms), t.Trusted
}

// How often the certificate is looked at, and tried to renew when that is due. The
// first is short: a gateway may be on for an hour a day.
const (
	renewFirst = time.Minute
	renewEvery = 6 * time.Hour
	renewAgain = time.Hour
)

// keepIdentity renews the certificate until ctx ends.
func (a *Agent) keepIdentity(ctx context.Context) error {
	wait := renewFirst
	for {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		wait = renewEvery
		now, trusted := a.trustedTime()
		if !trusted || !a.identity.Due(now) {
			continue
		}
		if err := a.identity.Renew(ctx, a.version, a.trustedTime); err != nil {
			wait = renewAgain
			a.logger.Warn("certificate not renewed yet, tried again in an hour", "until", a.identity.NotAfter(), "err", err)
			continue
		}
		a.logger.Info("certificate renewed", "until", a.identity.NotAfter())
	}
}
