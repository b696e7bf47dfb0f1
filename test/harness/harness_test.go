package harness

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

// TestServer stops, kills and restarts a server; it must keep its addresses and
// its data.
func TestServer(t *testing.T) {
	t.Parallel()
	s := Start(t)
	url := s.URL
	key := filepath.Join(s.Dir, "keys", "rekorv1.pem")
	before, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	s.Stop()
	s.Restart()
	s.Kill()
	s.Kill() // the second one finds nothing to do
	s.Restart()
	after, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	if s.URL != url || string(before) != string(after) {
		t.Error("a restart changes the URL or the key of the log")
	}
	if !strings.Contains(s.Log(), `"msg":"serving"`) {
		t.Error("Log lacks the line that the harness waited for")
	}
}

// TestClient looks at what a client gets of the world around it.
func TestClient(t *testing.T) {
	t.Setenv("SIGSTORE_ROOT_FILE", "/from/the/caller")
	c := NewClient(t)
	c.Setenv("GREETING", "hello")
	env := c.Run("env").Stdout
	for _, want := range []string{"GREETING=hello\n", "HOME=" + c.Dir + "\n", "HTTPS_PROXY=http://127.0.0.1:9\n"} {
		if !strings.Contains(env, want) {
			t.Errorf("the environment lacks %q\n%s", want, env)
		}
	}
	if strings.Contains(env, "SIGSTORE") {
		t.Errorf("the environment has a variable of the caller\n%s", env)
	}

	// 192.0.2.1 belongs to nobody (RFC 5737), and the answer does not depend on
	// it: the proxy refuses first.
	c.Refuse("127.0.0.1 port 9", "curl", "--silent", "--show-error", "http://192.0.2.1/")

	c.Install("curl", "echo mine")
	if out := c.Run("curl").Stdout; out != "mine\n" {
		t.Errorf("an installed command prints %q, want that it comes first", out)
	}
	c.Refuse("refused", "sh", "-c", "echo refused >&2; exit 3")
}

// TestProcess checks that a killed process takes its children with it.
func TestProcess(t *testing.T) {
	t.Parallel()
	c := NewClient(t)
	// The child holds the output open: Kill returns only after it is gone too.
	p := c.Start("sh", "-c", "sleep 600 & echo started; wait")
	p.Line(10*time.Second, "line", func(line string) bool { return line == "started" })
	p.Kill()
	if code := p.Wait(10 * time.Second); code != -1 {
		t.Errorf("exit code %d of a killed process, want -1", code)
	}

	p = c.Start("sh", "-c", "echo one; echo two >&2; exit 7")
	if code := p.Wait(10 * time.Second); code != 7 {
		t.Errorf("exit code %d, want 7", code)
	}
	if out := p.Output(); !strings.Contains(out, "one") || !strings.Contains(out, "two") {
		t.Errorf("output %q, want both streams", out)
	}
}
