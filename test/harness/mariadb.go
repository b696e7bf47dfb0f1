package harness

import (
	"bufio"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
)

// mariaLimit bounds how long a MariaDB server may take to start or to stop. It
// takes about a second on an idle machine.
const mariaLimit = 60 * time.Second

// What NewDatabase gives to its callers.
const (
	mariaUser     = "sigstack"
	mariaPassword = "not-to-be-seen"
)

// A MariaDB is a database server of the tests: on a free loopback port, with a
// data directory of its own and the durability that it has by default. It reads
// no configuration of the machine, and is not the service of the machine.
type MariaDB struct {
	Addr string // host:port, the same after a Restart

	dir     string
	disk    *Disk    // what its data is on; nil: the machine's
	args    []string // beside those of every server
	env     []string
	cmd     *exec.Cmd
	done    chan struct{} // closed after the program ended and was reaped
	mu      sync.Mutex    // guards what follows
	lines   []string      // of output
	created int           // databases
}

// StartMariaDB starts a server that belongs to one test, for what stops it or
// kills it. It may have options beside those of every server.
func StartMariaDB(t testing.TB, args ...string) *MariaDB {
	t.Helper()
	return startMariaDB(t, nil, args...)
}

// StartMariaDBOn does the same, with the data on a disk.
func StartMariaDBOn(t testing.TB, disk *Disk) *MariaDB {
	t.Helper()
	return startMariaDB(t, disk)
}

func startMariaDB(t testing.TB, disk *Disk, args ...string) *MariaDB {
	t.Helper()
	m, err := newMariaDB(disk, args...)
	if err != nil {
		t.Fatal(err)
	}
	m.belongs(t)
	return m
}

// belongs has a server end with its test.
func (m *MariaDB) belongs(t testing.TB) {
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("end of the output of mariadbd:\n%s", m.tail())
		}
		m.remove()
	})
}

// Copy returns another server, which is not started, with the data that this
// one has. This one must have been stopped.
func (m *MariaDB) Copy(t testing.TB) *MariaDB {
	t.Helper()
	if m.Running() {
		t.Fatal("harness: the data of a running MariaDB is copied")
	}
	dir, err := os.MkdirTemp("", "sigstack-mariadb-")
	if err != nil {
		t.Fatal(err)
	}
	other := &MariaDB{dir: dir}
	other.belongs(t)
	if other.Addr, err = freeAddr(); err == nil {
		err = other.copyData(m.data())
	}
	if err != nil {
		t.Fatal(err)
	}
	return other
}

// shared is the server that the tests of one package share.
var shared struct {
	mu     sync.Mutex
	server *MariaDB
}

// MainMariaDB runs the tests of a package that calls SharedMariaDB, removes the
// server, if one was started, and returns the exit code for os.Exit.
func MainMariaDB(m *testing.M) int {
	defer func() {
		if shared.server != nil {
			shared.server.remove()
		}
	}()
	return m.Run()
}

// SharedMariaDB returns the server of the package under test, which the first
// call starts. Nobody stops it before MainMariaDB does.
func SharedMariaDB(t testing.TB) *MariaDB {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.server == nil {
		server, err := newMariaDB(nil)
		if err != nil {
			t.Fatal(err)
		}
		shared.server = server
	}
	return shared.server
}

// newMariaDB starts a server in a directory of its own, which is a copy of an
// initialized one: to initialize takes seconds.
func newMariaDB(disk *Disk, args ...string) (*MariaDB, error) {
	template, err := mariaTemplate()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "sigstack-mariadb-") // short: the path of a socket is limited
	if err != nil {
		return nil, err
	}
	m := &MariaDB{dir: dir, disk: disk, args: args}
	if m.Addr, err = freeAddr(); err == nil {
		err = m.copyData(template)
	}
	if err == nil {
		err = m.start()
	}
	if err == nil {
		err = m.createUser()
	}
	if err != nil {
		m.remove()
		return nil, err
	}
	return m, nil
}

// data is the data directory, as it is seen from outside of its disk.
func (m *MariaDB) data() string {
	if m.disk != nil {
		return m.disk.Outside(filepath.Join(m.disk.Path, "mariadb"))
	}
	return filepath.Join(m.dir, "data")
}

// copyData gives the server a copy of the data directory of one that does not
// run.
func (m *MariaDB) copyData(from string) error {
	sparse := "--sparse=always"
	if m.disk != nil {
		sparse = "--sparse=never" // what a server has is there when the disk is full
	}
	if out, err := exec.Command("cp", "-a", sparse, from, m.data()).CombinedOutput(); err != nil {
		return fmt.Errorf("copying the data of a MariaDB: %w\n%s", err, out)
	}
	return nil
}

