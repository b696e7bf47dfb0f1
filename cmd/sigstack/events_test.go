package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBearerToken reads tokens of every sort. None of them gets into an error.
func TestBearerToken(t *testing.T) {
	if token, err := bearerToken(""); token != "" || err != nil {
		t.Errorf("without a file: %q, %v", token, err)
	}
	path := filepath.Join(t.TempDir(), "token")
	for text, want := range map[string]string{
		"hunter2\n": "", "hunter2": "", "hunter 2": "something else than a token", "hunter2\nX-Admin: 1": "something else than a token",
		"hunter\t2": "something else than a token", "huntér2": "something else than a token", "\n": "is empty",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		token, err := bearerToken(path)
		switch {
		case want == "":
			if token != "hunter2" || err != nil {
				t.Errorf("%q: %q, %v", text, token, err)
			}
		case err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunt"):
			t.Errorf("%q: %v, want %q and no secret", text, err, want)
		}
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := command(t, "serve", "--dev", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--data-dir", filepath.Join(t.TempDir(), "data"),
		"--config", writeConfig(t, "rekor: {events: {webhook: 'https://hooks.example.com', webhook-token-file: "+path+"}}\n"))
	if code != exitError || !strings.Contains(stderr, "rekor.events.webhook-token-file: ") || !strings.Contains(stderr, "0600") {
		t.Errorf("a token that others can read: exit code %d, %s", code, stderr)
	}
}
