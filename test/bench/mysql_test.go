package bench

import (
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sigstack/sigstack/storage/mysql"
	"github.com/sigstack/sigstack/storage/sqlite"
	"github.com/sigstack/sigstack/test/harness"
	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/checkpoint"
)

// BenchmarkEntryOverMySQL is BenchmarkEntry over MariaDB with its default
// durability. The CPU time of the database is in no figure.
func BenchmarkEntryOverMySQL(b *testing.B) {
	s := harness.StartWith(b, harness.Options{DSN: harness.StartMariaDB(b).NewDatabase(b)})
	signer := newSigner(b)
	for _, clients := range []int{1, 16, 64, 256} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			measure(b, s, clients, signer.entries(b, addr(s), b.N), http.StatusCreated, entryNeeds)
		})
	}
}

// BenchmarkCertificateOverMySQL is BenchmarkCertificate with P-256 alone, over
// MariaDB. The CPU time of the database is in no figure.
func BenchmarkCertificateOverMySQL(b *testing.B) {
	issuer := startIssuer(b)
	s := harness.StartWith(b, harness.Options{
		DSN:  harness.StartMariaDB(b).NewDatabase(b),
		Args: []string{"--config", harness.Config(b, certificateConfig("p256", issuer))},
	})
	for _, clients := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			measure(b, s, clients, certificateRequests(b, addr(s), issuer, b.N), http.StatusOK, certificateNeeds(elliptic.P256()))
		})
	}
}

// BenchmarkAddOverBoth adds random leaves of 300 bytes to a log over SQLite and
// to one over MariaDB, by turns, so that what else the machine does meets both.
// It reports the rate of each, and mysql/sqlite, the ratio.
func BenchmarkAddOverBoth(b *testing.B) {
	const callers, turns = 256, 8
	logger := slog.New(slog.NewTextHandler(io.Discard, nil))
	onFiles, err := sqlite.Open(filepath.Join(b.TempDir(), "log.db"), time.Now)
	if err != nil {
		b.Fatal(err)
	}
	defer onFiles.Close()
	db, err := mysql.Open(b.Context(), harness.StartMariaDB(b).NewDatabase(b), time.Now, logger)
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	inDatabase, err := db.Log(b.Context(), "bench")
	if err != nil {
		b.Fatal(err)
	}
	defer inDatabase.Close()
	logs := make([]*tlog.Log, 2)
	for i, store := range []tlog.Store{onFiles, inDatabase} {
		key, err := checkpoint.NewSigner("bench", "bench", newSigner(b).key)
		if err != nil {
			b.Fatal(err)
		}
		logs[i], err = tlog.Open(b.Context(), store, tlog.Options{
			Signer: key, Memory: filepath.Join(b.TempDir(), "signed"), Now: time.Now, Logger: logger, Shared: i == 1,
		})
		if err != nil {
			b.Fatal(err)
		}
		defer logs[i].Close()
	}
	b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
		var took [2]time.Duration
		leaves := b.N/turns + 1
		for range turns {
			for i, l := range logs {
				took[i] += add(b, l, callers, leaves)
			}
		}
		rate := func(i int) float64 { return float64(turns*leaves) / took[i].Seconds() }
		b.ReportMetric(0, "ns/op") // of both together
		b.ReportMetric(rate(0), "sqlite-entries/s")
		b.ReportMetric(rate(1), "mysql-entries/s")
		b.ReportMetric(rate(1)/rate(0), "mysql/sqlite")
	})
}

// add has callers add leaves in a closed loop and returns how long that took.
func add(b *testing.B, l *tlog.Log, callers, leaves int) time.Duration {
	var next atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for range callers {
		wg.Go(func() {
			for next.Add(1) <= int64(leaves) {
				value := make([]byte, 300)
				rand.Read(value)
				if _, err := l.Add(b.Context(), tlog.Leaf{Value: value}); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return time.Since(start)
}
