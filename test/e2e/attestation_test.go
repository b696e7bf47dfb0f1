package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sigstack/sigstack/test/harness"
)

// recordedRequest returns the request of a recorded entry.
func recordedRequest(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(harness.Root(t), "test", "vectors", "rekor", name+".json"))
	var vector struct{ Request json.RawMessage }
	if err == nil {
		err = json.Unmarshal(text, &vector)
	}
	if err != nil {
		t.Fatal(err)
	}
	return vector.Request
}

// submit posts an entry.
func submit(t *testing.T, server *harness.Server, proposed []byte) (status int, header http.Header, body string) {
	t.Helper()
	res, err := http.Post(server.URL+"/api/v1/log/entries", "application/json", bytes.NewReader(proposed))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, res.Header, string(text)
}

// TestBucket keeps attestations in a directory: clients see them as ever. Somebody
// changes one; it is told of and not shown.
func TestBucket(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server := harness.Start(t, "--config", harness.Config(t, "rekor: {attestations: {storage: bucket, bucket: 'file://"+dir+"'}}\n"))
	uploadInToto(t, server)
	uploadCOSE(t, server)
	status, header, body := submit(t, server, recordedRequest(t, "intoto-002"))
	if status != http.StatusCreated {
		t.Fatalf("status %d: %s", status, body)
	}
	entry := server.URL + header.Get("Location")
	if got := get(t, entry); !bytes.Contains(got, []byte(`"attestation"`)) {
		t.Errorf("the entry is shown without its attestation: %s", got)
	}
	checkPublic(t, server)

	names, err := filepath.Glob(filepath.Join(dir, "sha256*"))
	if err != nil || len(names) < 3 {
		t.Fatalf("%d objects, %v", len(names), err)
	}
	for _, name := range names {
		if err := os.WriteFile(name, []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := get(t, entry); bytes.Contains(got, []byte(`"attestation"`)) {
		t.Errorf("an attestation that was changed is shown: %s", got)
	}
	if metrics := string(get(t, server.Ops+"/metrics")); !strings.Contains(metrics, `sigstack_rekor_attestation_failures_total{reason="corrupt"} 1`) || !strings.Contains(server.Log(), "attestation is not what its entry says") {
		t.Error("an attestation that was changed is not told of")
	}
	checkPublic(t, server) // the log is as good as it was
}

// TestBucketAway starts a server whose bucket nobody serves. What needs the bucket is
// refused for a while; everything else goes on.
func TestBucketAway(t *testing.T) {
	t.Parallel()
	const secret = "wJalrXUtnFEMI-K7MDENG-bPxRfiCYEXAMPLEKEY"
	url := "s3://attestations?region=us-east-1&use_path_style=true&endpoint=http://" + harness.FreeAddr(t)
	config := harness.Config(t, "rekor: {attestations: {storage: bucket, bucket: '"+url+"'}}\n")
	server := harness.StartWith(t, harness.Options{
		Args: []string{"--config", config}, Env: []string{"AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY=" + secret},
	})
	status, header, body := submit(t, server, recordedRequest(t, "intoto-002"))
	if status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" || strings.Contains(body, "attestations") {
		t.Errorf("an entry whose attestation cannot be kept: status %d, %v: %s", status, header, body)
	}
	for _, name := range []string{"hashedrekord-p256", "dsse-p256"} {
		status, header, body := submit(t, server, recordedRequest(t, name))
		if status != http.StatusCreated {
			t.Fatalf("%s: status %d: %s", name, status, body)
		}
		get(t, server.URL+header.Get("Location"))
	}
	get(t, server.Ops+"/readyz")
	var log struct{ TreeSize int }
	if getJSON(t, server.URL+"/api/v1/log", &log); log.TreeSize != 2 {
		t.Errorf("the log has %d entries, want 2", log.TreeSize)
	}
	metrics := string(get(t, server.Ops+"/metrics"))
	if !strings.Contains(metrics, `sigstack_rekor_attestation_failures_total{reason="unavailable"} 1`) {
		t.Error("the failure is not counted")
	}
	if text := fmt.Sprint(server.Log(), metrics); strings.Contains(text, secret) {
		t.Error("the credentials are told")
	}
}
