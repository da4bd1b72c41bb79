package bus

import (
	"testing"

	"github.com/langbiang/langbiang/pkg/wire"
)

func TestTheLargestMessageIsUnderHalfOfWhatTheBusTakes(t *testing.T) {
	if 2*wire.MaxFrame > defaultMaxPayload {
		t.Errorf("messages of %d bytes, a bus that takes %d", wire.MaxFrame, defaultMaxPayload)
	}
}
