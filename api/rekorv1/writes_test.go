package rekorv1

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sigstack/sigstack/api/writes"
	"github.com/sigstack/sigstack/ca/limit"
)

const someToken = "sigstack-write-AAAA"

// TestWrites: which request is refused by what, what it counts for, and that reading is free.
func TestWrites(t *testing.T) {
	const pathWrite = "/api/v1/log/entries"
	var reasons []string
	count := func(c *Config) { c.Refused = func(reason string) { reasons = append(reasons, reason) } }
	key := string(vectorNamed(t, "hashedrekord-p256").Request)
	broken := strings.Replace(key, `"kind"`, `"kind": 1, "kind"`, 1)
	other := string(vectorNamed(t, "hashedrekord-p384-sha384").Request)

	// One entry of each identity: what is not added does not count for it.
	s := newServerWith(t, 1<<20, func(c *Config) {
		count(c)
		c.Writes = writes.New(writes.Config{PerIdentity: limit.Limit{Number: 1, Per: time.Hour}, Issued: func(*x509.Certificate) bool { return false }, Now: func() time.Time { return time.Unix(0, 0) }})
	})
	want := func(body string, status int, text string, header ...string) answer {
		t.Helper()
		got := s.do(t, "POST", pathWrite, body, header...)
		if got.status != status || !strings.Contains(got.body, text) {
			t.Fatalf("%d %s, want %d %s", got.status, got.body, status, text)
		}
		return got
	}
	want(broken, 400, "twice")
	s.signer.broken.Store(true) // the entry is added, and the answer fails
	want(key, 503, "whether the entry was added is not known")
	s.signer.broken.Store(false)
	limited := want(key, 429, "too many entries by this identity: 1 per 1h0m0s are allowed; try again in 3600 s")
	if limited.header.Get("Retry-After") != "3600" {
		t.Errorf("Retry-After %q", limited.header.Get("Retry-After"))
	}
	want(other, 201, "")
	want(other, 429, "by this identity")
	if got := s.do(t, "GET", pathWrite+"?logIndex=0", ""); got.status != 200 {
		t.Errorf("reading: %d %s", got.status, got.body)
	}
	if !slices.Equal(reasons, []string{"per-identity", "per-identity"}) {
		t.Errorf("%v", reasons)
	}

	// A duplicate does not count for the identity, as often as it comes.
	s = newServerWith(t, 1<<20, func(c *Config) {
		c.Writes = writes.New(writes.Config{PerIdentity: limit.Limit{Number: 2, Per: time.Hour}, Issued: func(*x509.Certificate) bool { return false }, Now: func() time.Time { return time.Unix(0, 0) }})
	})
	want(key, 201, "")
	for range 3 {
		want(key, 409, "an equivalent entry already exists")
	}

	// It counts for the address, and so does a mistake.
	s = newServerWith(t, 1<<20, func(c *Config) {
		c.Writes = writes.New(writes.Config{PerIP: limit.Limit{Number: 3, Per: time.Hour}, Now: func() time.Time { return time.Unix(0, 0) }})
	})
	want(key, 201, "")
	want(key, 409, "")
	want(broken, 400, "")
	want(other, 429, "too many entries from this address: 3 per 1h0m0s are allowed; try again in 1200 s")

	// Credentials, before anything is read of the body.
	reasons = nil
	s = newServerWith(t, 1<<10, func(c *Config) {
		count(c)
		c.Writes = writes.New(writes.Config{Credentials: func() *writes.Credentials {
			return &writes.Credentials{Tokens: []writes.Token{{Name: "ci", Digest: sha256.Sum256([]byte(someToken))}}}
		}})
	})
	long := strings.Repeat(" ", 2<<10)
	for _, authorization := range []string{"", "Bearer " + someToken + "x"} {
		got := want(long, 401, "bearer token", "Authorization", authorization)
		if !strings.HasPrefix(got.header.Get("WWW-Authenticate"), "Bearer ") || strings.Contains(got.body, someToken) {
			t.Errorf("%v %s", got.header, got.body)
		}
	}
	want(long, 413, "Limit set to 1024", "Authorization", "Bearer "+someToken)
	for _, path := range []string{"/api/v1/log", "/api/v1/log/publicKey"} {
		if got := s.do(t, "GET", path, ""); got.status != 200 {
			t.Errorf("reading: %s: %d %s", path, got.status, got.body)
		}
	}
	if got := s.do(t, "POST", pathWrite+"/retrieve", `{"logIndexes":[0]}`); got.status != 200 {
		t.Errorf("reading: %d %s", got.status, got.body)
	}
	if !slices.Equal(reasons, []string{"no-credentials", "bad-token", "size"}) || strings.Contains(s.logged.String(), someToken) {
		t.Errorf("%v %s", reasons, s.logged)
	}
}

// TestAlgorithms takes some, and refuses an entry that has any other.
func TestAlgorithms(t *testing.T) {
	var reasons []string
	s := newServerWith(t, 1<<20, func(c *Config) {
		c.Algorithms = []string{"ecdsa-sha2-256-nistp256", "ed25519"}
		c.Refused = func(reason string) { reasons = append(reasons, reason) }
	})
	seen := map[int]int{}
	for _, name := range []string{"hashedrekord-p256", "rekord-x509-p256", "hashedrekord-p384-sha384", "hashedrekord-ed25519ph-sha512", "rekord-minisign"} {
		request := vectorNamed(t, name).Request
		got := s.do(t, "POST", "/api/v1/log/entries", string(request))
		seen[got.status]++
		algorithm := map[string]string{"hashedrekord-p384-sha384": "ecdsa-sha2-384-nistp384", "hashedrekord-ed25519ph-sha512": "ed25519-ph", "rekord-minisign": "minisign"}[name]
		text := "201"
		if algorithm != "" {
			text = `400 {"code":400,"message":"error processing entry: entry algorithms are not allowed: it is signed by ` + algorithm + `; this server takes ecdsa-sha2-256-nistp256, ed25519"}` + "\n"
		}
		if got := strconv.Itoa(got.status) + " " + got.body; !strings.HasPrefix(got, text) {
			t.Errorf("%s: %s, want %s", name, got, text)
		}
	}
	if seen[201] != 2 || seen[400] != 3 || len(reasons) != 3 || reasons[0] != "algorithm" {
		t.Errorf("%v %v", seen, reasons)
	}
	// What is in the log from before can be asked for.
	query := fmt.Sprintf(`{"entries":[%s]}`, vectorNamed(t, "hashedrekord-p384-sha384").Request)
	if got := s.do(t, "POST", "/api/v1/log/entries/retrieve", query); got.status != 200 {
		t.Errorf("%d %s", got.status, got.body)
	}
}
