package local

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain lets the test binary be the process that is killed.
func TestMain(m *testing.M) {
	dir, ack := os.Getenv(victimDir), os.Getenv(victimCompacts)
	if dir != "" && ack != "" {
		panic(compactingVictim(dir, ack))
	}
	if dir != "" {
		victim(dir)
		return
	}
	goleak.VerifyTestMain(m)
}
