package deliver

import (
	"context"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/alert/feed"
)

// order is what a person wants of a target that does not go on.
type order struct {
	skip     bool
	sequence uint64 // of the entry to skip
	who, why string
	done     chan error
}

// refuseOrder answers an order that has nothing to be about.
func (t *target) refuseOrder() {
	if o := t.takeOrder(); o != nil {
		o.done <- &alert.Refusal{Reason: alert.NotNow, What: t.name + " is not held and does not wait", Do: "nothing is left to do"}
	}
}

func (t *target) takeOrder() *order {
	t.mu.Lock()
	defer t.mu.Unlock()
	o := t.order
	t.order = nil
	return o
}

// stopped answers whoever still waits.
func (t *target) stopped() {
	t.set(func(s *feed.Delivery) { s.State = feed.Stopped })
	if o := t.takeOrder(); o != nil {
		o.done <- errStopped
	}
}

var errStopped = &alert.Refusal{Reason: alert.NotNow, What: "the hub is stopping", Do: "try again once it runs"}

// ask hands an order to the goroutine of the target and waits for what comes of it.
func (t *target) ask(ctx context.Context, o *order) error {
	o.done = make(chan error, 1)
	t.mu.Lock()
	switch {
	case t.status.State == feed.Stopped:
		t.mu.Unlock()
		return errStopped
	case t.order != nil:
		t.mu.Unlock()
		return &alert.Refusal{Reason: alert.NotNow, What: "somebody else is at it", Do: "look again in a moment"}
	}
	t.order = o
	t.mu.Unlock()
	select {
	case t.wake <- struct{}{}:
	default:
	}
	select {
	case err := <-o.done:
		return err
	case <-ctx.Done():
		t.mu.Lock()
		if t.order == o {
			t.order = nil
		}
		t.mu.Unlock()
		return ctx.Err()
	}
}
