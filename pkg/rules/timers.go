package rules

// timer says that something may happen to a machine by itself when the watermark
// reaches at. An entry counts only while the machine still names its time
// (machine.queued): what is called off leaves its entry behind until then.
type timer struct {
	at     int64
	series uint32
	slot   uint16
}

// timers is a binary heap, earliest first; equal times by series and rule, so
// that the order is the same in every replay.
type timers []timer

func (h timers) less(i, j int) bool {
	a, b := &h[i], &h[j]
	if a.at != b.at {
		return a.at < b.at
	}
	return a.series < b.series || a.series == b.series && a.slot < b.slot
}

func (h *timers) push(t timer) {
	*h = append(*h, t)
	s := *h
	for i := len(s) - 1; i > 0; {
		up := (i - 1) / 2
		if !s.less(i, up) {
			return
		}
		s[i], s[up] = s[up], s[i]
		i = up
	}
}

// pop removes the earliest.
func (h *timers) pop() timer {
	s := *h
	top, n := s[0], len(s)-1
	s[0] = s[n]
	s = s[:n]
	*h = s
	for i := 0; ; {
		c := 2*i + 1
		if c >= n {
			return top
		}
		if c+1 < n && s.less(c+1, c) {
			c++
		}
		if !s.less(c, i) {
			return top
		}
		s[i], s[c] = s[c], s[i]
		i = c
	}
}