// createUser makes the user of the tests.
func (m *MariaDB) createUser() error {
	admin, err := m.admin()
	if err != nil {
		return err
	}
	defer admin.Close()
	for _, statement := range []string{
		"CREATE USER '" + mariaUser + "'@'%' IDENTIFIED BY '" + mariaPassword + "'",
		"GRANT ALL PRIVILEGES ON *.* TO '" + mariaUser + "'@'%'",
	} {
		if _, err := admin.Exec(statement); err != nil {
			return fmt.Errorf("making a user of MariaDB: %w", err)
		}
	}
	return nil
}

// mariaTemplate returns an initialized data directory, which is kept in .tools
// for the installed version.
func mariaTemplate() (string, error) {
	version, err := exec.Command("mariadbd", "--version").Output()
	if err != nil {
		return "", fmt.Errorf("mariadbd (scripts/debian.sh installs it): %w", err)
	}
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	// mariadbd  Ver 10.11.19-MariaDB-0+deb12u1 for debian-linux-gnu ...
	fields := strings.Fields(string(version))
	if len(fields) < 3 {
		return "", fmt.Errorf("mariadbd has version %q", version)
	}
	dir := filepath.Join(root, ".tools", "mariadb-"+fields[2])
	if err := os.MkdirAll(filepath.Dir(dir), 0o777); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(dir+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "mariadb-new-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	args := append([]string{"--no-defaults", "--datadir=" + filepath.Join(tmp, "data"),
		"--auth-root-authentication-method=normal", "--skip-test-db"}, asRoot()...)
	if out, err := exec.Command("mariadb-install-db", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("mariadb-install-db: %w\n%s", err, out)
	}
	return dir, os.Rename(filepath.Join(tmp, "data"), dir)
}

// asRoot is what MariaDB wants to hear from root.
func asRoot() []string {
	if os.Getuid() == 0 {
		return []string{"--user=root"}
	}
	return nil
}

// command returns the program, which was not started.
func (m *MariaDB) command(args ...string) (*exec.Cmd, error) {
	host, port, err := net.SplitHostPort(m.Addr)
	if err != nil {
		return nil, err
	}
	binary, data := "mariadbd", m.data()
	if m.disk != nil {
		data = filepath.Join(m.disk.Path, "mariadb")
	}
	all := slices.Concat([]string{"--no-defaults", "--datadir=" + data, "--bind-address=" + host, "--port=" + port,
		"--socket=" + m.socket(), "--pid-file=" + filepath.Join(m.dir, "pid"), "--max-connections=400"}, asRoot(), m.args, args)
	if m.disk != nil {
		if binary, err = exec.LookPath(binary); err != nil {
			return nil, err
		}
		binary, all = m.disk.command(binary, all)
	}
	cmd := exec.Command(binary, all...)
	cmd.Env = append(os.Environ(), m.env...)
	cmd.SysProcAttr = ownGroup()
	return cmd, nil
}

// start starts the program and waits until it takes connections.
func (m *MariaDB) start(args ...string) (err error) {
	if m.cmd, err = m.command(args...); err != nil {
		return err
	}
	output, err := m.cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := m.cmd.Start(); err != nil {
		return err
	}
	ready, done := make(chan struct{}), make(chan struct{})
	m.done = done
	go func() {
		lines := bufio.NewScanner(output)
		for seen := false; lines.Scan(); {
			m.mu.Lock()
			m.lines = append(m.lines, lines.Text())
			m.mu.Unlock()
			if !seen && strings.Contains(lines.Text(), "ready for connections") {
				seen = true
				close(ready)
			}
		}
		m.cmd.Wait()
		close(done)
	}()
	select {
	case <-ready:
		return nil
	case <-done:
		return fmt.Errorf("mariadbd ended before it was ready:\n%s", m.tail())
	case <-time.After(mariaLimit):
		m.Kill()
		return fmt.Errorf("mariadbd was not ready within %v:\n%s", mariaLimit, m.tail())
	}
}

func (m *MariaDB) socket() string { return filepath.Join(m.dir, "socket") }

func (m *MariaDB) tail() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Join(m.lines[max(0, len(m.lines)-15):], "\n")
}

// admin returns a connection of the database's root.
func (m *MariaDB) admin() (*sql.DB, error) {
	config := mysql.NewConfig()
	config.User, config.Net, config.Addr = "root", "unix", m.socket()
	config.Logger = &mysql.NopLogger{}
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

// NewDatabase makes an empty database and returns its name as a DSN of
// go-sql-driver/mysql: user:password@tcp(host:port)/database.
func (m *MariaDB) NewDatabase(t testing.TB) string {
	t.Helper()
	admin, err := m.admin()
	if err != nil {
		t.Fatal(err)
	}
	name := m.name()
	if _, err := admin.Exec("CREATE DATABASE " + name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		admin.Exec("DROP DATABASE " + name) // the server may be gone
		admin.Close()
	})
	return m.DSN(name)
}

