package deploy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	"golang.org/x/sys/unix"

	"github.com/sigstack/sigstack/test/harness"
)

// limit bounds every wait for a program: the tests may share two cores.
const limit = time.Minute

// An engine does for the services of our image what a container engine does.
type engine struct {
	t       *testing.T
	project *types.Project
	image   *image
	volumes map[string]string // the directory of each named volume

	// database is where the service db is: the address of a real server.
	database string
}

// A container is one service: its files, its namespaces, and what runs in them.
// There is a process in it that does nothing, so that it stays when the others
// have ended.
type container struct {
	engine  *engine
	service types.ServiceConfig
	root    string
	init    int              // the process that does nothing, as this machine numbers it
	main    *harness.Process // what the service runs, nil before start
}

// A mount shows a file or directory of this machine in a container.
type mount struct {
	source, target string
	readOnly       bool
}

// create makes the container of a service: the image's files, which nobody can
// change if the service says so, the volumes, configs and secrets at their
// places, a process table, and a network with nothing but a loopback interface
// in it, on which the service finds its database.
func (e *engine) create(name string) *container {
	e.t.Helper()
	service, err := e.project.GetService(name)
	if err != nil {
		e.t.Fatal(err)
	}
	c := &container{engine: e, service: service, root: filepath.Join(e.t.TempDir(), "root")}
	run(e.t, "cp", "-a", e.image.root, c.root)

	hosts := filepath.Join(e.t.TempDir(), "hosts")
	if err := os.WriteFile(hosts, []byte("127.0.0.1 localhost "+publicHost+"\n127.0.0.2 db\n"), 0o644); err != nil {
		e.t.Fatal(err)
	}
	var script strings.Builder
	line := func(args ...string) {
		for _, arg := range args {
			fmt.Fprintf(&script, "'%s' ", strings.ReplaceAll(arg, "'", `'\''`))
		}
		script.WriteByte('\n')
	}
	line("set", "-e")
	line("mount", "--bind", c.root, c.root)
	for _, m := range append(e.mounts(service), mount{hosts, "/etc/hosts", true}) {
		target := filepath.Join(c.root, m.target)
		info, err := os.Stat(m.source)
		if err != nil {
			e.t.Fatal(err)
		}
		if info.IsDir() {
			line("mkdir", "-p", target)
		} else {
			line("mkdir", "-p", filepath.Dir(target))
			line("touch", target)
		}
		line("mount", "--bind", m.source, target)
		if m.readOnly {
			line("mount", "-o", "remount,bind,ro", target)
		}
	}
	for _, dir := range []string{"proc", "sys"} {
		line("mkdir", "-p", filepath.Join(c.root, dir))
		line("mount", "-t", map[string]string{"proc": "proc", "sys": "sysfs"}[dir], dir, filepath.Join(c.root, dir))
	}
	fmt.Fprintf(&script, "echo 0x9 >'%s'\n", filepath.Join(c.root, "sys/class/net/lo/flags")) // up
	if service.ReadOnly {
		line("mount", "-o", "remount,bind,ro", c.root)
	}
	line("echo", "mounted")
	line("exec", "sleep", "infinity")
	file := filepath.Join(e.t.TempDir(), "mount-"+name)
	if err := os.WriteFile(file, []byte(script.String()), 0o600); err != nil {
		e.t.Fatal(err)
	}
	holder := harness.StartProcess(e.t, "/", os.Environ(), find(e.t, "unshare"),
		"--mount", "--net", "--pid", "--fork", "--kill-child", "--propagation", "private", "sh", file)
	holder.Line(limit, `line "mounted" (mounting needs root)`, func(line string) bool { return line == "mounted" })
	c.init = child(e.t, holder.PID())
	if _, ok := service.Networks["db"]; ok {
		c.forward("127.0.0.2:3306", e.database)
	}
	return c
}

// mounts are those of a service, each after those that it lies in.
func (e *engine) mounts(service types.ServiceConfig) []mount {
	var out []mount
	for _, v := range service.Volumes {
		m := mount{v.Source, v.Target, v.ReadOnly}
		if v.Type == types.VolumeTypeVolume {
			m.source = e.volume(v.Source, v.Target)
		}
		out = append(out, m)
	}
	for _, c := range service.Configs {
		out = append(out, mount{e.project.Configs[c.Source].File, c.Target, true})
	}
	for _, s := range service.Secrets {
		target := cmp.Or(s.Target, s.Source)
		if !path.IsAbs(target) {
			target = path.Join("/run/secrets", target)
		}
		out = append(out, mount{e.project.Secrets[s.Source].File, target, true})
	}
	slices.SortFunc(out, func(a, b mount) int { return strings.Compare(a.target, b.target) })
	return out
}

// volume returns the directory of a named volume. A new one becomes a copy of the
// directory of the image that it is mounted on first.
func (e *engine) volume(name, target string) string {
	if dir, ok := e.volumes[name]; ok {
		return dir
	}
	dir := filepath.Join(e.t.TempDir(), name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		e.t.Fatal(err)
	}
	if from := filepath.Join(e.image.root, target); isDir(from) {
		run(e.t, "cp", "-a", from+"/.", dir)
	}
	e.volumes[name] = dir
	return dir
}

