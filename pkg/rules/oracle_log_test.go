package rules

import (
	"fmt"
	"math/rand/v2"

	"github.com/langbiang/langbiang/pkg/alert"
)

func randomLog(rnd *rand.Rand) *oracleLog {
	log := &oracleLog{}
	for range 1 + rnd.IntN(3) {
		lag := int64(0)
		if rnd.IntN(3) == 0 {
			lag = rnd.Int64N(40)
		}
		log.lags = append(log.lags, lag)
	}
	begin := int64(1000)
	for range 1 + rnd.IntN(2) {
		era := randomEra(rnd, log.lags, begin)
		log.eras = append(log.eras, era)
		begin = max(100, era.to+rnd.Int64N(2000)-1000)
	}
	log.sets = randomSets(rnd, log)
	if rnd.IntN(3) > 0 {
		log.window = 1 + rnd.Int64N(100)
	}
	return log
}

func randomEra(rnd *rand.Rand, lags []int64, begin int64) logEra {
	era := logEra{from: begin, to: begin + 50 + rnd.Int64N(500)}
	for range rnd.IntN(3) {
		from := era.from + rnd.Int64N(era.to-era.from)
		to := min(era.to-1, from+1+rnd.Int64N(40))
		if n := len(era.stops); to > from && (n == 0 || era.stops[n-1][1] <= from) {
			era.stops = append(era.stops, [2]int64{from, to})
		}
	}
	for s, lag := range lags {
		v, newest := 50.0, int64(0)
		step := 1 + rnd.Int64N(20)
		for t := era.from; t <= era.to; t += 1 + rnd.Int64N(step) {
			v += float64(rnd.IntN(41) - 20)
			v = max(0, min(v, 100))
			r := logReading{series: s, t: t, arrival: t, v: v, bad: rnd.IntN(10) == 0}
			if lag > 0 {
				r.arrival = max(newest, t+rnd.Int64N(lag+1))
			}
			for _, stop := range era.stops { // the edge does not look then
				if r.arrival > stop[0] && r.arrival < stop[1] {
					r.arrival = stop[1]
				}
			}
			if r.arrival > t+lag || r.arrival > era.to {
				continue
			}
			newest = r.arrival
			era.readings = append(era.readings, r)
		}
	}
	return era
}

func randomSets(rnd *rand.Rand, log *oracleLog) []logSet {
	set := logSet{from: Always}
	for i := range 1 + rnd.IntN(3) {
		set.rules = append(set.rules, randomRule(rnd, i, len(log.lags)))
	}
	sets := []logSet{set}
	for range rnd.IntN(3) {
		era := &log.eras[rnd.IntN(len(log.eras))]
		next := logSet{from: era.from + rnd.Int64N(era.to-era.from+20)}
		if last := sets[len(sets)-1]; next.from <= last.from {
			continue
		} else {
			for _, r := range last.rules {
				switch rnd.IntN(5) {
				case 0: // gone
				case 1:
					next.rules = append(next.rules, randomRule(rnd, int(r.id[1]-'0'), len(log.lags)))
				case 2:
					r.only = rnd.IntN(len(log.lags)+1) - 1
					next.rules = append(next.rules, r)
				default:
					next.rules = append(next.rules, r)
				}
			}
			sets = append(sets, next)
		}
	}
	return sets
}

func randomRule(rnd *rand.Rand, n, series int) logRule {
	r := logRule{id: fmt.Sprintf("r%d", n), below: rnd.IntN(3) == 0, only: rnd.IntN(series+2) - 2}
	r.only = max(r.only, -1)
	delay := func() int64 {
		if rnd.IntN(3) == 0 {
			return 0
		}
		return rnd.Int64N(60)
	}
	limit, clearAt := 20.0+float64(rnd.IntN(40)), 0.0
	clearAt = limit - float64(rnd.IntN(15))
	for s := alert.Info; s <= alert.Emergency; s++ {
		if rnd.IntN(2) == 0 && (s < alert.Emergency || len(r.levels) > 0) {
			continue
		}
		l := level{s, limit, clearAt, delay(), delay()}
		if r.below {
			l.limit, l.clear = 100-l.limit, 100-l.clear
		}
		r.levels = append(r.levels, l)
		limit += float64(rnd.IntN(15))
		clearAt = min(limit, clearAt+float64(rnd.IntN(15)))
	}
	return r
}
