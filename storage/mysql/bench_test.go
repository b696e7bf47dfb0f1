package mysql_test

import (
	"crypto/rand"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sigstack/sigstack/test/harness"
	"github.com/sigstack/sigstack/tlog"
)

// BenchmarkAdd measures Log.Add in a closed loop: each caller adds a random
// leaf of 300 bytes, has its proof, and adds the next.
func BenchmarkAdd(b *testing.B) {
	for _, callers := range []int{1, 64, 256} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			l := newLog(b, newSigner(b), openLog(b, openDB(b, harness.SharedMariaDB(b).NewDatabase(b), time.Now), "bench"))
			var left atomic.Int64
			left.Store(int64(b.N))
			took := make([][]time.Duration, callers)
			var wg sync.WaitGroup
			b.ResetTimer()
			for c := range callers {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						value := make([]byte, 300)
						rand.Read(value)
						start := time.Now()
						if _, err := l.Add(b.Context(), tlog.Leaf{Value: value}); err != nil {
							b.Error(err)
							return
						}
						took[c] = append(took[c], time.Since(start))
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			all := slices.Concat(took...)
			slices.Sort(all)
			b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-us")
			b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-us")
			b.ReportMetric(float64(len(all))/b.Elapsed().Seconds(), "entries/s")
		})
	}
}
