package ledger

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/langbiang/langbiang/pkg/alert"
)

func TestACopyTakenWhileTheLedgerIsWrittenIsALedger(t *testing.T) {
	l, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := l.Append(step("before", alert.Raised, 1, 1, alert.Warning)); err != nil {
		t.Fatal(err)
	}
	if err := l.Checkpoint([]Checkpoint{{Edge: "e", Position: []byte("1")}}); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := byte(2); ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if err := l.Checkpoint([]Checkpoint{{Edge: "e", Position: []byte{i}}}); err != nil {
				t.Error(err)
				return
			}
		}
	})
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, FileName))
	if err != nil {
		t.Fatal(err)
	}
	last, err := l.Backup(f)
	close(stop)
	wg.Wait()
	if err != nil || last != 1 {
		t.Fatalf("last entry %d, %v", last, err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	copied, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if c, ok, err := copied.Load("e"); err != nil || !ok || len(c.Position) != 1 {
		t.Errorf("%+v %v %v", c, ok, err)
	}
	if _, ok, err := copied.Alert("before"); err != nil || !ok {
		t.Errorf("the alert is not in the copy: %v", err)
	}
	if err := copied.Close(); err != nil {
		t.Fatal(err)
	}
}
