package wire

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

// What is wrong with the labels of a schema is said with the label's name.
func TestALabelThatIsRefusedIsNamed(t *testing.T) {
	many := map[string]string{}
	for i := range telemetry.MaxLabels + 1 {
		many[fmt.Sprintf("l%02d", i)] = "x"
	}
	for name, c := range map[string]struct {
		labels map[string]string
		want   string
	}{
		"a long value":     {map[string]string{"spot": "a", "plate": strings.Repeat("x", 257)}, `value of label "plate": a text of 257 bytes, at most 256`},
		"a long name":      {map[string]string{strings.Repeat("n", 129): "x"}, `name of label "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn": a text of 129 bytes, at most 128`},
		"bytes":            {map[string]string{"spot": "\xff"}, `value of label "spot": a text is not UTF-8`},
		"many":             {many, `17 labels, at most 16; one of them is "l16"`},
		"one of the hub's": {map[string]string{"site": "1"}, "label site is the hub's"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &telemetry.Schema{Devices: []telemetry.Device{{ID: "d"}}, Series: []telemetry.Series{
				{Point: "p0", Quantity: "voltage"}, {Point: "p1", Quantity: "voltage", Labels: telemetry.NewLabels(c.labels)},
			}}
			_, _, err := EncodeSchema(nil, s)
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), `series 1, point "p1": `+c.want) {
				t.Errorf("%v", err)
			}
		})
	}
	big := &telemetry.Schema{Devices: []telemetry.Device{{ID: "d"}}}
	for i := range 20_000 {
		big.Series = append(big.Series, telemetry.Series{Point: fmt.Sprint(i), Quantity: "voltage", Labels: telemetry.NewLabels(map[string]string{
			"spot": "market", "note": fmt.Sprintf("%0250d", i),
		})})
	}
	if _, _, err := EncodeSchema(nil, big); !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), `the label with the most has 5000000, "note"`) {
		t.Errorf("%v", err)
	}
}
