// Package questions lets the hub put questions to an agent that nobody can reach
// otherwise, and carries the answers back: text for people, over the connection
// that the agent has made itself.
//
//	r := questions.NewResponder(questions.ResponderConfig{Tell: tell, Logger: logger}) // on the gateway
//	go r.Run(ctx)               // and give it to the uplink, which is told by it what to send
//
//	a := questions.NewAsker(publish)  // on the hub; a.Take gets every message of topic answer
//	out, err := a.Ask(ctx, "lac-duong-01", questions.Question{Kind: "doctor", For: time.Minute}, show)
//
// # How
//
// A question has an id. The hub publishes it, and again when nothing is heard; the
// agent begins it once. What the agent has to say is cut into pieces, compressed, and
// two of them at most are under way: the same document, with the number of pieces that
// have arrived, asks for the next ones, or for those that were lost. So any message may
// be lost, repeated or overtaken, and an answer goes on after a link was cut. A piece
// is small, goes when no frame waits (see package uplink), and on a link that costs they
// are further apart.
//
// An agent that hears nothing of a question for a while ends it: nobody waits. One that
// was started anew meanwhile says that it does not know the question.
//
// # Bounds
//
// Text and number of the answers, their time and their rate are bounded on both sides,
// since neither can trust the other: an agent by [MaxOpen] and a question every some
// seconds, the hub by [MaxOpenAtEdge] and [MaxOpenAtAll]. What an agent says is shown on
// terminals and pages, so all but printable text is taken out of it.
package questions

import "time"

// Bounds of an answer and of those that are under way.
const (
	// MaxText bounds the text of an answer, in bytes. What is longer is cut, and says so.
	MaxText = 256 << 10
	// MaxFor bounds the time of an answer.
	MaxFor = 10 * time.Minute
	// MaxOpen bounds the questions that an agent answers at a time.
	MaxOpen = 8
	// MaxOpenAtEdge bounds those that the hub puts to an edge at a time, and MaxOpenAtAll
	// those to all of them.
	MaxOpenAtEdge = 4
	MaxOpenAtAll  = 64
)

const (
	window    = 2 // pieces under way
	pieceSize = 4 << 10
	// burst and refill are the questions that an agent takes at once, and the time in
	// which it takes one more.
	burst  = 20
	refill = 3 * time.Second
	// silence is for how long neither side waits for a sign of the other.
	silence = 30 * time.Second
	// forgotten is for how long the agent hears nothing of a question before it ends it:
	// longer than any pause of the hub.
	forgotten = 2 * silence
)
