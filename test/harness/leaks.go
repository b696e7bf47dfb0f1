package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Leaks looks for what must not be seen outside: secrets, and how the server
// works inside. It reads log lines and answers. It is safe for concurrent use.
type Leaks struct {
	mu      sync.Mutex
	secret  map[string]string // text -> what it is; in neither logs nor answers
	inside  map[string]string // in no answer
	found   []string
	scanned int64 // bytes
}

// NewLeaks returns a Leaks that knows the words by which internals are told.
func NewLeaks() *Leaks {
	l := &Leaks{secret: map[string]string{}, inside: map[string]string{}}
	for _, word := range []string{"SELECT ", "INSERT INTO", "INSERT OR", "PRAGMA ", "UPDATE log", "DELETE FROM", "-----BEGIN EC PRIVATE", "-----BEGIN PRIVATE"} {
		l.secret[word] = "words of SQL or of a key file"
	}
	for _, word := range []string{"sqlite", "SQLITE", ".go:", "goroutine ", "log.db", "audit.db", "failpoint", "no space left", "input/output error"} {
		l.inside[word] = "words from the inside of the server"
	}
	return l
}

// Secret adds a text that neither a log line nor an answer may hold.
func (l *Leaks) Secret(text, what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.secret[text] = what
}

// Keys adds what is in the key files of a data directory, and its path, which
// may stand in logs where an operator needs it, but in no answer.
func (l *Leaks) Keys(t testing.TB, dir string) {
	t.Helper()
	keys, err := filepath.Glob(filepath.Join(dir, "keys", "*.pem"))
	if err != nil || len(keys) == 0 {
		t.Fatalf("no keys in %s (%v)", dir, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inside[dir] = "the path of the data directory"
	for _, file := range keys {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), "PRIVATE KEY") {
			continue
		}
		// PKCS #8 of an EC key has the private part in its second line; that of
		// an RSA key ends with primes and exponents. The rest is public.
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		lines = lines[1 : len(lines)-1]
		private := lines[1:2]
		if len(lines) > 10 {
			private = lines[len(lines)*2/3 : len(lines)-1]
		}
		for _, line := range private {
			l.secret[line[:32]] = "key bytes of " + filepath.Base(file)
		}
	}
}

// answer looks at an answer.
func (l *Leaks) answer(from, text string) {
	if l == nil {
		return
	}
	l.look(from, text, true)
}

// logLine looks at a line that the server printed.
func (l *Leaks) logLine(line string) {
	l.look("log", line, false)
	if strings.Contains(line, `"msg":"serving"`) || strings.Contains(line, `"level":"ERROR"`) || !strings.HasPrefix(line, "{") {
		return // for the operator
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for text, what := range l.inside {
		if strings.HasPrefix(text, "/") && strings.Contains(line, text) {
			l.add("log", what, line)
		}
	}
}

func (l *Leaks) look(from, text string, answer bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.scanned += int64(len(text))
	for secret, what := range l.secret {
		if strings.Contains(text, secret) {
			l.add(from, what, text)
		}
	}
	if !answer {
		return
	}
	for word, what := range l.inside {
		if strings.Contains(text, word) {
			l.add(from, what, text)
		}
	}
}

// add keeps the first findings.
func (l *Leaks) add(from, what, text string) {
	if len(l.found) < 20 {
		l.found = append(l.found, fmt.Sprintf("%s has %s: %.200q", from, what, text))
	}
}

// Found returns what was found, and how many bytes were looked at.
func (l *Leaks) Found() ([]string, int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.found...), l.scanned
}
