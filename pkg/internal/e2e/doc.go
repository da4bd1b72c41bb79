// Package e2e holds the tests that run the whole line as its users do: the two
// programs and the simulated field as processes, killed in mid-flight, judged by
// what stands in the store, in the alert log and in the edge's own log.
package e2e
