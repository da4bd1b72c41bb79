package uplink

import (
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/wire"
)

// waitingAnswers are so many messages of a size.
type waitingAnswers struct{ n, size int }

func (a *waitingAnswers) Ask([]byte)               {}
func (a *waitingAnswers) Changed() <-chan struct{} { return nil }

func (a *waitingAnswers) Next() ([]byte, bool) {
	if a.n == 0 {
		return nil, false
	}
	a.n--
	return make([]byte, a.size), true
}

func TestNoFrameWaitsForAnAnswer(t *testing.T) {
	w := quiet(t, 3)
	answers := &waitingAnswers{size: 4000}
	w.cfg.Answers = answers
	list := w.record()
	for range 20 {
		answers.n = 5
		w.plainFrame()
		w.run(time.Second)
	}
	w.wantHub(23)
	frames := 0
	for i, m := range *list {
		if m.topic != wire.TopicFrame {
			continue
		}
		if i > 0 && (*list)[i-1].at.Equal(m.at) && (*list)[i-1].topic == wire.TopicAnswer {
			t.Fatalf("frame %d went behind an answer", frames)
		}
		frames++
	}
	if n, _ := sum(*list, func(m said) bool { return m.topic == wire.TopicAnswer }); n != 100 || frames < 20 {
		t.Errorf("%d answers and %d frames", n, frames)
	}
}

func TestAnAnswerPassesABacklogAndLeavesItTheLink(t *testing.T) {
	w := quiet(t, 0)
	const rate = 3000
	answers := &waitingAnswers{size: 3000}
	w.cfg.JoinReadings, w.cfg.MaxRate, w.cfg.Answers = 30_000, rate, answers
	w.disconnect()
	w.sensors(20_000)
	list := w.record()
	w.connect()
	w.run(10 * time.Second) // it is greeted and begins
	*list = (*list)[:0]
	begun := w.now
	answers.n = 1000
	w.run(2 * time.Minute)
	took := w.now.Sub(begun).Seconds()
	n, answered := sum(*list, func(m said) bool { return m.topic == wire.TopicAnswer })
	answered += n * overhead
	framed, sent := sum(*list, func(m said) bool { return m.topic == wire.TopicFrame })
	sent += framed * overhead
	t.Logf("of %.0f bytes a second: answers %.0f, frames %.0f", float64(rate), float64(answered)/took, float64(sent)/took)
	if answered < int(rate*took/8) || answered > int(rate*took*0.3) {
		t.Errorf("answers took %d bytes of %.0f", answered, rate*took)
	}
	if float64(sent+answered) > rate*took*1.1 {
		t.Errorf("%.0f bytes a second in all, want %d", float64(sent+answered)/took, rate)
	}
}

func TestAnEdgeWhoseFramesAreRefusedAnswers(t *testing.T) {
	w := quiet(t, 3)
	w.cfg.Answers = &waitingAnswers{n: 1, size: 100}
	w.say(func(a *wire.Ack) { a.Status = wire.StatusFork })
	list := w.record()
	w.run(time.Second)
	if n, _ := sum(*list, func(m said) bool { return m.topic == wire.TopicAnswer }); n != 1 {
		t.Errorf("%d answers", n)
	}
}
