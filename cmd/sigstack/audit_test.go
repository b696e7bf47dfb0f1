package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sigstack/sigstack/ca"
	"github.com/sigstack/sigstack/ca/catest"
	"github.com/sigstack/sigstack/ca/identity"
	"github.com/sigstack/sigstack/storage/audit"
	"github.com/sigstack/sigstack/storage/sqlite"
)

// An auditedCA is a CA whose rows are in a file.
type auditedCA struct {
	*ca.CA
	log      *catest.Log
	rows     *sqlite.Audit
	verifier *identity.Verifier
}

func newAuditedCA(t *testing.T, file string, chain *ca.Chain, issuer *catest.Issuer, now func() time.Time) *auditedCA {
	t.Helper()
	a := &auditedCA{log: catest.NewLog(t, now)}
	var err error
	if a.rows, err = sqlite.OpenAudit(file, now); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.rows.Close() })
	if a.CA, err = ca.New(ca.Config{Chain: chain, CTLog: a.log, Audit: auditor{a.rows, now}, Now: now}); err != nil {
		t.Fatal(err)
	}
	a.verifier, err = identity.NewVerifier(identity.Config{Issuers: []identity.Issuer{
		{URL: issuer.URL, ClientID: catest.Audience, Type: "email", Transport: issuer, OneTime: true},
	}}, identity.Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// issue asks for a certificate for a key, with a token.
func (a *auditedCA) issue(t *testing.T, token string, key *ecdsa.PrivateKey) error {
	t.Helper()
	id, err := a.verifier.Verify(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte(id.ProofSubjects()[0]))
	proof, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	proven, err := ca.VerifyProof(key.Public(), id.ProofSubjects(), proof)
	if err != nil {
		t.Fatal(err)
	}
	_, err = a.Issue(t.Context(), ca.Request{Identity: id, Key: proven, RequestID: "request-1"})
	return err
}

func (a *auditedCA) all(t *testing.T) []audit.Row {
	t.Helper()
	var rows []audit.Row
	if err := a.rows.Records(context.Background(), func(r audit.Row) error { rows = append(rows, r); return nil }); err != nil {
		t.Fatal(err)
	}
	return rows
}

func testChain(t *testing.T, now time.Time) *ca.Chain {
	t.Helper()
	issuing := catest.ECDSA(t, elliptic.P256())
	certs, err := ca.CreateHierarchy("Example", catest.ECDSA(t, elliptic.P256()), issuing, now)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := ca.NewChain(certs, issuing)
	if err != nil {
		t.Fatal(err)
	}
	return chain
}

// TestOneTimeTokens uses a token for two keys, before and after a restart.
func TestOneTimeTokens(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	clock := func() time.Time { return now }
	file := filepath.Join(t.TempDir(), "audit.db")
	chain, issuer := testChain(t, now), catest.NewIssuer(t, "https://issuer.example.com")
	a := newAuditedCA(t, file, chain, issuer, clock)
	token := issuer.EmailToken(t, now, "dev@example.com")
	first, second := catest.ECDSA(t, elliptic.P256()), catest.ECDSA(t, elliptic.P256())
	for n, c := range []struct {
		key     *ecdsa.PrivateKey
		granted bool
		restart bool
	}{{first, true, false}, {second, false, false}, {first, true, false}, {second, false, true}, {first, true, false}} {
		if c.restart {
			a.rows.Close()
			a = newAuditedCA(t, file, chain, issuer, clock)
		}
		logged := a.log.Len()
		err := a.issue(t, token, c.key)
		switch {
		case c.granted && err != nil:
			t.Errorf("request %d: %v", n, err)
		case !c.granted && (!errors.Is(err, ca.ErrRequest) || !strings.Contains(err.Error(), "was used for another key already") || a.log.Len() != logged):
			t.Errorf("request %d: %v, and %d entries in the log; want a refusal that says why", n, err, a.log.Len()-logged)
		}
	}
	// Another token is another one, also for the same key.
	now = now.Add(time.Second)
	if err := a.issue(t, issuer.EmailToken(t, now, "dev@example.com"), second); err != nil {
		t.Error(err)
	}
	if rows := a.all(t); len(rows) != 8 {
		t.Errorf("%d rows, want two for each of 4 certificates", len(rows))
	}
}

// TestAuditRows reads what the rows of a certificate say: all claims, as they are,
// and no token; and what is noted of a failure.
func TestAuditRows(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	issuer := catest.NewIssuer(t, "https://issuer.example.com")
	a := newAuditedCA(t, filepath.Join(t.TempDir(), "audit.db"), testChain(t, now), issuer, func() time.Time { return now })
	claims := map[string]any{
		"sub": "subject-1", "email": "dev@example.com", "email_verified": true, "jti": "id-1",
		"groups": []any{"<admins> & more", "\u2028", map[string]any{"deep": nil}}, "long": strings.Repeat(`<"&`, 700),
	}
	token := issuer.Token(t, now, claims)
	key := catest.ECDSA(t, elliptic.P256())
	if err := a.issue(t, token, key); err != nil {
		t.Fatal(err)
	}
	a.log.Err = errors.New("away")
	if err := a.issue(t, token, key); !errors.Is(err, ca.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	a.log.Err = nil
	if err := a.issue(t, token, key); err != nil { // behind what is noted
		t.Fatal(err)
	}
	rows := a.all(t)
	var kinds []string
	for _, r := range rows {
		kinds = append(kinds, string(r.Kind))
		for _, secret := range append(strings.Split(token, "."), token) {
			if strings.Contains(string(r.Record), secret) {
				t.Errorf("the row %s holds a part of the token", r.Kind)
			}
		}
	}
	if got := strings.Join(kinds, " "); got != "intended issued intended failed intended issued" {
		t.Fatalf("rows %s", got)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	var intended intendedRow
	if err := json.Unmarshal(rows[0].Record, &intended); err != nil {
		t.Fatal(err)
	}
	var got, want map[string]any
	id, err := a.verifier.Verify(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(json.Unmarshal(intended.Claims, &got), json.Unmarshal(id.Claims(), &want)); err != nil || fmt.Sprint(got) != fmt.Sprint(want) || len(want) != 10 {
		t.Errorf("claims %v, want the %d of the token (%v)", got, len(want), err)
	}
	if intended.PublicKeySHA256 != fmt.Sprintf("%x", sha256.Sum256(spki)) || intended.SAN != "dev@example.com" || intended.SANKind != "email" ||
		intended.Subject != "subject-1" || intended.TokenID != "id-1" || !intended.OneTime || intended.RequestID != "request-1" ||
		intended.Serial != rows[0].Serial || !intended.NotAfter.Equal(now.Add(10*time.Minute)) || intended.TokenSHA256 != fmt.Sprintf("%x", id.Token().SHA256) {
		t.Errorf("intended %+v", intended)
	}
	var issued issuedRow
	if err := json.Unmarshal(rows[1].Record, &issued); err != nil || issued.Serial != intended.Serial || issued.SAN != intended.SAN || len(issued.PrecertLeafHash) != 64 || len(issued.CertificateSHA256) != 64 {
		t.Errorf("issued %+v, %v", issued, err)
	}
	var failed failedRow
	if err := json.Unmarshal(rows[3].Record, &failed); err != nil || failed.Failure != ca.FailedLog || failed.Serial != rows[2].Serial {
		t.Errorf("failed %+v, %v", failed, err)
	}
}
