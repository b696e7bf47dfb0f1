package bucket_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sigstack/sigstack/storage/bucket"
	"github.com/sigstack/sigstack/tlog"
)

func open(t *testing.T, url string) *bucket.Bucket {
	t.Helper()
	b, err := bucket.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// check keeps attestations, twice and several at a time, and reads them back.
func check(t *testing.T, b *bucket.Bucket) {
	t.Helper()
	ctx := t.Context()
	large := make([]byte, bucket.MaxAttestation)
	rand.Read(large)
	all := [][]byte{[]byte("{}"), {0}, large}
	for n := range 40 {
		all = append(all, fmt.Appendf(nil, "attestation %d", n))
	}
	var writers sync.WaitGroup
	for _, a := range all {
		if b, err := b.Attestation(ctx, sha256.Sum256(a)); b != nil || err != nil {
			t.Fatalf("before it was kept: %q, %v", b, err)
		}
		for range 2 {
			writers.Go(func() {
				if err := b.Keep(ctx, sha256.Sum256(a), a); err != nil {
					t.Error(err)
				}
			})
		}
	}
	writers.Wait()
	for _, a := range all {
		if got, err := b.Attestation(ctx, sha256.Sum256(a)); err != nil || !bytes.Equal(got, a) {
			t.Errorf("%d bytes, %v; want %d", len(got), err, len(a))
		}
	}
	many := make([]tlog.Attestation, 100)
	for n := range many {
		text := fmt.Appendf(nil, "one of many, %d", n)
		many[n] = tlog.Attestation{Hash: sha256.Sum256(text), Bytes: text}
	}
	if err := b.KeepAll(ctx, many); err != nil {
		t.Fatal(err)
	}
	for _, a := range many {
		if got, err := b.Attestation(ctx, a.Hash); err != nil || !bytes.Equal(got, a.Bytes) {
			t.Errorf("%q, %v; want %q", got, err, a.Bytes)
		}
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if err := b.KeepAll(gone, many); !errors.Is(err, context.Canceled) {
		t.Errorf("nobody waits: %v", err)
	}
	// Somebody has put a larger object there: no more of it is read than shows that.
	if err := b.Keep(ctx, tlog.Hash{1}, append(large, large...)); err != nil {
		t.Fatal(err)
	}
	if got, err := b.Attestation(ctx, tlog.Hash{1}); err != nil || len(got) != bucket.MaxAttestation+1 {
		t.Errorf("%d bytes of a larger object, %v", len(got), err)
	}
}

func TestMemory(t *testing.T) { check(t, open(t, "mem://")) }

func TestDirectory(t *testing.T) {
	dir := t.TempDir()
	b := open(t, "file://"+dir)
	check(t, b)
	names, err := filepath.Glob(filepath.Join(dir, "sha256*"))
	if err != nil || len(names) < 44 {
		t.Errorf("%d files, %v", len(names), err)
	}
	check(t, open(t, "file://"+dir+"?prefix=rekor/")) // another bucket, as it were

	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Attestation(t.Context(), tlog.Hash{2}); err == nil || !strings.Contains(err.Error(), "there is no such bucket") {
		t.Errorf("an attestation of a directory that is gone: %v", err)
	}
	if _, err := bucket.Open(t.Context(), "file://"+dir); err == nil {
		t.Error("a directory was opened that is not there")
	}
}

// TestS3 speaks to a server of that protocol, which has one bucket.
func TestS3(t *testing.T) {
	fake := &s3{objects: map[string][]byte{}}
	server := httptest.NewServer(fake)
	defer server.Close()
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "hunter2hunter2")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(t.TempDir(), "none"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(t.TempDir(), "none"))
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	url := func(name string) string {
		return "s3://" + name + "?region=us-east-1&use_path_style=true&endpoint=" + server.URL
	}
	b := open(t, url("attestations"))
	check(t, b)
	for name := range fake.objects {
		if !strings.HasPrefix(name, "sha256:") || len(name) != 71 {
			t.Errorf("an object is called %q", name)
		}
	}

	other := open(t, url("elsewhere"))
	if err := other.Keep(t.Context(), tlog.Hash{1}, []byte("x")); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("kept in a bucket that does not exist: %v", err)
	}
	if got, err := other.Attestation(t.Context(), tlog.Hash{1}); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a bucket that does not exist has %q, %v", got, err)
	}
	fake.refuse.Lock()
	fake.away = true
	fake.refuse.Unlock()
	if _, err := b.Attestation(t.Context(), sha256.Sum256([]byte("{}"))); err == nil {
		t.Error("read where the server fails")
	}
	server.Close()
	if err := b.Keep(t.Context(), tlog.Hash{1}, []byte("x")); err == nil {
		t.Error("kept where no server is")
	}
}

