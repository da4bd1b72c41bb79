package hub

import (
	"crypto/tls"
	"os"
	"sync"
	"time"
)

// certCheck is how often the files are looked at.
const certCheck = 30 * time.Second

type certState struct {
	mu      sync.Mutex
	current *tls.Certificate
	looked  time.Time
	changed time.Time // of the file that current was read from
}

// get implements tls.Config.GetCertificate. A pair that cannot be read leaves the one
// before in force.
func (f *certFiles) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	s := &f.state
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.current != nil && now.Sub(s.looked) < certCheck {
		return s.current, nil
	}
	s.looked = now
	st, err := os.Stat(f.cert)
	if err == nil && s.current != nil && st.ModTime().Equal(s.changed) {
		return s.current, nil
	}
	var pair tls.Certificate
	if err == nil {
		pair, err = tls.LoadX509KeyPair(f.cert, f.key)
	}
	switch {
	case err == nil:
		s.current, s.changed = &pair, st.ModTime()
	case s.current == nil:
		return nil, err
	default:
		f.logger.Error("http.cert cannot be read anew; the certificate before stays in force", "err", err)
	}
	return s.current, nil
}