// NewOwner makes a database and a user who may do everything in it, and nothing
// elsewhere, as MariaDB's image does at its first start. Of the password it is
// given the hash. The user takes the place of one of the same name.
func (m *MariaDB) NewOwner(t testing.TB, database, user, hash string) {
	t.Helper()
	m.Admin(t,
		"CREATE DATABASE `"+database+"`",
		"CREATE OR REPLACE USER '"+user+"'@'%' IDENTIFIED BY PASSWORD '"+hash+"'",
		"GRANT ALL ON `"+database+"`.* TO '"+user+"'@'%'")
}

// Admin runs statements as the database's root.
func (m *MariaDB) Admin(t testing.TB, statements ...string) {
	t.Helper()
	admin, err := m.admin()
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	for _, statement := range statements {
		if _, err := admin.Exec(statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// Patient, at the end of a DSN, has whoever uses it wait for a database that
// answers slowly, which on a machine with much else to do is none that fails.
const Patient = "?timeout=30s&readTimeout=30s&writeTimeout=30s"

// Through returns the DSN of a database that is reached through a proxy.
func Through(t testing.TB, dsn string, p *Proxy) string {
	t.Helper()
	config, err := mysql.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	config.Addr = p.Addr
	return config.FormatDSN()
}

// CopyDatabase makes a copy of a database, as it is committed, and returns its
// DSN. The copy lives as long as the server.
func (m *MariaDB) CopyDatabase(t testing.TB, dsn string) string {
	t.Helper()
	from, err := mysql.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	admin, err := m.admin()
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	admin.SetMaxOpenConns(1) // they share a session
	to := m.name()
	exec := func(statement string) {
		if _, err := admin.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	exec("CREATE DATABASE " + to)
	exec("USE " + to)
	exec("SET foreign_key_checks = 0")
	rows, err := admin.Query("SHOW TABLES FROM " + from.DBName)
	if err != nil {
		t.Fatal(err)
	}
	var tables []string
	for rows.Next() {
		var table string
		if err := rows.Scan(&table); err != nil {
			t.Fatal(err)
		}
		tables = append(tables, table)
	}
	if err := rows.Err(); err != nil || len(tables) == 0 {
		t.Fatalf("%d tables to copy (%v)", len(tables), err)
	}
	for _, table := range tables {
		var name, create string
		if err := admin.QueryRow("SHOW CREATE TABLE "+from.DBName+"."+table).Scan(&name, &create); err != nil {
			t.Fatal(err)
		}
		exec(create)
		exec("INSERT INTO " + table + " SELECT * FROM " + from.DBName + "." + table)
	}
	from.DBName = to
	return from.FormatDSN()
}

// name returns a name that no database of this server has.
func (m *MariaDB) name() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.created++
	return fmt.Sprintf("test_%d", m.created)
}

// DSN returns the name under which the tests reach a database.
func (m *MariaDB) DSN(database string) string {
	return fmt.Sprintf("%s:%s@tcp(%s)/%s", mariaUser, mariaPassword, m.Addr, database)
}

// Password is in every DSN. It must not be seen anywhere else.
func (m *MariaDB) Password() string { return mariaPassword }

// Stop ends the server as an operator does.
func (m *MariaDB) Stop(t testing.TB) {
	t.Helper()
	if err := m.stop(); err != nil {
		t.Fatal(err)
	}
}

func (m *MariaDB) stop() error {
	m.signal(m.cmd.Process.Pid, syscall.SIGTERM)
	select {
	case <-m.done:
		return nil
	case <-time.After(mariaLimit):
		return fmt.Errorf("mariadbd still runs after %v:\n%s", mariaLimit, m.tail())
	}
}

// Restart starts a server that ended, or a Copy, on its data and port.
func (m *MariaDB) Restart(t testing.TB) {
	t.Helper()
	if err := m.start(); err != nil {
		t.Fatal(err)
	}
}

// Running says whether the server has not ended.
func (m *MariaDB) Running() bool {
	select {
	case <-m.done:
		return false
	default:
		return true
	}
}

// Kill ends the server with SIGKILL. On one that has ended it does nothing.
func (m *MariaDB) Kill() {
	m.signal(-m.cmd.Process.Pid, syscall.SIGKILL)
	<-m.done
}

// signal sends nothing once the program was reaped: its number may be another
// program's then.
func (m *MariaDB) signal(pid int, sig syscall.Signal) error {
	if !m.Running() {
		return errors.New("mariadbd has ended")
	}
	return syscall.Kill(pid, sig)
}

// remove ends the server and removes what it kept.
func (m *MariaDB) remove() {
	if m.done != nil {
		m.Kill()
	}
	os.RemoveAll(m.dir)
}
