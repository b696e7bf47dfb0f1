package faults

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sigstack/sigstack/test/harness"
)

// resumeLimit is how long a server may take to write again after there is room.
const resumeLimit = 30 * time.Second

// TestDiskNearlyFull (F2) lets a disk run full under load, up to the reserve:
// the logs stop before anything fails, reads go on, and so do writes when there
// is room again.
func TestDiskNearlyFull(t *testing.T) {
	t.Parallel()
	const reserve = 8 << 20
	disk := harness.NewDisk(t, 80<<20)
	b := startBench(t, sqlite, harness.Options{Disk: disk, Args: []string{"--config", harness.Config(t, "min-free-bytes: 8388608\n")}})
	b.allow = []int{http.StatusServiceUnavailable}
	b.recorder.Start()
	for range 3 {
		b.load.Start(4)
		b.granted(50)
		disk.Fill(reserve - 1<<20)
		b.refused(20)
		if ready, body := b.Ready(); ready || !strings.Contains(body, "min-free-bytes") {
			t.Errorf("ready %v on a disk that is nearly full: %s", ready, body)
		}
		// What the load has written since is all refused.
		from := b.ledger.Len()
		b.refused(20)
		for _, r := range b.ledger.Records(from) {
			if harness.Acknowledged(r) {
				t.Errorf("%s was granted", r.Kind)
			}
		}
		b.readable()
		b.load.Stop()

		// A restart finds room for all that it has to write.
		b.Kill()
		b.Launch()
		poll(t, readyLimit, "a server that cannot write answers reads", func() bool {
			res, err := http.Get(b.URL + "/api/v1/log")
			if err == nil {
				res.Body.Close()
			}
			return err == nil && res.StatusCode == http.StatusOK
		})
		b.readable()

		b.load.Start(4)
		disk.Release()
		resumed := b.WaitReady(resumeLimit)
		b.granted(20)
		b.load.Stop()
		t.Logf("ready again %s after there was room", resumed.Round(time.Millisecond))
		b.verifySince()
	}
	b.recorder.Stop()
	b.measure()
	b.verify()
	t.Log(b.summary())
}

// TestDiskFull (F2) has no reserve: SQLite meets the end of the disk in the
// middle of whatever it does.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	disk := harness.NewDisk(t, 64<<20) // three write-ahead logs of 16 MiB fit
	b := startBench(t, sqlite, harness.Options{Disk: disk, Args: []string{"--config", harness.Config(t, "min-free-bytes: 0\n")}})
	b.allow = []int{http.StatusServiceUnavailable}
	b.recorder.Start()
	for i := range 10 {
		b.load.Start(4)
		b.granted(20)
		disk.Fill(int64(i) * 4096) // so that another write is the one that fails
		b.refused(20)
		b.readable()
		disk.Release()
		start := time.Now()
		b.granted(20)
		if took := time.Since(start); took > resumeLimit {
			t.Errorf("granted %s after there was room", took)
		}
		b.load.Stop()
		b.WaitReady(resumeLimit)
		b.verifySince()
	}
	b.recorder.Stop()
	b.verify()
	t.Log(b.summary())
}

// TestAuditDiskFull (F2) has the audit log alone on a disk that runs full: no
// certificate, one precertificate for each request, and entries as ever.
func TestAuditDiskFull(t *testing.T) {
	t.Parallel()
	disk := harness.NewDisk(t, 24<<20)
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(disk.Path, "audit.db"), filepath.Join(data, "audit.db")); err != nil {
		t.Fatal(err)
	}
	b := newBench(t, sqlite, dir, 1, harness.Options{Disk: disk, Dir: data})
	b.allow = []int{http.StatusServiceUnavailable}
	b.Restart()
	b.leaks.Keys(t, b.Dir)
	b.measure()
	b.load.Certificates(10)
	for range 5 {
		disk.Fill(0)
		// The write-ahead log has room that it used before; then it is full.
		b.load.Burst(harness.KindCertificate, 20, 4, func(harness.Record) {})
		for n := 0; ; n++ {
			if r := b.load.One(harness.KindCertificate); r.Status == http.StatusServiceUnavailable {
				break
			}
			if n == 2000 {
				t.Fatal("2000 certificates, and the audit log has still room")
			}
		}
		b.load.Burst(harness.KindCertificate, 20, 4, func(r harness.Record) {
			if r.Status == http.StatusOK {
				t.Error("a certificate without an audit row")
			}
		})
		b.load.Entries(10)
		disk.Release()
		start := time.Now()
		poll(t, resumeLimit, "a certificate is issued when there is room", func() bool {
			return b.load.One(harness.KindCertificate).Status == http.StatusOK
		})
		t.Logf("issued %s after there was room", time.Since(start).Round(time.Millisecond))
	}
	b.load.Certificates(10)
	b.verify()
	t.Log(b.summary())
}

// granted waits until the load had n more writes granted.
func (b *bench) granted(n int) {
	b.t.Helper()
	b.more(n, "writes are granted", harness.Acknowledged)
}

// refused waits until n more writes were answered with 503.
func (b *bench) refused(n int) {
	b.t.Helper()
	b.more(n, "writes are refused", func(r harness.Record) bool { return r.Status == http.StatusServiceUnavailable })
}

func (b *bench) more(n int, what string, f func(harness.Record) bool) {
	b.t.Helper()
	from, count := b.ledger.Len(), 0
	b.Poll(resumeLimit, what, func() bool {
		records := b.ledger.Records(from)
		from += len(records)
		for _, r := range records {
			if f(r) {
				count++
			}
		}
		return count >= n
	})
}

// readable asks for an acknowledged entry, both tree heads, a search and the
// trust root.
func (b *bench) readable() {
	b.t.Helper()
	uuid := ""
	for _, r := range b.ledger.Records(0) {
		if r.Answer != nil {
			uuid = r.UUID
		}
	}
	for _, path := range []string{"/api/v1/log/entries/" + uuid, "/api/v1/log", "/ct/v1/get-sth", "/ct/v1/get-entries?start=0&end=0", "/tuf/timestamp.json", "/api/v2/trustBundle"} {
		res, err := http.Get(b.URL + path)
		if err != nil {
			b.t.Errorf("%s: %v", path, err)
			continue
		}
		res.Body.Close()
		if res.StatusCode != http.StatusOK {
			b.t.Errorf("%s is answered with %s while the disk is full", path, res.Status)
		}
	}
	if r := b.load.One(harness.KindSearch); r.Kind == harness.KindSearch && r.Status != http.StatusOK {
		b.t.Errorf("a search is answered with %d", r.Status)
	}
}
