package harness

import (
	"cmp"
	"database/sql"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Programs are the processes of a public implementation, which the scripts that
// read scripts/versus.sh install. They have the settings that they have by default.
type Programs struct {
	// Key is the file with the private key that a rekor-server signs with. Without it
	// it makes one.
	Key string

	t   testing.TB
	bin string // where they are
	all []*Process
}

// NewPrograms returns the programs of a directory; none of them runs yet.
func NewPrograms(t testing.TB, bin string) *Programs { return &Programs{t: t, bin: bin} }

// Start starts one of them.
func (p *Programs) Start(name string, args ...string) {
	p.t.Helper()
	p.all = append(p.all, StartProcess(p.t, p.t.TempDir(), nil, filepath.Join(p.bin, name), args...))
}

// CPU is what all of them have used.
func (p *Programs) CPU(t testing.TB) (sum time.Duration) {
	for _, process := range p.all {
		sum += process.CPU(t)
	}
	return sum
}

// Stop ends them together.
func (p *Programs) Stop() {
	for _, process := range slices.Backward(p.all) {
		process.Kill()
	}
}

// Trillian starts a log server and a log signer over a database without tables,
// and makes a tree.
func (p *Programs) Trillian(dsn string) (rpc, tree string) {
	p.t.Helper()
	loadSchema(p.t, dsn)
	rpc = FreeAddr(p.t)
	p.Start("trillian_log_server", "--mysql_uri="+dsn, "--rpc_endpoint="+rpc, "--http_endpoint=")
	p.Start("trillian_log_signer", "--mysql_uri="+dsn, "--rpc_endpoint="+FreeAddr(p.t), "--http_endpoint=", "--force_master")
	AwaitPort(p.t, rpc)
	id, err := exec.Command(filepath.Join(p.bin, "createtree"), "--admin_server="+rpc).Output()
	if err != nil {
		p.t.Fatalf("createtree: %v", err)
	}
	return rpc, strings.TrimSpace(string(id))
}

// Rekor starts a rekor-server over Trillian, waits until it serves and returns its
// address. Its search index is in the same database, which saves it a Redis, and its
// attestations are in files.
func (p *Programs) Rekor(dsn string) (addr string) {
	p.t.Helper()
	rpc, tree := p.Trillian(dsn)
	host, port, err := net.SplitHostPort(rpc)
	if err != nil {
		p.t.Fatal(err)
	}
	addr = FreeAddr(p.t)
	_, own, err := net.SplitHostPort(addr)
	if err != nil {
		p.t.Fatal(err)
	}
	p.Start("rekor-server", "serve", "--rekor_server.address=127.0.0.1", "--port="+own, "--rekor_server.signer="+cmp.Or(p.Key, "memory"), "--log_type=prod",
		"--trillian_log_server.address="+host, "--trillian_log_server.port="+port, "--trillian_log_server.tlog_id="+tree,
		"--search_index.storage_provider=mysql", "--search_index.mysql.dsn="+dsn,
		"--enable_attestation_storage", "--attestation_storage_bucket=file://"+p.t.TempDir())
	AwaitPort(p.t, addr)
	return addr
}

// loadSchema makes Trillian's tables from the file in its module.
func loadSchema(t testing.TB, dsn string) {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/google/trillian").Output()
	if err != nil {
		t.Fatal(err)
	}
	schema, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "storage/mysql/schema/storage.sql"))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := sql.Open("mysql", dsn+"?multiStatements=true")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Exec(string(schema)); err != nil {
		t.Fatal(err)
	}
}

// AwaitPort returns when somebody listens.
func AwaitPort(t testing.TB, addr string) {
	t.Helper()
	for limit := time.Now().Add(time.Minute); ; {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(limit) {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
