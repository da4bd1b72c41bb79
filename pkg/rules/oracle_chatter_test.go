package rules

// oracleChatter is what is told of a rule's alerts on one series.
type oracleChatter struct {
	activations        []int64 // all, until what came before no longer counts
	on, instead        bool    // chattering; the alert stands for later ones of the rule
	start, onset, last int64
	peak, limit        float64 // as told
	rawLimit           float64 // as the rule found it last
	level, count       int
}

func (c *oracleChatter) within(t, window int64) (n int) {
	for _, a := range c.activations {
		if a >= t-window {
			n++
		}
	}
	return n
}

// see takes a step of the rule at t and returns the one that is told, "" for none,
// and its level.
func (c *oracleChatter) see(m *oracleRule, kind string, level int, t, window int64, limit, peak float64, reason string) (string, int) {
	if kind == "raised" {
		c.activations = append(c.activations, t)
	}
	c.rawLimit = limit
	if !c.instead {
		c.start, c.onset, c.peak, c.level, c.limit, c.count = m.start, m.onset, peak, level, limit, 0
		if n := c.within(t, window); kind == "raised" && window > 0 && n >= 3 {
			c.on, c.instead, c.count, c.last = true, true, n, t
		}
		return kind, level
	}
	if m.rule.source == ofState || m.badness(peak) > m.badness(c.peak) {
		c.peak = peak
	}
	was := c.level
	if !c.on || level >= c.level {
		c.level, c.limit = level, limit
	}
	switch {
	case kind == "cleared" && (reason != "" || !c.on):
		level = c.level
		*c = oracleChatter{start: c.start, onset: c.onset, peak: c.peak, limit: c.limit, count: c.count}
		return kind, level
	case !c.on:
		return kind, level
	}
	if kind == "raised" {
		c.count++
		c.last = t
	}
	switch {
	case kind == "cleared":
		return "", 0
	case c.level > was:
		return "severity_changed", c.level
	case kind == "raised" && c.count&(c.count-1) == 0:
		return "chattering", c.level
	}
	return "", 0
}

// calm ends the counting at t, and returns what is told.
func (c *oracleChatter) calm(m *oracleRule) (string, int) {
	was := *c
	c.activations = nil
	top := m.top(&m.active)
	switch {
	case !was.on:
		return "", 0
	case top < 0:
		*c = oracleChatter{start: c.start, onset: c.onset, peak: c.peak, limit: c.limit, count: c.count}
		return "cleared", was.level
	}
	c.on, c.level, c.limit = false, top, c.rawLimit
	return "quiet", c.level
}
