package ledger

import (
	"fmt"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
)

// full is a ledger with this many alerts over a month, a tenth of them active.
func full(b *testing.B, alerts int) *Ledger {
	b.Helper()
	l := open(b, b.TempDir(), Options{})
	begin := time.Now().Add(-30 * 24 * time.Hour).UnixMilli()
	for i := range alerts {
		at := begin + int64(i)*(30*24*3600*1000)/int64(alerts)
		tr := step(fmt.Sprintf("a%06d", i), alert.Raised, at, at, alert.Severity(1+i%4))
		tr.Alert.Site, tr.Alert.Rule, tr.Alert.Device = fmt.Sprintf("s%d", i%100), fmt.Sprintf("r%d", i%50), fmt.Sprintf("d%d", i%1000)
		check(b, l.Append(tr))
		if i%10 > 0 {
			tr.Kind, tr.Time, tr.Alert.State = alert.Ended, ms(at+60_000), alert.Cleared
			end := ms(at + 60_000)
			tr.Alert.End = &end
			check(b, l.Append(tr))
		}
	}
	check(b, l.Flush())
	return l
}

// BenchmarkCounts, BenchmarkStatistics and BenchmarkAct work on 20,000 alerts,
// 2,000 of them active at 100 sites.
func BenchmarkCounts(b *testing.B) {
	l := full(b, 20_000)
	for b.Loop() {
		if l.Counts().Active != 2000 {
			b.Fatal("counted wrong")
		}
	}
}

func BenchmarkStatistics(b *testing.B) {
	l := full(b, 20_000)
	now := time.Now()
	for b.Loop() {
		if st, err := l.Statistics(now.Add(-31*24*time.Hour), now, ""); err != nil || st.Alerts != 20_000 {
			b.Fatal(st.Alerts, err)
		}
	}
}

// BenchmarkAct is one act with its fsync, and one of a thousand in one commit.
func BenchmarkAct(b *testing.B) {
	l := full(b, 20_000)
	ids := make([]string, 1000)
	for i := range ids {
		ids[i] = fmt.Sprintf("a%06d", i*10)
	}
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprintf("alerts=%d", n), func(b *testing.B) {
			for b.Loop() {
				r, err := l.Act(alert.Commented, alert.Act{Who: "Lan", Text: "seen"}, ids[:n]...)
				if err != nil || r[0].Err != nil {
					b.Fatal(err, r[0].Err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*n), "µs/alert")
		})
	}
}
