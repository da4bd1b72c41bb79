//go:build interop

package interop

import (
	"os/exec"
	"testing"
)

// The alert rules that are shipped are read by Prometheus' own tool, and fire there.
func TestPromtoolTakesTheAlertRules(t *testing.T) {
	for _, args := range [][]string{
		{"check", "rules", "../../configs/monitoring/alerts.yaml"},
		{"test", "rules", "testdata/alerts.test.yaml"},
	} {
		if out, err := exec.CommandContext(t.Context(), "promtool", args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
}
