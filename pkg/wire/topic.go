package wire

import "strings"

// TopicPrefix begins every topic between edges and hub.
const TopicPrefix = "langbiang/v1/"

// The last part of a topic. Frame, hello, snapshot, state, config-state and answer are
// published by the edge, ack, config and ask by the hub. State is retained.
const (
	TopicFrame       = "frame" // frames, schemas and gaps, in order
	TopicHello       = "hello"
	TopicSnapshot    = "snapshot"
	TopicState       = "state"
	TopicConfigState = "config-state"
	TopicAck         = "ack"
	TopicConfig      = "config"
	TopicAsk         = "ask"
	TopicAnswer      = "answer"
)

// MaxEdgeID bounds the id of an edge, in bytes.
const MaxEdgeID = 63

// Topic returns for example "langbiang/v1/lac-duong-01/frame".
func Topic(edge, kind string) string { return TopicPrefix + edge + "/" + kind }

// FrameTopic is where an edge publishes frames, schemas and gaps.
func FrameTopic(edge string) string { return Topic(edge, TopicFrame) }

// HelloTopic is where an edge publishes [Hello].
func HelloTopic(edge string) string { return Topic(edge, TopicHello) }

// SnapshotTopic is where an edge publishes [Snapshot].
func SnapshotTopic(edge string) string { return Topic(edge, TopicSnapshot) }

// StateTopic is where an edge publishes [State], retained, and its last will.
func StateTopic(edge string) string { return Topic(edge, TopicState) }

// AckTopic is where the hub publishes [Ack].
func AckTopic(edge string) string { return Topic(edge, TopicAck) }

// ConfigTopic is where the hub publishes [Bands] and [Config].
func ConfigTopic(edge string) string { return Topic(edge, TopicConfig) }

// AskTopic is where the hub publishes [Ask].
func AskTopic(edge string) string { return Topic(edge, TopicAsk) }

// AnswerTopic is where an edge publishes [Answer].
func AnswerTopic(edge string) string { return Topic(edge, TopicAnswer) }

// ParseTopic splits a topic into the edge's id and the kind. ok is false when
// it is none of ours or the id is not valid.
func ParseTopic(topic string) (edge, kind string, ok bool) {
	rest, found := strings.CutPrefix(topic, TopicPrefix)
	if !found {
		return "", "", false
	}
	edge, kind, found = strings.Cut(rest, "/")
	if !found || !ValidEdge(edge) {
		return "", "", false
	}
	switch kind {
	case TopicFrame, TopicHello, TopicSnapshot, TopicState, TopicConfigState, TopicAck, TopicConfig, TopicAsk, TopicAnswer:
		return edge, kind, true
	}
	return "", "", false
}

// ValidEdge reports whether id may name an edge: 1 to 63 of a-z, 0-9 and -.
func ValidEdge(id string) bool {
	if id == "" || len(id) > MaxEdgeID {
		return false
	}
	for i := range len(id) {
		c := id[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}
