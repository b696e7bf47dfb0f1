package harness

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A Galera is a cluster of three MariaDB servers that all take writes: a
// transaction is in all of them, or in none. It needs the package galera-4.
type Galera struct {
	Nodes []*MariaDB

	dir string
}

// galeraLibrary is where Debian has what makes a cluster of servers.
const galeraLibrary = "/usr/lib/galera/libgalera_smm.so"

// handOver is what the nodes run to bring one that has joined to the state of
// the others: it hands over their position alone. All nodes begin with the same
// data, and what one of them has missed the others have in their caches.
const handOver = `#!/bin/sh
role= address= position= bypass=
while [ $# -gt 0 ]; do
	case $1 in
	--role) role=$2; shift ;;
	--address) address=$2; shift ;;
	--gtid) position=$2; shift ;;
	--bypass) bypass=1 ;;
	esac
	shift
done
case $role in
joiner)
	echo "ready 127.0.0.1/${GALERA_PIPE##*/}"
	read -r position <"$GALERA_PIPE"
	echo "$position"
	;;
donor)
	[ -n "$bypass" ] || exit 1 # it lacks more than the caches have
	echo continue
	echo "$position" >"${GALERA_PIPE%/*}/${address##*/}"
	echo "done $position"
	;;
esac
`

// StartGalera starts a cluster that belongs to one test.
func StartGalera(t testing.TB) *Galera {
	t.Helper()
	if _, err := os.Stat(galeraLibrary); err != nil {
		t.Fatalf("%v (scripts/debian.sh installs galera-4)", err)
	}
	dir, err := os.MkdirTemp("", "sigstack-galera-") // short: the path of a socket is limited
	if err != nil {
		t.Fatal(err)
	}
	g := &Galera{dir: dir}
	t.Cleanup(func() {
		if t.Failed() {
			for i, m := range g.Nodes {
				t.Logf("end of the output of node %d:\n%s", i, m.tail())
			}
		}
		g.remove()
	})
	if err := g.start(); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *Galera) start() error {
	template, err := mariaTemplate()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(g.dir, "wsrep_sst_position"), []byte(handOver), 0o755); err != nil {
		return err
	}
	const nodes = 3
	group, catchUp := make([]string, nodes), make([]string, nodes)
	for i := range nodes {
		m := &MariaDB{dir: filepath.Join(g.dir, fmt.Sprint("node", i))}
		err := os.Mkdir(m.dir, 0o700)
		for _, addr := range []*string{&m.Addr, &group[i], &catchUp[i]} {
			if err == nil {
				*addr, err = freeAddr()
			}
		}
		if err == nil {
			err = syscall.Mkfifo(g.pipe(i), 0o600)
		}
		if err != nil {
			return err
		}
		g.Nodes = append(g.Nodes, m)
	}
	for i, m := range g.Nodes {
		m.args = []string{
			"--wsrep-on=ON", "--wsrep-provider=" + galeraLibrary, "--binlog-format=ROW", "--innodb-autoinc-lock-mode=2",
			"--wsrep-cluster-address=gcomm://" + strings.Join(group, ","), "--wsrep-node-address=127.0.0.1", "--wsrep-sst-method=position",
			"--wsrep-provider-options=gmcast.listen_addr=tcp://" + group[i] + ";ist.recv_addr=" + catchUp[i],
		}
		m.env = []string{"PATH=" + g.dir + ":" + os.Getenv("PATH"), "GALERA_PIPE=" + g.pipe(i)}
	}

	// The first node makes the state that all of them begin with.
	first := g.Nodes[0]
	for _, step := range []func() error{
		func() error { return first.copyData(template) },
		func() error { return first.start("--wsrep-new-cluster") },
		first.synced,
		first.createUser,
		first.stop,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	for _, m := range g.Nodes[1:] {
		if err := m.copyData(first.data()); err != nil {
			return err
		}
	}
	for i, m := range g.Nodes {
		var args []string
		if i == 0 {
			args = []string{"--wsrep-new-cluster"}
		}
		if err := m.start(args...); err != nil {
			return err
		}
		if err := m.synced(); err != nil {
			return err
		}
	}
	return nil
}

func (g *Galera) pipe(i int) string { return filepath.Join(g.dir, fmt.Sprint("pipe", i)) }

// synced waits until a node has what the others have, and takes requests.
func (m *MariaDB) synced() error {
	admin, err := m.admin()
	if err != nil {
		return err
	}
	defer admin.Close()
	deadline := time.NewTimer(mariaLimit)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		var name, state string
		err := admin.QueryRow("SHOW STATUS LIKE 'wsrep_local_state_comment'").Scan(&name, &state)
		if err == nil && state == "Synced" {
			return nil
		}
		select {
		case <-tick.C:
		case <-m.done:
			return errors.New("a node of the cluster has ended")
		case <-deadline.C:
			return fmt.Errorf("a node of the cluster is not synced within %v, but %q (%v)", mariaLimit, state, err)
		}
	}
}

// Hold keeps a node from applying what the others commit, until release is
// called. It takes part in commits all the same, and can be read.
func (g *Galera) Hold(t testing.TB, i int) (release func()) {
	t.Helper()
	admin, err := g.Nodes[i].admin()
	if err != nil {
		t.Fatal(err)
	}
	admin.SetMaxOpenConns(1) // the lock belongs to a connection
	if _, err := admin.Exec("FLUSH TABLES WITH READ LOCK"); err != nil {
		t.Fatal(err)
	}
	return func() { admin.Close() }
}

// Restart starts a node that was killed, and returns when it has what it has
// missed.
func (g *Galera) Restart(t testing.TB, i int) {
	t.Helper()
	m := g.Nodes[i]
	cmd, err := m.command("--wsrep-recover")
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.CombinedOutput()
	// ... [Note] WSREP: Recovered position: 998795b4-e5c6-11f1-9cc0-badce7158e2c:7
	_, position, ok := strings.Cut(string(out), "WSREP: Recovered position: ")
	if err != nil || !ok {
		t.Fatalf("mariadbd --wsrep-recover: %v\n%s", err, out)
	}
	position, _, _ = strings.Cut(position, "\n")
	if err := m.start("--wsrep-start-position=" + strings.TrimSpace(position)); err != nil {
		t.Fatal(err)
	}
	if err := m.synced(); err != nil {
		t.Fatal(err)
	}
}

// remove ends the nodes and removes what they kept. What a node has started may
// still wait at its pipe.
func (g *Galera) remove() {
	for i, m := range g.Nodes {
		if m.done != nil {
			m.Kill()
		}
		if pipe, err := os.OpenFile(g.pipe(i), os.O_WRONLY|syscall.O_NONBLOCK, 0); err == nil {
			pipe.Close()
		}
	}
	os.RemoveAll(g.dir)
}
