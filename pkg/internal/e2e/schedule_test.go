package e2e

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// A schedule is a list of steps. A step does one thing to a program, a disk or a
// clock while one thing is done to a link. It depends on the seed alone, so that
// the seed of a failure repeats it; what falls between two packets still differs
// from run to run.

// What a step may do to the link of an edge.
const (
	linkFine   = "link fine"
	linkDown   = "link down"
	linkCut    = "link cut"
	linkMidway = "cut in the middle of a message"
	linkFrozen = "link half-open"
	linkSlow   = "delay up to 2 s"
	linkNarrow = "narrow link"
	linkMess   = "messages lost, repeated, reordered"
	linkVanish = "packets vanish"                             // in a network namespace; else the link is down
	linkNetem  = "packets delayed, lost, repeated, reordered" // with tc netem; else a slow link
)

var linkFaults = []string{linkFine, linkDown, linkCut, linkMidway, linkFrozen, linkSlow, linkNarrow, linkMess, linkMess, linkVanish, linkNetem}

// What a step may do to the rest.
const (
	doNothing    = "nothing"
	killEdge     = "kill edge"
	killHub      = "kill hub"
	killBoth     = "kill edge and hub"
	killField    = "kill field"
	stopEdge     = "SIGSTOP edge"
	stopHub      = "SIGSTOP hub"
	brokerDown   = "field's broker restarts"
	fullEdge     = "edge's disk full"
	fullHub      = "hub's disk full"
	damageEdge   = "edge's segment damaged"
	damageHub    = "hub's WAL damaged"
	loseMeta     = "edge's small values damaged"
	stepClock    = "clock steps"
	rebootNoTime = "reboot without the time"
	oldImage     = "edge's disk image restored"
	oldHub       = "hub restored from a copy"
)

var faults = []string{
	doNothing, killEdge, killHub, killBoth, killField, stopEdge, stopHub, brokerDown, fullEdge, fullHub,
	damageEdge, damageHub, loseMeta, stepClock, rebootNoTime, oldImage, oldHub,
}

// step is one entry of a schedule.
type step struct {
	edge    int // whose link and disk
	link    string
	fault   string
	before  time.Duration // between the link's trouble and the fault
	hold    time.Duration // how long the fault lasts
	after   time.Duration // between the fault's end and that of the link's trouble
	level   int           // what the field's register holds meanwhile
	delay   time.Duration // for linkSlow
	rate    int           // for linkNarrow, bytes per second
	trouble uint64        // seed of the fault's own choices: which byte, how far
}

func (s *step) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "edge %d: %s, %s", s.edge, s.link, s.fault)
	switch s.link {
	case linkSlow, linkNetem:
		fmt.Fprintf(&b, ", delay %v", s.delay)
	case linkNarrow:
		fmt.Fprintf(&b, ", %d B/s", s.rate)
	}
	fmt.Fprintf(&b, ", %v + %v + %v", s.before, s.hold, s.after)
	return b.String()
}

// plan makes a schedule of n steps for so many edges. Faults come from shuffled
// decks, so that a schedule as long as a deck has each of them.
func plan(seed uint64, n, edges int) []step {
	rnd := rand.New(rand.NewPCG(seed, 5))
	ms := func(from, to int) time.Duration { return time.Duration(from+rnd.IntN(to-from)) * time.Millisecond }
	var links, others []string
	levels := []int{20, 60, 48, 170, 145, 30}
	steps := make([]step, n)
	for i := range steps {
		s := &steps[i]
		s.link, links = deal(rnd, links, linkFaults)
		s.fault, others = deal(rnd, others, faults)
		s.edge = rnd.IntN(edges)
		s.before, s.hold, s.after = ms(100, 900), ms(100, 1200), ms(100, 900)
		s.level = levels[rnd.IntN(len(levels))]
		s.delay, s.rate = ms(50, 2000), 1000+rnd.IntN(10_000)
		s.trouble = rnd.Uint64()
	}
	return steps
}

func deal(rnd *rand.Rand, deck, all []string) (card string, rest []string) {
	if len(deck) == 0 {
		deck = append(deck, all...)
		rnd.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
	}
	return deck[0], deck[1:]
}
