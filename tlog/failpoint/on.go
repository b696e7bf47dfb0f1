//go:build failpoints

package failpoint

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A point is one element of SIGSTACK_FAILPOINTS.
type point struct {
	name, log, action string
	at                int  // the hit that it is for; 0 for every one
	on                bool // and all after it
	hits              int
}

var (
	once   sync.Once
	mu     sync.Mutex
	points []*point
)

// read reads the environment, once. What is malformed ends the process: a
// fault test that tests nothing must not pass.
func read() {
	for _, s := range strings.Split(os.Getenv("SIGSTACK_FAILPOINTS"), ",") {
		if s == "" {
			continue
		}
		name, action, ok := strings.Cut(s, "=")
		action, hit, counted := strings.Cut(action, "@")
		name, log, _ := strings.Cut(name, ":")
		p := &point{name: name, log: log, action: action, at: 1}
		var err error
		if counted && hit == "*" {
			p.at = 0
		} else if counted {
			hit, p.on = strings.CutSuffix(hit, "+")
			p.at, err = strconv.Atoi(hit)
		}
		if !ok || err != nil {
			fmt.Fprintf(os.Stderr, "failpoint: %q is malformed\n", s)
			os.Exit(3)
		}
		points = append(points, p)
	}
}

// due returns the action of a point, if this hit is the one. The file is one
// of the log that hits it.
func due(name, file string) string {
	once.Do(read)
	mu.Lock()
	defer mu.Unlock()
	action := ""
	for _, p := range points {
		if p.name != name || p.log != "" && p.log != filepath.Base(filepath.Dir(file)) {
			continue
		}
		if p.hits++; p.at == 0 || p.hits == p.at || p.on && p.hits > p.at {
			action = p.action
		}
	}
	return action
}

// Hit does what the environment says of a point.
func Hit(name, file string) error {
	switch action := due(name, file); {
	case action == "kill":
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // until it arrives
	case action == "error":
		return fmt.Errorf("failpoint %s", name)
	case strings.HasPrefix(action, "sleep:"):
		d, err := time.ParseDuration(strings.TrimPrefix(action, "sleep:"))
		if err != nil {
			fmt.Fprintf(os.Stderr, "failpoint: %s: %v\n", name, err)
			os.Exit(3)
		}
		time.Sleep(d)
	}
	return nil
}

// Flip flips one bit of b, in the middle.
func Flip(name, file string, b []byte) {
	if due(name, file) == "flip" {
		b[len(b)/2] ^= 1
	}
}

// Now returns the time that SIGSTACK_CLOCK makes of the time.
func Now() time.Time {
	now := time.Now()
	file := os.Getenv("SIGSTACK_CLOCK")
	if file == "" {
		return now
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return now
	}
	s := strings.TrimSpace(string(text))
	if at, ok := strings.CutPrefix(s, "frozen "); ok {
		if t, err := time.Parse(time.RFC3339Nano, at); err == nil {
			return t
		}
	} else if d, err := time.ParseDuration(s); err == nil {
		return now.Add(d)
	}
	fmt.Fprintf(os.Stderr, "failpoint: %s: %q is neither a duration nor \"frozen\" and a time\n", file, s)
	os.Exit(3)
	return now
}
