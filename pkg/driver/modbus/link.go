package modbus

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/langbiang/langbiang/pkg/driver"
)

// stream is what a link talks over: a TCP connection or a serial port.
type stream interface {
	io.ReadWriteCloser
	SetDeadline(t time.Time) error
	SetReadDeadline(t time.Time) error
}

var (
	errSilence = errors.New("modbus: no answer")
	errStopped = errors.New("modbus: stopped")
	errClosed  = errors.New("modbus: the line is not open")
)

// lostError says that the connection broke; the link is closed then.
type lostError struct{ err error }

func (e *lostError) Error() string { return "modbus: the connection broke: " + e.err.Error() }
func (e *lostError) Unwrap() error { return e.err }

// link is the Transporter under goburrow's client: it sends one request and
// returns the answer to it, or an error within the timeout. It belongs to one
// goroutine, but for interrupt.
type link struct {
	framing framing
	dial    func(ctx context.Context) (stream, error)
	// flush throws away what came unasked. It is nil where answers name their
	// question and need no clean start.
	flush func(stream) error
	// gap is the silence within an answer after which it will not go on.
	gap time.Duration
	// timeout bounds the next Send, writing and reading together.
	timeout time.Duration
	stale   int  // answers passed over, since the link was made
	proven  bool // an answer came since the stream was opened

	watch  atomic.Pointer[func(*driver.Exchange)] // who looks on; nil: nobody
	about  question                               // what the next Send is about
	writes bool                                   // it writes

	buf  [2 * maxADU]byte
	head int // buf[head:tail] has been received and not been looked at
	tail int

	mu      sync.Mutex
	conn    stream
	stopped bool
}

// open makes the connection unless it stands.
func (l *link) open(ctx context.Context) error {
	if l.conn != nil {
		return nil
	}
	conn, err := l.dial(ctx)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		_ = conn.Close()
		return errStopped
	}
	l.conn, l.head, l.tail, l.proven = conn, 0, 0, false
	return nil
}

// close ends the connection; the next open makes a new one.
func (l *link) close() {
	l.mu.Lock()
	conn := l.conn
	l.conn = nil
	l.mu.Unlock()
	if conn != nil {
		_ = conn.Close() // what could be said of a connection that is given up
	}
}

// interrupt makes the Send that is under way, and every later one, return soon
// with errStopped. It may be called from any goroutine.
func (l *link) interrupt() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	if l.conn != nil {
		_ = l.conn.SetDeadline(time.Unix(1, 0))
	}
}

// arm sets a deadline unless the link was interrupted.
func (l *link) arm(set func(time.Time) error, t time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		return errStopped
	}
	return set(t)
}

// exchange is Send without an onlooker.
func (l *link) exchange(req []byte) ([]byte, error) {
	if l.conn == nil {
		return nil, errClosed
	}
	deadline := time.Now().Add(l.timeout)
	if err := l.ask(req, deadline); err != nil {
		return nil, l.failed(err)
	}
	stale, hurried := 0, false
	for {
		answer, passed, drop, err := l.framing.find(req, l.buf[l.head:l.tail])
		l.head += drop
		stale, l.stale = stale+passed, l.stale+passed
		switch {
		case err != nil:
			l.close()
			return nil, err
		case answer != nil:
			l.proven = true
			return answer, nil
		case l.tail == len(l.buf) && l.head == 0:
			l.close()
			return nil, frameErrorf(FaultGarbage, "is no Modbus frame: %d bytes, %s", l.tail, hexHead(l.buf[:l.tail]))
		}
		l.compact()
		if l.gap > 0 && (hurried || l.framing.begun(req, l.buf[l.head:l.tail])) {
			hurried = true
			until := time.Now().Add(l.gap)
			if until.After(deadline) {
				until = deadline
			}
			if err := l.arm(l.conn.SetReadDeadline, until); err != nil {
				return nil, l.failed(err)
			}
		}
		n, err := l.conn.Read(l.buf[l.tail:])
		l.tail += n
		if n > 0 {
			continue
		}
		if err == nil {
			err = io.ErrNoProgress
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, l.gaveUp(req, stale)
		}
		return nil, l.failed(err)
	}
}

// ask clears the way, and writes the request.
func (l *link) ask(req []byte, deadline time.Time) error {
	l.compact()
	if err := l.arm(l.conn.SetDeadline, deadline); err != nil {
		return err
	}
	if l.flush != nil {
		l.head, l.tail = 0, 0
		if err := l.flush(l.conn); err != nil {
			return err
		}
	}
	_, err := l.conn.Write(req)
	return err
}

func (l *link) compact() {
	if l.head > 0 {
		l.tail = copy(l.buf[:], l.buf[l.head:l.tail])
		l.head = 0
	}
}

// gaveUp says what to make of a wait that ended without an answer.
func (l *link) gaveUp(req []byte, stale int) error {
	l.mu.Lock()
	stopped := l.stopped
	l.mu.Unlock()
	if stopped {
		return errStopped
	}
	err := l.framing.diagnose(req, l.buf[l.head:l.tail], stale)
	if err == nil {
		return errSilence
	}
	if l.flush == nil {
		l.close() // in the middle of a frame, with nothing to find the next one by
	}
	return err
}

// failed closes the link after an error of the stream.
func (l *link) failed(err error) error {
	l.mu.Lock()
	stopped := l.stopped
	l.mu.Unlock()
	if stopped || errors.Is(err, errStopped) {
		return errStopped
	}
	l.close()
	return &lostError{err}
}
