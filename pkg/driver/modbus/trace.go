package modbus

import (
	"fmt"
	"time"

	"github.com/langbiang/langbiang/pkg/driver"
)

// Trace implements [driver.Tracer].
func (b *bus) Trace(show func(*driver.Exchange)) (stop func()) {
	w, ok := b.line.(*wireLine)
	if !ok {
		return func() {}
	}
	w.link.watch.Store(&show)
	return func() { w.link.watch.CompareAndSwap(&show, nil) }
}

// Send implements goburrow's Transporter. The answer is good until the next
// Send. Errors are errSilence, *FrameError, *lostError, errStopped, errClosed.
func (l *link) Send(req []byte) ([]byte, error) {
	show := l.watch.Load()
	if show == nil {
		return l.exchange(req)
	}
	start := time.Now()
	answer, err := l.exchange(req)
	x := &driver.Exchange{At: start, Took: time.Since(start), Sent: req, Got: answer, Meaning: l.meaning(answer, err)}
	if err != nil {
		x.Got = l.buf[l.head:l.tail]
	}
	(*show)(x)
	return answer, err
}

// meaning says in a few words what was asked and what came of it.
func (l *link) meaning(answer []byte, err error) string {
	asked := fmt.Sprintf("unit %d, %s", l.about.unit, l.about)
	if l.writes {
		asked = "write " + asked
	}
	if err != nil {
		return asked + ": " + plain(err)
	}
	pdu, err := l.framing.Decode(answer)
	switch {
	case err != nil:
		return asked + ": " + err.Error()
	case pdu.FunctionCode&0x80 != 0 && len(pdu.Data) > 0:
		return fmt.Sprintf("%s: refused, %s (exception %d)", asked, exceptionName(pdu.Data[0]), pdu.Data[0])
	}
	return asked + ": ok"
}