func isDir(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}

func find(t *testing.T, program string) string {
	t.Helper()
	file, err := exec.LookPath(program)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// child returns the one child of a process: unshare and nsenter start what they
// were told to start and wait for it.
func child(t *testing.T, pid int) int {
	t.Helper()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	ask := time.NewTicker(5 * time.Millisecond)
	defer ask.Stop()
	for {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
		if err != nil {
			t.Fatal(err)
		}
		if n, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
			return n
		}
		select {
		case <-ask.C:
		case <-deadline.C:
			t.Fatalf("process %d has the children %q after %s, want one", pid, text, limit)
		}
	}
}

// exec runs a program of the container as its user, with the environment of the
// service.
func (c *container) exec(args ...string) *harness.Process {
	t := c.engine.t
	t.Helper()
	// An engine that is behind a proxy says so to each container.
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME=" + c.service.Name,
		"HTTP_PROXY=http://127.0.0.1:9", "NO_PROXY=" + publicHost}
	for _, name := range slices.Sorted(maps.Keys(c.service.Environment)) {
		if value := c.service.Environment[name]; value != nil {
			env = append(env, name+"="+*value)
		}
	}
	command := []string{find(t, "nsenter"), "--mount", "--net", "--pid", "--target", strconv.Itoa(c.init),
		find(t, "chroot"), fmt.Sprintf("--userspec=%d:%d", c.engine.image.uid, c.engine.image.gid), "--groups=", c.root}
	if slices.Contains(c.service.SecurityOpt, "no-new-privileges:true") {
		command = append([]string{find(t, "setpriv"), "--no-new-privs"}, command...)
	}
	command = append(command, args...)
	return harness.StartProcess(t, "/", env, command[0], command[1:]...)
}

// start starts what the service runs.
func (c *container) start() {
	command := []string(c.service.Command)
	if command == nil {
		command = c.engine.image.cmd
	}
	c.main = c.exec(append(slices.Clone(c.engine.image.entrypoint), command...)...)
}

// pid is the process that the service runs.
func (c *container) pid() int { return child(c.engine.t, c.main.PID()) }

// stop ends it as an engine does, which kills what does not heed.
func (c *container) stop() {
	t := c.engine.t
	t.Helper()
	if err := syscall.Kill(c.pid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := c.main.Wait(time.Duration(*c.service.StopGracePeriod)); code != 0 {
		t.Errorf("%s exits with %d after SIGTERM, want 0", c.service.Name, code)
	}
}

// healthy asks once as the service's health check says, and returns what that
// prints.
func (c *container) healthy() (bool, string) {
	t := c.engine.t
	t.Helper()
	test := c.service.HealthCheck.Test
	if len(test) < 2 || test[0] != "CMD" {
		t.Fatalf("the health check of %s is %q; there is no shell in the image", c.service.Name, test)
	}
	p := c.exec(test[1:]...)
	code := p.Wait(time.Duration(*c.service.HealthCheck.Timeout))
	if code != 0 && code != 1 {
		t.Fatalf("the health check of %s exits with %d, want 0 or 1: %s", c.service.Name, code, p.Output())
	}
	return code == 0, p.Output()
}

// wait asks until the answer of the health check is want.
func (c *container) wait(want bool) string {
	t := c.engine.t
	t.Helper()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	for {
		got, output := c.healthy()
		if got == want {
			return output
		}
		select {
		case <-deadline.C:
			t.Fatalf("%s is healthy: %v after %s, want %v: %s", c.service.Name, got, limit, want, output)
		default:
		}
	}
}

// inside runs f in the network of the container. The thread comes back: were it
// to end, the kernel would kill the processes that it has started.
func (c *container) inside(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	here, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer here.Close()
	there, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", c.init))
	if err != nil {
		return err
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	err = f()
	if back := unix.Setns(int(here.Fd()), unix.CLONE_NEWNET); back != nil {
		panic(back) // a thread in the wrong network must not run anything else
	}
	return err
}

// forward passes connections to an address in the container on to one of this
// machine.
func (c *container) forward(from, to string) {
	t := c.engine.t
	t.Helper()
	var l net.Listener
	if err := c.inside(func() (err error) { l, err = net.Listen("tcp", from); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				server, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				defer server.Close()
				go func() { io.Copy(server, conn); server.Close() }()
				io.Copy(conn, server)
			}()
		}
	}()
}

// client reaches the container by the name that its URL has.
func (c *container) client() *http.Client {
	return &http.Client{Timeout: limit, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(_ context.Context, network, address string) (conn net.Conn, err error) {
			host, port, err := net.SplitHostPort(address)
			if err == nil && host != publicHost {
				err = errors.New("the test asks " + host)
			}
			if err != nil {
				return nil, err
			}
			err = c.inside(func() (err error) {
				conn, err = net.Dial(network, net.JoinHostPort("127.0.0.1", port))
				return err
			})
			return conn, err
		},
	}}
}
