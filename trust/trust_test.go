package trust

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	trustroot "github.com/sigstore/protobuf-specs/gen/pb-go/trustroot/v1"
	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"
	"google.golang.org/protobuf/encoding/protojson"
)

var ctx = context.Background()

// clock is a time that tests move.
type clock struct{ t time.Time }

func newClock() *clock                   { return &clock{time.Date(2026, 3, 1, 12, 0, 0, 987_654_321, time.UTC)} }
func (c *clock) now() time.Time          { return c.t }
func (c *clock) advance(d time.Duration) { c.t = c.t.Add(d) }

func newKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newRoleKeys(t testing.TB) RoleKeys {
	key := func() crypto.Signer { return newKey(t, elliptic.P256()) }
	return RoleKeys{Root: key(), Targets: key(), Snapshot: key(), Timestamp: key()}
}

// newAuthority makes a root and an intermediate valid from notBefore.
func newAuthority(t testing.TB, url string, notBefore time.Time) Authority {
	t.Helper()
	rootKey, key := newKey(t, elliptic.P384()), newKey(t, elliptic.P384())
	template := func(serial int64, name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name, Organization: []string{"example.com"}},
			NotBefore: notBefore.Truncate(time.Second), NotAfter: notBefore.Truncate(time.Second).AddDate(10, 0, 0),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		}
	}
	make := func(tmpl, parent *x509.Certificate, pub crypto.PublicKey, by crypto.Signer) *x509.Certificate {
		der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, pub, by)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	rootTmpl := template(1, "test-root")
	root := make(rootTmpl, rootTmpl, rootKey.Public(), rootKey)
	return Authority{URL: url, Chain: []*x509.Certificate{make(template(2, "test-intermediate"), root, key.Public(), rootKey), root}}
}

func newMaterial(t testing.TB, c *clock) Material {
	return Material{
		Operator:    "example.com",
		Authorities: []Authority{newAuthority(t, "https://sigstack.example.com", c.t.Add(-time.Hour))},
		CTLogs:      []Log{{URL: "https://sigstack.example.com/ct", Key: newKey(t, elliptic.P256()).Public()}},
		RekorV1:     []Log{{URL: "https://sigstack.example.com", Key: newKey(t, elliptic.P256()).Public()}},
		OIDC:        []string{"https://sigstack.example.com/oidc"},
	}
}

