package bus

import "strings"

// The kinds of message, the last part of a topic.
const (
	KindFrame       = "frame"
	KindHello       = "hello"
	KindSnapshot    = "snapshot"
	KindState       = "state"
	KindConfigState = "config-state"
	KindAck         = "ack"
	KindConfig      = "config"
	KindAsk         = "ask"
	KindAnswer      = "answer"
)

// TopicPrefix begins every topic.
const TopicPrefix = "langbiang/v1/"

const subjectPrefix = "langbiang.v1."

// maxEdgeLen is the longest edge id, as long as a DNS label.
const maxEdgeLen = 63

// kindNames are the kinds that edges publish; kindNone stands for any other.
var kindNames = [...]string{KindFrame, KindHello, KindSnapshot, KindState, KindConfigState, KindAnswer}

const kindNone = -1

// ValidEdge reports whether the id can name an edge: 1 to 63 of a-z, 0-9 and -.
func ValidEdge(edge string) bool {
	if edge == "" || len(edge) > maxEdgeLen {
		return false
	}
	for i := range len(edge) {
		c := edge[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// parseSubject splits langbiang.v1.EDGE.KIND. A kind that edges do not publish
// comes back as kindNone; ok is false when the subject names no edge.
func parseSubject(subject string) (edge string, kind int, ok bool) {
	rest, found := strings.CutPrefix(subject, subjectPrefix)
	if !found {
		return "", kindNone, false
	}
	edge, name, found := strings.Cut(rest, ".")
	if !found || !ValidEdge(edge) {
		return "", kindNone, false
	}
	for i, k := range kindNames {
		if name == k {
			return edge, i, true
		}
	}
	return edge, kindNone, true
}