// s3 is as much of an S3 server as a bucket of attestations needs.
type s3 struct {
	refuse  sync.Mutex // of all fields
	away    bool
	objects map[string][]byte
}

func (s *s3) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.refuse.Lock()
	defer s.refuse.Unlock()
	fail := func(status int, code string) {
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		if r.Method != http.MethodHead {
			fmt.Fprintf(w, "<Error><Code>%s</Code></Error>", code)
		}
	}
	name, isObject := strings.CutPrefix(r.URL.Path, "/attestations/")
	switch object, ok := s.objects[name]; {
	case s.away:
		fail(http.StatusInternalServerError, "InternalError")
	case !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/"):
		fail(http.StatusForbidden, "AccessDenied")
	case !isObject && r.URL.Path != "/attestations":
		fail(http.StatusNotFound, "NoSuchBucket")
	case r.Method == http.MethodPut:
		body, err := content(r)
		if err != nil {
			fail(http.StatusBadRequest, "InvalidRequest")
			return
		}
		s.objects[name] = body
	case !isObject && r.URL.Query().Get("list-type") == "2":
		w.Header().Set("Content-Type", "application/xml")
		xml.NewEncoder(w).Encode(struct {
			XMLName xml.Name `xml:"ListBucketResult"`
			Name    string
		}{Name: "attestations"})
	case !ok:
		fail(http.StatusNotFound, "NoSuchKey")
	default:
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(object))
	}
}

// content returns what is put, of which chunks may be signed on their own.
func content(r *http.Request) ([]byte, error) {
	if !strings.Contains(r.Header.Get("Content-Encoding"), "aws-chunked") {
		return io.ReadAll(r.Body)
	}
	var out []byte
	for in := bufio.NewReader(r.Body); ; {
		line, err := in.ReadString('\n')
		if err != nil {
			return nil, err
		}
		digits, _, _ := strings.Cut(strings.TrimSpace(line), ";")
		n, err := strconv.ParseUint(digits, 16, 32)
		if err != nil || n == 0 {
			return out, err
		}
		chunk := make([]byte, n+2)
		if _, err := io.ReadFull(in, chunk); err != nil {
			return nil, err
		}
		out = append(out, chunk[:n]...)
	}
}

// TestAzure is refused, with a signature in the URL of its request.
func TestAzure(t *testing.T) {
	t.Setenv("AZURE_STORAGE_ACCOUNT", "sigstack")
	t.Setenv("AZURE_STORAGE_SAS_TOKEN", "sv=2024-01-01&sig=hunter2")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.URL.RawQuery, "hunter2") {
			t.Errorf("a request without the signature: %s", r.URL)
		}
		w.WriteHeader(http.StatusForbidden)
	}))
	defer server.Close()
	t.Setenv("AZURE_STORAGE_DOMAIN", strings.TrimPrefix(server.URL, "http://"))
	t.Setenv("AZURE_STORAGE_PROTOCOL", "http")
	t.Setenv("AZURE_STORAGE_IS_LOCAL_EMULATOR", "true")
	b := open(t, "azblob://attestations")
	if err := b.Keep(t.Context(), tlog.Hash{1}, []byte("x")); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%v", err)
	}
	if _, err := b.Attestation(t.Context(), tlog.Hash{1}); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%v", err)
	}
}

func TestCheck(t *testing.T) {
	for url, want := range map[string]string{
		"s3://attestations":               "",
		"s3://attestations?prefix=rekor/": "",
		"gs://attestations":               "",
		"azblob://attestations":           "",
		"file:///var/lib/attestations":    "",
		"mem://":                          "",
		"":                                "begins with one of s3://, gs://, azblob://, file://, mem://",
		"attestations":                    "begins with one of",
		"https://attestations.s3.com":     "begins with one of",
		"s3://":                           "want s3://bucket",
		"gs:///attestations":              "want gs://bucket",
		"s3://attestations/rekor":         "?prefix=path/",
		"s3://key:hunter2@attestations":   "credentials come from the environment",
		"file://attestations":             "want file:///path",
		"file://":                         "want file:///path",
		"file:///":                        "want file:///path",
		"s3://%zz:hunter2":                "begins with one of",
	} {
		err := bucket.Check(url)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2")) {
			t.Errorf("%q: %v, want %q", url, err, want)
		}
		if want == "" {
			continue
		}
		if _, err := bucket.Open(t.Context(), url); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is opened: %v", url, err)
		}
	}
}

// TestName keeps the name that rekor-server gives an object.
func TestName(t *testing.T) {
	dir := t.TempDir()
	sum := sha256.Sum256([]byte("{}"))
	if err := os.WriteFile(filepath.Join(dir, "sha256:"+hex.EncodeToString(sum[:])), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := open(t, "file://"+dir).Attestation(t.Context(), sum); err != nil || string(got) != "{}" {
		t.Errorf("%q, %v", got, err)
	}
}