func mustOpen(t testing.TB, dir string, keys RoleKeys, c *clock) *Repository {
	t.Helper()
	r, err := OpenRepository(dir, keys, Options{Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func mustPublish(t testing.TB, r *Repository, m Material) {
	t.Helper()
	if err := r.Publish(ctx, m); err != nil {
		t.Fatal(err)
	}
}

// fetch is a mirror as go-tuf's client sees it.
type fetch func(name string) ([]byte, bool)

func (f fetch) DownloadFile(url string, maxLength int64, _ time.Duration) ([]byte, error) {
	data, ok := f(strings.TrimPrefix(url, "http://mirror.test/"))
	if !ok {
		return nil, &metadata.ErrDownloadHTTP{StatusCode: 404, URL: url}
	}
	if int64(len(data)) > maxLength {
		return nil, fmt.Errorf("%s is longer than %d", url, maxLength)
	}
	return data, nil
}

// onDisk serves a directory as a static mirror would.
func onDisk(dir string) fetch {
	return func(name string) ([]byte, bool) {
		data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		return data, err == nil
	}
}

// client is a TUF client with a cache that lives from one refresh to the next.
type client struct {
	pinned []byte // what its first refresh trusts
	cache  string
}

func newClient(t testing.TB, root []byte) *client { return &client{pinned: root, cache: t.TempDir()} }

// refresh does a complete update against mirror at the time now, and checks
// that every target downloads. It returns the trusted root.
func (c *client) refresh(mirror fetch, now time.Time) (tr *trustroot.TrustedRoot, err error) {
	cfg, err := config.New("http://mirror.test", c.pinned)
	if err != nil {
		return nil, err
	}
	cfg.LocalMetadataDir, cfg.LocalTargetsDir, cfg.Fetcher = filepath.Join(c.cache, "metadata"), filepath.Join(c.cache, "targets"), mirror
	u, err := updater.New(cfg)
	if err != nil {
		return nil, err
	}
	u.UnsafeSetRefTime(now)
	if err := u.Refresh(); err != nil {
		return nil, err
	}
	for name := range u.GetTopLevelTargets() {
		info, err := u.GetTargetInfo(name)
		if err != nil {
			return nil, err
		}
		_, data, err := u.DownloadTarget(info, "", "")
		if err != nil {
			return nil, fmt.Errorf("target %s: %w", name, err)
		}
		switch name {
		case trustedRootName:
			tr = &trustroot.TrustedRoot{}
			err = protojson.Unmarshal(data, tr)
		case signingConfigName:
			err = protojson.Unmarshal(data, &trustroot.SigningConfig{})
		}
		if err != nil {
			return nil, fmt.Errorf("target %s: %w", name, err)
		}
	}
	if tr == nil {
		return nil, errors.New("no trusted root among the targets")
	}
	return tr, nil
}

// check re-derives everything: what is served and what is on disk is, for a
// client that is new and for each that is given, a good repository in which m
// and nothing else is in use.
func check(t *testing.T, r *Repository, m Material, now time.Time, clients ...*client) {
	t.Helper()
	root1, ok := r.File("1.root.json")
	if !ok {
		t.Fatal("1.root.json is not served")
	}
	var trees []*trustroot.TrustedRoot
	for _, mirror := range []fetch{r.File, onDisk(r.store.dir)} {
		tr, err := newClient(t, root1).refresh(mirror, now)
		if err != nil {
			t.Fatalf("new client: %v", err)
		}
		trees = append(trees, tr)
	}
	if a, b := protojson.Format(trees[0]), protojson.Format(trees[1]); strings.Join(strings.Fields(a), "") != strings.Join(strings.Fields(b), "") {
		t.Fatal("disk and memory differ")
	}
	for i, c := range clients {
		if _, err := c.refresh(r.File, now); err != nil {
			t.Fatalf("client %d: %v", i, err)
		}
	}
	inUse := 0
	for _, a := range m.Authorities {
		inUse++
		if !r.Contains(a.Chain[0].PublicKey) {
			t.Errorf("Contains is false for the issuing key of %s", a.URL)
		}
	}
	for _, l := range append(append([]Log{}, m.CTLogs...), m.RekorV1...) {
		inUse++
		if !r.Contains(l.Key) {
			t.Errorf("Contains is false for the key of %s", l.URL)
		}
	}
	active := 0
	for _, l := range append(trees[0].GetTlogs(), trees[0].GetCtlogs()...) {
		if l.GetPublicKey().GetValidFor().GetEnd() == nil {
			active++
		}
	}
	for _, ca := range trees[0].GetCertificateAuthorities() {
		if ca.GetValidFor().GetEnd() == nil {
			active++
		}
	}
	if active != inUse {
		t.Errorf("%d instances are in use in the trusted root, want %d", active, inUse)
	}
	for role, at := range r.Expiries() {
		if !now.Before(at) {
			t.Errorf("role %s is served expired", role)
		}
	}
}

func versions(t testing.TB, r *Repository) map[Role]int64 {
	t.Helper()
	g := r.current.Load()
	return map[Role]int64{Root: g.root.Signed.Version, Targets: g.targets.Signed.Version, Snapshot: g.snapshot.Signed.Version, Timestamp: g.timestamp.Signed.Version}
}

func copyDir(t testing.TB, from string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// listing is every file of a directory with its bytes.
func listing(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		out[filepath.ToSlash(rel)] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestFirstPublish(t *testing.T) {
	c, dir := newClock(), filepath.Join(t.TempDir(), "a", "tuf")
	r := mustOpen(t, dir, newRoleKeys(t), c)
	if _, ok := r.File("root.json"); ok || r.Expiries() != nil || r.Contains(newKey(t, elliptic.P256()).Public()) {
		t.Fatal("something is published before Publish")
	}
	if err := r.Renew(ctx); err == nil {
		t.Fatal("Renew before Publish gave no error")
	}
	m := newMaterial(t, c)
	mustPublish(t, r, m)
	check(t, r, m, c.t)
	if r.Contains(newKey(t, elliptic.P256()).Public()) || r.Contains("no key") {
		t.Error("Contains is true for a stranger")
	}
	want := map[Role]time.Duration{Root: 365 * day, Targets: 90 * day, Snapshot: 14 * day, Timestamp: 7 * day}
	for role, at := range r.Expiries() {
		if !at.Equal(c.t.Truncate(time.Second).Add(want[role])) {
			t.Errorf("role %s expires at %v", role, at)
		}
	}
	for _, name := range []string{"root.json", "1.root.json", "1.targets.json", "1.snapshot.json", "timestamp.json"} {
		if listing(t, dir)[name] == "" {
			t.Errorf("%s is not on disk", name)
		}
	}
	for name := range listing(t, dir) {
		if _, ok := r.File(name); !ok {
			t.Errorf("%s is on disk but not served", name)
		}
	}
	for _, name := range []string{"", "2.root.json", "01.root.json", "targets", "targets/", "snapshot.json", "../root.json", "targets/../root.json"} {
		if _, ok := r.File(name); ok {
			t.Errorf("%q is served", name)
		}
	}
}

// The two documents, field by field, against what clients demand.
func TestDocuments(t *testing.T) {
	c := newClock()
	r := mustOpen(t, t.TempDir(), newRoleKeys(t), c)
	m := newMaterial(t, c)
	mustPublish(t, r, m)

	data, _ := r.File("targets/trusted_root.json")
	id, spki, _ := m.RekorV1[0].keyID()
	for _, part := range []string{
		`"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"`,
		`"hashAlgorithm": "SHA2_256"`, `"keyDetails": "PKIX_ECDSA_P256_SHA_256"`,
		`"baseUrl": "https://sigstack.example.com/ct"`, `"start": "2026-03-01T12:00:00Z"`, `"start": "2026-03-01T11:00:00Z"`,
		`"organization": "example.com"`, `"commonName": "test-root"`, `"uri": "https://sigstack.example.com"`,
	} {
		if !bytes.Contains(data, []byte(part)) {
			t.Errorf("trusted root has no %s:\n%s", part, data)
		}
	}
	tr, err := parseTrustedRoot(data)
	if err != nil {
		t.Fatal(err)
	}
	if got := tr.Tlogs[0]; !bytes.Equal(got.LogId.KeyId, id[:]) || !bytes.Equal(got.PublicKey.RawBytes, spki) {
		t.Error("Rekor log has another key or identity")
	}
	if got := certificates(tr.CertificateAuthorities[0]); len(got) != 2 || !bytes.Equal(got[0], m.Authorities[0].Chain[0].Raw) || !bytes.Equal(got[1], m.Authorities[0].Chain[1].Raw) {
		t.Error("the chain is not issuing certificate, root")
	}

	data, _ = r.File("targets/signing_config.v0.2.json")
	sc, err := parseSigningConfig(data)
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string][]*trustroot.Service{"https://sigstack.example.com": append(sc.CaUrls, sc.RekorTlogUrls...), "https://sigstack.example.com/oidc": sc.OidcUrls} {
		for _, s := range s {
			if s.Url != name || s.MajorApiVersion != 1 || s.Operator != "example.com" || !s.ValidFor.Start.AsTime().Equal(c.t.Truncate(time.Second)) {
				t.Errorf("service %v", s)
			}
		}
	}
	if sc.RekorTlogConfig.Selector != trustroot.ServiceSelector_ANY || sc.TsaConfig.Selector != trustroot.ServiceSelector_ANY || len(sc.TsaUrls) != 0 {
		t.Errorf("selectors: %s", data)
	}

	g := r.current.Load()
	for name, want := range map[string]custom{
		"fulcio.crt.pem": {use{"Fulcio", "Active", "https://sigstack.example.com"}},
		"ctfe.pub":       {use{"CTFE", "Active", "https://sigstack.example.com/ct"}},
		"rekor.pub":      {use{"Rekor", "Active", "https://sigstack.example.com"}},
	} {
		f := g.targets.Signed.Targets[name]
		if f == nil || f.Custom == nil || !sameTargets(map[string]*metadata.TargetFiles{name: f}, []target{{name: name, data: g.files["targets/"+name], custom: &want}}) {
			t.Errorf("target %s: %+v", name, f)
		}
	}
	if n := bytes.Count(g.files["targets/fulcio.crt.pem"], []byte("BEGIN CERTIFICATE")); n != 2 {
		t.Errorf("fulcio.crt.pem has %d certificates", n)
	}
	for name, key := range g.root.Signed.Keys {
		if key.Type != "ecdsa" || key.Scheme != "ecdsa-sha2-nistp256" || !strings.HasPrefix(key.Value.PublicKey, "-----BEGIN PUBLIC KEY-----") {
			t.Errorf("root key %s is %+v", name, key)
		}
	}
}

// The same Material publishes nothing, also after a restart, and two
// repositories that are told the same say the same.
func TestSameMaterialSameBytes(t *testing.T) {
	c, dir, keys := newClock(), t.TempDir(), newRoleKeys(t)
	m := newMaterial(t, c)
	r := mustOpen(t, dir, keys, c)
	mustPublish(t, r, m)
	before := listing(t, dir)
	for range 3 {
		c.advance(time.Minute)
		mustPublish(t, r, m)
		r = mustOpen(t, dir, keys, c)
		mustPublish(t, r, m)
	}
	if after := listing(t, dir); len(after) != len(before) {
		t.Fatalf("%d files became %d", len(before), len(after))
	} else {
		for name := range before {
			if before[name] != after[name] {
				t.Errorf("%s changed", name)
			}
		}
	}
	now := c.t.Truncate(time.Second)
	var first []byte
	for range 20 { // protojson changes its white space between builds, so this is weak but free
		tr, err := nextTrustedRoot(nil, m, now)
		if err != nil {
			t.Fatal(err)
		}
		data, err := marshalDocument(tr)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = data
		}
		if !bytes.Equal(first, data) || bytes.Contains(data, []byte(":  ")) {
			t.Fatal("the same document has two encodings")
		}
	}
}

// A log that another deployment has written is published with the times of its
// entries, in whole seconds, and stays when it is named no more.
func TestRetiredLog(t *testing.T) {
	c := newClock()
	r := mustOpen(t, t.TempDir(), newRoleKeys(t), c)
	m := newMaterial(t, c)
	key := newKey(t, elliptic.P256()).Public()
	first, last := c.t.Add(-100*day+700*time.Millisecond), c.t.Add(-10*day)
	m.RetiredRekorV1 = []RetiredLog{{Log: Log{URL: "https://sigstack.example.com", Key: key}, First: first, Last: last}}
	for range 3 {
		mustPublish(t, r, m)
		logs := r.current.Load().trusted.Tlogs
		if len(logs) != 2 {
			t.Fatalf("%d logs, want 2", len(logs))
		}
		valid := logs[0].PublicKey.ValidFor
		if !valid.Start.AsTime().Equal(first.Truncate(time.Second)) || !valid.End.AsTime().Equal(last.Add(time.Second)) {
			t.Errorf("the log is valid %v", valid)
		}
		if r.Contains(key) || !r.Contains(m.RekorV1[0].Key) {
			t.Error("the log that has ended is one in use, or the other is not")
		}
		m.RetiredRekorV1 = nil
		c.advance(day)
	}
	m.RetiredRekorV1 = []RetiredLog{{Log: m.RekorV1[0], First: first, Last: last}}
	if err := r.Publish(ctx, m); err == nil || !strings.Contains(err.Error(), "have the same key") {
		t.Errorf("a log in use that has ended: %v", err)
	}
	m.RetiredRekorV1 = []RetiredLog{{Log: Log{URL: "https://sigstack.example.com", Key: key}, First: last, Last: first}}
	if err := r.Publish(t.Context(), m); err == nil || !strings.Contains(err.Error(), "is before its first") {
		t.Errorf("a log that ends before it begins: %v", err)
	}
}

// A replaced log and a replaced CA stay, with an end; the others keep their
// start; Contains follows; clients see no rollback.
func TestKeyChange(t *testing.T) {
	c, dir, keys := newClock(), t.TempDir(), newRoleKeys(t)
	r := mustOpen(t, dir, keys, c)
	old := newMaterial(t, c)
	mustPublish(t, r, old)
	root1, _ := r.File("1.root.json")
	follower := newClient(t, root1)
	check(t, r, old, c.t, follower)

	c.advance(3 * day)
	next := old
	next.RekorV1 = []Log{{URL: "https://sigstack.example.com", Key: newKey(t, elliptic.P256()).Public()}}
	next.Authorities = []Authority{newAuthority(t, "https://ca2.example.com", c.t)}
	mustPublish(t, r, next)
	check(t, r, next, c.t, follower)
	if r.Contains(old.RekorV1[0].Key) || r.Contains(old.Authorities[0].Chain[0].PublicKey) {
		t.Error("Contains is true for a retired key")
	}

	tr := r.current.Load().trusted
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	now := c.t.Truncate(time.Second)
	if len(tr.Tlogs) != 2 || len(tr.CertificateAuthorities) != 2 || len(tr.Ctlogs) != 1 {
		t.Fatalf("trusted root: %s", protojson.Format(tr))
	}
	gone, came := tr.Tlogs[0].PublicKey, tr.Tlogs[1].PublicKey // the log in use is last
	if !gone.ValidFor.Start.AsTime().Equal(start) || !gone.ValidFor.End.AsTime().Equal(now.Add(time.Second)) {
		t.Errorf("retired log is valid %v", gone.ValidFor)
	}
	if !came.ValidFor.Start.AsTime().Equal(now) || came.ValidFor.End != nil {
		t.Errorf("new log is valid %v", came.ValidFor)
	}
	if v := tr.Ctlogs[0].PublicKey.ValidFor; !v.Start.AsTime().Equal(start) || v.End != nil {
		t.Errorf("unchanged log is valid %v", v)
	}
	if v := tr.CertificateAuthorities[1].ValidFor; !v.Start.AsTime().Equal(now) || v.End != nil {
		t.Errorf("new CA is valid %v", v)
	}
	if sc := r.current.Load().signing; len(sc.CaUrls) != 1 || sc.CaUrls[0].Url != "https://ca2.example.com" || !sc.RekorTlogUrls[0].ValidFor.Start.AsTime().Equal(start) {
		t.Errorf("signing config: %s", protojson.Format(sc))
	}
	id, _, _ := old.RekorV1[0].keyID()
	retired := fmt.Sprintf("rekor_%x.pub", id[:8])
	if f := r.current.Load().targets.Signed.Targets[retired]; f == nil || !strings.Contains(string(*f.Custom), "Expired") {
		t.Errorf("no expired legacy target %s", retired)
	}

	// The end of a retired instance does not move.
	c.advance(3 * day)
	r = mustOpen(t, dir, keys, c)
	next.OIDC = append(next.OIDC, "https://accounts.example.com/")
	mustPublish(t, r, next)
	check(t, r, next, c.t, follower)
	if end := r.current.Load().trusted.Tlogs[0].PublicKey.ValidFor.End; !end.AsTime().Equal(now.Add(time.Second)) {
		t.Errorf("the end moved to %v", end.AsTime())
	}

	// The old key comes back: in use again, from its first start.
	c.advance(day)
	mustPublish(t, r, old)
	check(t, r, old, c.t, follower)
	tr = r.current.Load().trusted
	if v := tr.Tlogs[len(tr.Tlogs)-1].PublicKey.ValidFor; !v.Start.AsTime().Equal(start) || v.End != nil {
		t.Errorf("log that came back is valid %v", v)
	}

	// The same keys at another address: no instance more, and no new start.
	c.advance(day)
	moved := old
	moved.RekorV1 = []Log{{URL: "https://moved.example.com", Key: old.RekorV1[0].Key}}
	mustPublish(t, r, moved)
	check(t, r, moved, c.t, follower)
	if got := r.current.Load().trusted.Tlogs; len(got) != 2 || got[1].BaseUrl != "https://moved.example.com" || !got[1].PublicKey.ValidFor.Start.AsTime().Equal(start) {
		t.Errorf("moved log: %v", got)
	}
}

// A new key of every online role gives a new root, which old clients follow.
func TestRoleKeyChange(t *testing.T) {
	c, dir, keys := newClock(), t.TempDir(), newRoleKeys(t)
	r := mustOpen(t, dir, keys, c)
	m := newMaterial(t, c)
	mustPublish(t, r, m)
	root1, _ := r.File("1.root.json")
	follower := newClient(t, root1)
	check(t, r, m, c.t, follower)

	offline := newRoleKeys(t)
	offline.Root = nil
	if _, err := OpenRepository(dir, offline, Options{Now: c.now}); err == nil || !strings.Contains(err.Error(), "offline") {
		t.Fatalf("new online keys without the root key: %v", err)
	}
	if _, err := OpenRepository(dir, newRoleKeys(t), Options{Now: c.now}); err == nil || !strings.Contains(err.Error(), "not one of root version 1") {
		t.Fatalf("another root key: %v", err)
	}

	for i, role := range []Role{Timestamp, Snapshot, Targets} {
		c.advance(time.Hour)
		switch key := newKey(t, elliptic.P256()); role {
		case Timestamp:
			keys.Timestamp = key
		case Snapshot:
			keys.Snapshot = key
		case Targets:
			keys.Targets = key
		}
		r = mustOpen(t, dir, keys, c)
		mustPublish(t, r, m)
		check(t, r, m, c.t, follower)
		if v := versions(t, r)[Root]; v != int64(i)+2 {
			t.Errorf("root version %d", v)
		}
	}
	// One key for all roles is fine too, and the root key may then go away.
	keys.Targets, keys.Snapshot, keys.Timestamp = keys.Root, keys.Root, keys.Root
	check(t, mustOpen(t, dir, keys, c), m, c.t, follower)
	keys.Root = nil
	check(t, mustOpen(t, dir, keys, c), m, c.t, follower)
}

// Stopped after any step, in any kind of publication, the directory opens
// again, clients that followed it accept it, and the change can be made.
func TestInterruptedAnywhere(t *testing.T) {
	c, dir, keys := newClock(), t.TempDir(), newRoleKeys(t)
	m := newMaterial(t, c)
	changed := m
	changed.RekorV1 = []Log{{URL: "https://sigstack.example.com", Key: newKey(t, elliptic.P256()).Public()}}
	rekeyed := keys
	rekeyed.Timestamp = newKey(t, elliptic.P256())

	type crash struct {
		step, dir string
	}
	// record runs what and keeps a copy of the directory after every step.
	record := func(keys RoleKeys, what func(r *Repository)) (out []crash) {
		r, err := OpenRepository(dir, keys, Options{Now: c.now, testStep: func(step string) error {
			out = append(out, crash{step, copyDir(t, dir)})
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		what(r)
		return out
	}
	scenario := func(name string, keys RoleKeys, wanted Material, minSteps int, what func(r *Repository)) {
		t.Run(name, func(t *testing.T) {
			before := onDisk(copyDir(t, dir))
			crashes := record(keys, what)
			if len(crashes) < minSteps {
				t.Fatalf("only %d steps", len(crashes))
			}
			for _, crash := range crashes {
				var followers []*client
				if root1, ok := before("1.root.json"); ok {
					f := newClient(t, root1)
					if _, err := f.refresh(before, c.t); err != nil {
						t.Fatal(err)
					}
					followers = append(followers, f)
				}
				// A static mirror copied at that moment is a good repository,
				// old or new, once there is a timestamp; only a change of a
				// role's own key needs the opening below to be complete.
				mirror := onDisk(crash.dir)
				if root1, ok := mirror("1.root.json"); ok && name != "role key" {
					if _, ok := mirror("timestamp.json"); ok {
						if _, err := newClient(t, root1).refresh(mirror, c.t); err != nil {
							t.Errorf("after %q the mirror is broken: %v", crash.step, err)
						}
					}
				}
				r, err := OpenRepository(crash.dir, keys, Options{Now: c.now})
				if err != nil {
					t.Errorf("after %q: %v", crash.step, err)
					continue
				}
				mustPublish(t, r, wanted)
				check(t, r, wanted, c.t, followers...)
				for file := range listing(t, crash.dir) {
					if strings.Contains(file, tempPrefix) {
						t.Errorf("after %q: %s was left behind", crash.step, file)
					}
				}
			}
		})
	}
	scenario("first", keys, m, 18, func(r *Repository) { mustPublish(t, r, m) })
	c.advance(time.Hour)
	scenario("change", keys, changed, 12, func(r *Repository) { mustPublish(t, r, changed) })
	// idle lets days pass with the daily renewals, except that of the last day.
	idle := func(days int) {
		for range days - 1 {
			c.advance(day)
			mustOpen(t, dir, keys, c)
		}
		c.advance(day)
	}
	idle(45)
	scenario("renewal", keys, changed, 6, func(*Repository) {})
	idle(138)
	scenario("root renewal", keys, changed, 6, func(*Repository) {})
	c.advance(time.Hour)
	scenario("role key", rekeyed, changed, 6, func(*Repository) {})
}

// Interrupted twice at the same place in a first publication, and in two
// different role key changes.
func TestInterruptedRepeatedly(t *testing.T) {
	c, dir, keys := newClock(), t.TempDir(), newRoleKeys(t)
	m := newMaterial(t, c)
	stop := errors.New("stop")
	failAt := func(step string) Options {
		return Options{Now: c.now, testStep: func(s string) error {
			if s == step {
				return stop
			}
			return nil
		}}
	}
	for range 3 {
		r, err := OpenRepository(dir, keys, failAt("rename 1.snapshot.json"))
		if err != nil {
			t.Fatal(err)
		}
		for range 3 { // in one process too
			if err := r.Publish(ctx, m); !errors.Is(err, stop) {
				t.Fatalf("Publish = %v", err)
			}
		}
	}
	r := mustOpen(t, dir, keys, c)
	mustPublish(t, r, m)
	check(t, r, m, c.t)
	root1, _ := r.File("1.root.json")
	follower := newClient(t, root1)
	check(t, r, m, c.t, follower)

	for _, root := range []string{"2", "3"} {
		keys.Timestamp, keys.Targets = newKey(t, elliptic.P256()), newKey(t, elliptic.P256())
		if _, err := OpenRepository(dir, keys, failAt("rename "+root+".root.json")); !errors.Is(err, stop) {
			t.Fatalf("OpenRepository = %v", err)
		}
	}
	check(t, mustOpen(t, dir, keys, c), m, c.t, follower)
}

// A publication that fails for want of space leaves what is served as it was,
// and the next one succeeds.
func TestFailedWrite(t *testing.T) {
	c, dir, keys := newClock(), t.TempDir(), newRoleKeys(t)
	m := newMaterial(t, c)
	full := errors.New("no space left on device")
	var failing string
	r, err := OpenRepository(dir, keys, Options{Now: c.now, testStep: func(step string) error {
		if failing != "" && strings.HasSuffix(step, failing) {
			return full
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	mustPublish(t, r, m)
	root1, _ := r.File("1.root.json")
	follower := newClient(t, root1)
	for _, file := range []string{".rekor.pub", "targets.json", "snapshot.json", "timestamp.json"} {
		c.advance(time.Hour)
		served := r.current.Load()
		next := m
		next.RekorV1 = []Log{{URL: "https://sigstack.example.com", Key: newKey(t, elliptic.P256()).Public()}}
		failing = file
		if err := r.Publish(ctx, next); !errors.Is(err, full) || strings.Contains(err.Error(), "\n") {
			t.Fatalf("%s: Publish = %v", file, err)
		}
		if r.current.Load() != served || r.Contains(next.RekorV1[0].Key) {
			t.Fatalf("%s: a failed publication is served", file)
		}
		failing = ""
		mustPublish(t, r, next)
		m = next
		check(t, r, m, c.t, follower)
	}
	// The same for a root, which counts from the moment its name is there.
	c.advance(200 * day)
	failing = "rename 2.root.json"
	if err := r.Renew(ctx); !errors.Is(err, full) {
		t.Fatalf("Renew = %v", err)
	}
	failing = ""
	if err := r.Renew(ctx); err != nil {
		t.Fatal(err)
	}
	check(t, r, m, c.t, follower)
	if v := versions(t, r)[Root]; v != 2 {
		t.Errorf("root version %d, want 2", v)
	}
}

// Two simulated years of a server that renews every six hours: nothing expired
// is ever served, versions only grow, clients of every age follow, also one
// that looks once a year.
func TestTwoYears(t *testing.T) {
	c, dir, keys := newClock(), t.TempDir(), newRoleKeys(t)
	m := newMaterial(t, c)
	r := mustOpen(t, dir, keys, c)
	mustPublish(t, r, m)
	root1, _ := r.File("1.root.json")
	weekly, yearly := newClient(t, root1), newClient(t, root1)
	if _, err := yearly.refresh(r.File, c.t); err != nil {
		t.Fatal(err)
	}
	last := versions(t, r)
	for tick := 1; tick <= 2*365*4; tick++ {
		c.advance(6 * time.Hour)
		if err := r.Renew(ctx); err != nil {
			t.Fatal(err)
		}
		now := versions(t, r)
		for role, v := range now {
			if v < last[role] {
				t.Fatalf("version %d of %s after %d", v, role, last[role])
			}
		}
		last = now
		for role, at := range r.Expiries() {
			if at.Sub(c.t) < r.life[role]/2-6*time.Hour {
				t.Fatalf("day %d: role %s has %v left", tick/4, role, at.Sub(c.t))
			}
		}
		if tick%(7*4) == 0 {
			if _, err := weekly.refresh(r.File, c.t); err != nil {
				t.Fatalf("day %d: %v", tick/4, err)
			}
		}
		if tick%(365*4) == 0 {
			if _, err := yearly.refresh(r.File, c.t); err != nil {
				t.Fatalf("day %d: %v", tick/4, err)
			}
			r = mustOpen(t, dir, keys, c)
		}
	}
	check(t, r, m, c.t, weekly, yearly)
	if last[Root] < 4 || last[Root] > 6 || last[Timestamp] < 729 || last[Timestamp] > 740 || last[Targets] > 18 || last[Snapshot] > 120 {
		t.Errorf("after two years the versions are %v", last)
	}
	for v := int64(1); v <= last[Root]; v++ {
		if _, ok := r.File(versioned(v, Root)); !ok {
			t.Errorf("root %d is gone", v)
		}
	}
	if n := len(r.current.Load().files); n > 30 {
		t.Errorf("%d files are kept in memory", n)
	}
}

// A server that was off for longer than any lifetime signs again at start; with
// the root key offline it says what to do.
func TestOpenAfterLongPause(t *testing.T) {
	c, dir, keys := newClock(), t.TempDir(), newRoleKeys(t)
	m := newMaterial(t, c)
	r := mustOpen(t, dir, keys, c)
	mustPublish(t, r, m)
	root1, _ := r.File("1.root.json")
	follower := newClient(t, root1)
	check(t, r, m, c.t, follower)

	offline := keys
	offline.Root = nil
	c.advance(300 * day) // root at its last 65 days, the rest long expired
	var logged bytes.Buffer
	r, err := OpenRepository(dir, offline, Options{Now: c.now, Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	if err != nil {
		t.Fatal(err)
	}
	check(t, r, m, c.t, follower)
	if err := r.Renew(ctx); err != nil || !strings.Contains(logged.String(), "days_left=65") {
		t.Errorf("Renew = %v, log %s", err, logged.String())
	}
	c.advance(66 * day)
	if err := r.Renew(ctx); err == nil || !strings.Contains(err.Error(), "2.root.json") {
		t.Errorf("Renew with an expired root = %v", err)
	}
	if _, err := OpenRepository(dir, offline, Options{Now: c.now}); err == nil || !strings.Contains(err.Error(), "2.root.json") {
		t.Errorf("OpenRepository with an expired root = %v", err)
	}
	r = mustOpen(t, dir, keys, c)
	check(t, r, m, c.t, follower)
	if v := versions(t, r)[Root]; v != 2 {
		t.Errorf("root version %d", v)
	}
}

// A shorter lifetime takes effect at the next start.
func TestLifetimes(t *testing.T) {
	c, dir, keys := newClock(), t.TempDir(), newRoleKeys(t)
	m := newMaterial(t, c)
	mustPublish(t, mustOpen(t, dir, keys, c), m)
	r, err := OpenRepository(dir, keys, Options{Now: c.now, Expiry: Lifetimes{Root: 40 * day, Targets: 30 * day, Snapshot: 3 * day, Timestamp: 2 * time.Hour}})
	if err != nil {
		t.Fatal(err)
	}
	check(t, r, m, c.t)
	for role, at := range r.Expiries() {
		if at.Sub(c.t) > r.life[role] {
			t.Errorf("role %s lives %v", role, at.Sub(c.t))
		}
	}
	if _, err := OpenRepository(dir, keys, Options{Now: c.now, Expiry: Lifetimes{Timestamp: time.Second}}); err == nil {
		t.Error("a lifetime of one second was accepted")
	}
}

// The files of the generation before are served still, for a client that read
// timestamp.json just before the change.
func TestClientInTheMiddle(t *testing.T) {
	c, keys := newClock(), newRoleKeys(t)
	m := newMaterial(t, c)
	r := mustOpen(t, t.TempDir(), keys, c)
	mustPublish(t, r, m)
	root1, _ := r.File("1.root.json")
	for range 3 {
		next := m
		next.CTLogs = []Log{{URL: "https://sigstack.example.com/ct", Key: newKey(t, elliptic.P256()).Public()}}
		published := false
		slow := newClient(t, root1)
		_, err := slow.refresh(func(name string) ([]byte, bool) {
			data, ok := r.File(name)
			if name == "timestamp.json" && !published {
				published = true
				c.advance(time.Minute)
				mustPublish(t, r, next)
			}
			return data, ok
		}, c.t)
		if err != nil {
			t.Fatal(err)
		}
		m = next
	}
}

func TestRun(t *testing.T) {
	c, keys := newClock(), newRoleKeys(t)
	var logged bytes.Buffer
	failing := false
	r, err := OpenRepository(t.TempDir(), keys, Options{Now: c.now, Logger: slog.New(slog.NewTextHandler(&logged, nil)), testStep: func(string) error {
		if failing {
			return errors.New("no space left on device")
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	m := newMaterial(t, c)
	mustPublish(t, r, m)
	runCtx, cancel := context.WithCancel(ctx)
	ticks, done := make(chan time.Time), make(chan error)
	go func() { done <- r.Run(runCtx, ticks) }()

	// A tick that is taken means that the Renew of the one before has ended.
	c.advance(2 * day)
	failing = true
	ticks <- c.t
	ticks <- c.t
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(logged.String(), "level=ERROR") || !strings.Contains(logged.String(), "no space left") {
		t.Errorf("log: %s", logged.String())
	}
	failing = false
	runCtx, cancel = context.WithCancel(ctx)
	go func() { done <- r.Run(runCtx, ticks) }()
	ticks <- c.t
	ticks <- c.t
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	check(t, r, m, c.t)
	if left := r.Expiries()[Timestamp].Sub(c.t); left < 6*day {
		t.Errorf("timestamp has %v left", left)
	}
}

func TestCancelledPublish(t *testing.T) {
	c := newClock()
	r := mustOpen(t, t.TempDir(), newRoleKeys(t), c)
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if err := r.Publish(cancelled, newMaterial(t, c)); !errors.Is(err, context.Canceled) {
		t.Errorf("Publish = %v", err)
	}
}

// brokenSigner answers with a signature over something else.
type brokenSigner struct{ crypto.Signer }

func (s brokenSigner) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.Signer.Sign(rand, make([]byte, len(digest)), opts)
}

type failingSigner struct{ crypto.Signer }

func (failingSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("key service is away")
}

// A signature is verified before anything of it is published.
func TestBadSigner(t *testing.T) {
	c, dir, keys := newClock(), t.TempDir(), newRoleKeys(t)
	m := newMaterial(t, c)
	mustPublish(t, mustOpen(t, dir, keys, c), m)
	next := m
	next.OIDC = nil
	good := keys.Timestamp
	for _, s := range []crypto.Signer{brokenSigner{good}, failingSigner{good}} {
		keys.Timestamp = s
		r := mustOpen(t, dir, keys, c)
		err := r.Publish(ctx, next)
		if err == nil || !strings.Contains(err.Error(), "timestamp") {
			t.Errorf("Publish = %v", err)
		}
		if _, ok := s.(failingSigner); ok && !strings.Contains(err.Error(), "key service is away") {
			t.Errorf("the cause is lost: %v", err)
		}
		check(t, r, m, c.t)
	}
	keys.Timestamp = good
	r := mustOpen(t, dir, keys, c)
	mustPublish(t, r, next)
	check(t, r, next, c.t)
}

func TestRefusedMaterial(t *testing.T) {
	c := newClock()
	r := mustOpen(t, t.TempDir(), newRoleKeys(t), c)
	for name, spoil := range map[string]func(m *Material){
		"operator":   func(m *Material) { m.Operator = "" },
		"no CA":      func(m *Material) { m.Authorities = nil },
		"no CT":      func(m *Material) { m.CTLogs = nil },
		"no Rekor":   func(m *Material) { m.RekorV1 = nil },
		"empty":      func(m *Material) { m.Authorities[0].Chain = nil },
		"nil":        func(m *Material) { m.Authorities[0].Chain[1] = nil },
		"order":      func(m *Material) { ch := m.Authorities[0].Chain; ch[0], ch[1] = ch[1], ch[0] },
		"no root":    func(m *Material) { m.Authorities[0].Chain = m.Authorities[0].Chain[:1] },
		"stranger":   func(m *Material) { m.Authorities[0].Chain[1] = newAuthority(t, "https://x.test", c.t).Chain[1] },
		"P-384 log":  func(m *Material) { m.RekorV1[0].Key = newKey(t, elliptic.P384()).Public() },
		"no key":     func(m *Material) { m.CTLogs[0].Key = nil },
		"nil key":    func(m *Material) { m.CTLogs[0].Key = (*ecdsa.PublicKey)(nil) },
		"one key":    func(m *Material) { m.CTLogs[0].Key = m.RekorV1[0].Key },
		"slash":      func(m *Material) { m.RekorV1[0].URL += "/" },
		"relative":   func(m *Material) { m.Authorities[0].URL = "sigstack.example.com" },
		"password":   func(m *Material) { m.CTLogs[0].URL = "https://u:p@sigstack.example.com" },
		"query":      func(m *Material) { m.CTLogs[0].URL = "https://sigstack.example.com?x" },
		"fragment":   func(m *Material) { m.CTLogs[0].URL = "https://sigstack.example.com#" },
		"issuer":     func(m *Material) { m.OIDC[0] = "" },
		"ldap":       func(m *Material) { m.OIDC[0] = "ldap://sigstack.example.com" },
		"same twice": func(m *Material) { m.Authorities = append(m.Authorities, m.Authorities[0]) },
	} {
		m := newMaterial(t, c)
		spoil(&m)
		if err := r.Publish(ctx, m); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: Publish = %v", name, err)
		}
	}
	if r.current.Load() != nil || len(listing(t, r.store.dir)) != 0 {
		t.Error("something was published")
	}
	m := newMaterial(t, c)
	m.OIDC[0] += "/" // issuers are compared byte by byte
	mustPublish(t, r, m)
}

func TestRefusedKeys(t *testing.T) {
	c := newClock()
	for name, spoil := range map[string]func(k *RoleKeys){
		"no root":      func(k *RoleKeys) { k.Root = nil },
		"no targets":   func(k *RoleKeys) { k.Targets = nil },
		"no snapshot":  func(k *RoleKeys) { k.Snapshot = nil },
		"no timestamp": func(k *RoleKeys) { k.Timestamp = nil },
		"P-384":        func(k *RoleKeys) { k.Root = newKey(t, elliptic.P384()) },
	} {
		keys := newRoleKeys(t)
		spoil(&keys)
		if _, err := OpenRepository(t.TempDir(), keys, Options{Now: c.now}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// Every file that is changed, cut, emptied, lost, exchanged or made a link is
// noticed at opening. root.json alone is a copy and is repaired.
func TestDamage(t *testing.T) {
	c, dir, keys := newClock(), t.TempDir(), newRoleKeys(t)
	m := newMaterial(t, c)
	r := mustOpen(t, dir, keys, c)
	mustPublish(t, r, m)
	c.advance(200 * day)
	if err := r.Renew(ctx); err != nil {
		t.Fatal(err)
	}
	g := r.current.Load()
	names := []string{"root.json", "1.root.json", "2.root.json"}
	for name := range g.own {
		names = append(names, name)
	}
	for what, spoil := range map[string]func(path string) error{
		"changed": func(path string) error {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			data[len(data)/2] ^= 1
			return os.WriteFile(path, data, 0o644)
		},
		"cut":    func(path string) error { return os.Truncate(path, 40) },
		"empty":  func(path string) error { return os.Truncate(path, 0) },
		"lost":   os.Remove,
		"link":   func(path string) error { return errors.Join(os.Rename(path, path+".x"), os.Symlink(path+".x", path)) },
		"folder": func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o755)) },
	} {
		for _, name := range names {
			spoiled := copyDir(t, dir)
			if err := spoil(filepath.Join(spoiled, filepath.FromSlash(name))); err != nil {
				t.Fatal(err)
			}
			r, err := OpenRepository(spoiled, keys, Options{Now: c.now})
			switch {
			case name == "root.json" && what != "folder":
				if err != nil {
					t.Errorf("root.json %s: %v", what, err)
					continue
				}
				check(t, r, m, c.t)
			case name == "2.root.json" && what == "lost":
				// The rest is good under root 1 as well, the keys being the
				// same, and the next root would be another root 2.
				if err == nil || !strings.Contains(err.Error(), "2.root.json is missing") {
					t.Errorf("a lost newest root: %v", err)
				}
			case err == nil:
				t.Errorf("%s %s: not noticed", name, what)
			case strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), filepath.Base(name)):
				t.Errorf("%s %s: error %q", name, what, err)
			}
		}
	}
}
