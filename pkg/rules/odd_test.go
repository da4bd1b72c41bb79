package rules

import "testing"

// What a bad reading and one made in maintenance do is each rule's choice.
func TestBadReadingsAndMaintenanceDoWhatTheRuleSays(t *testing.T) {
	rules := `
- {id: hold,    watch: {quantity: pm2_5}, above: {warning: {limit: 50, for: 3m}}}
- {id: ignore,  watch: {quantity: pm2_5}, bad: ignore, above: {warning: {limit: 50, for: 3m}}}
- {id: begin,   watch: {quantity: pm2_5}, bad: no_data, above: {warning: {limit: 50, for: 3m}}}
- {id: silent,  watch: {quantity: pm2_5}, no_data: {warning: {for: 3m}}}
- {id: dead,    watch: {quantity: pm2_5}, bad: hold, no_data: {warning: {for: 3m}}}
- {id: works,   watch: {quantity: pm2_5}, maintenance: judge, above: {warning: {limit: 50, for: 3m}}}
`
	tests := `
rules: [rules.yaml]
tests:
  - name: the last good value holds, and delays run on
    only: [hold, ignore]
    series: [{quantity: pm2_5, values: "60 badx4 60 40"}]
    expect:
      - {at: 3m, rule: hold, alert: raised, severity: warning}
      - {at: 3m, rule: ignore, alert: raised, severity: warning}
      - {at: 6m, rule: hold, alert: cleared, severity: warning}
      - {at: 6m, rule: ignore, alert: cleared, severity: warning}
  - name: the value ends, and the delay begins anew with the next good reading
    only: begin
    series: [{quantity: pm2_5, values: "60 badx4 60x4"}]
    expect:
      - {at: 8m, alert: raised, severity: warning}
  - name: an alert that stands does not end by bad readings
    only: begin
    series: [{quantity: pm2_5, values: "60x4 badx9 40"}]
    expect:
      - {at: 3m, alert: raised, severity: warning}
      - {at: 13m, alert: cleared, severity: warning}
  - name: bad readings are no data, unless the rule calls them a sign of life
    only: [silent, dead]
    series: [{quantity: pm2_5, values: "1 badx4 1"}]
    expect:
      - {at: 3m, rule: silent, alert: raised, severity: warning}
      - {at: 5m, rule: silent, alert: cleared, severity: warning}
  - name: maintenance ends the alert and none is raised until a reading without it
    only: hold
    series: [{quantity: pm2_5, values: "60x4 maintenancex6 60x4"}]
    expect:
      - {at: 3m, alert: raised, severity: warning}
      - {at: 4m, alert: cleared, severity: warning, reason: maintenance}
      - {at: 13m, alert: raised, severity: warning}
  - name: or it changes nothing
    only: works
    series: [{quantity: pm2_5, values: "60x4 maintenancex6 60x4 40"}]
    expect:
      - {at: 3m, alert: raised, severity: warning}
      - {at: 14m, alert: cleared, severity: warning}
`
	set := mustLoad(t, rules)
	if names, err := RunTests(Source{"odd.test.yaml", []byte(tests)}, set, testEnv()); err != nil || len(names) != 6 {
		t.Errorf("%d tests: %v", len(names), err)
	}
}
