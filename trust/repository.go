package trust

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	common "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	trustroot "github.com/sigstore/protobuf-specs/gen/pb-go/trustroot/v1"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// RoleKeys are the ECDSA P-256 keys of the four TUF roles. Two roles may share
// one. Root may be nil: then the root key is offline, and a root that nears its
// end is only warned about.
type RoleKeys struct {
	Root, Targets, Snapshot, Timestamp crypto.Signer
}

// Lifetimes tell how long the metadata of each role is valid from its
// signature on; zero means the default. Each is signed again at half of it, the
// timestamp also once a day. Metadata that ends later than its lifetime allows,
// because the lifetime was shortened, is signed again as well.
type Lifetimes struct {
	Root      time.Duration // default 365 days
	Targets   time.Duration // default 90 days
	Snapshot  time.Duration // default 14 days
	Timestamp time.Duration // default 7 days
}

const day = 24 * time.Hour

func (l Lifetimes) byRole() (map[Role]time.Duration, error) {
	life := map[Role]time.Duration{Root: l.Root, Targets: l.Targets, Snapshot: l.Snapshot, Timestamp: l.Timestamp}
	for role, preset := range map[Role]time.Duration{Root: 365 * day, Targets: 90 * day, Snapshot: 14 * day, Timestamp: 7 * day} {
		if life[role] == 0 {
			life[role] = preset
		}
		if life[role] < time.Minute {
			return nil, fmt.Errorf("lifetime %v of TUF role %s is too short; want a minute or more", life[role], role)
		}
	}
	return life, nil
}

// Options are what OpenRepository may be told; the zero value is usable.
type Options struct {
	Now      func() time.Time // the clock, time.Now if nil
	Logger   *slog.Logger     // nil for none
	Expiry   Lifetimes
	testStep func(what string) error // see store.step
}

// Repository is the TUF repository of one deployment. Its reading methods
// (File, Contains, Expiries) never wait for a writer.
type Repository struct {
	now  func() time.Time
	log  *slog.Logger
	life map[Role]time.Duration
	keys map[Role]*roleKey // without Root when that key is offline

	// current is what readers see: a generation is complete and never changed
	// after it was stored. nil before the first Publish.
	current atomic.Pointer[generation]

	// mu is held by whoever publishes, and guards the rest.
	mu    sync.Mutex
	store store
	roots [][]byte                              // every version from 1 on, as published
	root  *metadata.Metadata[metadata.RootType] // the newest of them, nil for none
	// highest is the highest version of each role that was ever begun, so that
	// a version is not used again after a failed or interrupted publication.
	highest map[Role]int64
}

// generation is one complete state of the repository.
type generation struct {
	root      *metadata.Metadata[metadata.RootType]
	targets   *metadata.Metadata[metadata.TargetsType]
	snapshot  *metadata.Metadata[metadata.SnapshotType]
	timestamp *metadata.Metadata[metadata.TimestampType]

	own   map[string][]byte // the files of this generation that are not roots
	files map[string][]byte // everything served: own, roots, plain names, the files of the generation before

	trusted *trustroot.TrustedRoot
	signing *trustroot.SigningConfig
	active  map[[32]byte]bool              // SHA-256 of SubjectPublicKeyInfo, see activeKeys
	chains  map[[32]byte]*common.TimeRange // of the authorities, by their chainID
}

// OpenRepository opens the repository in dir, which it makes if there is none.
// Everything in it is verified; an error names the file that is wrong. What is
// expired or was left by an interrupted publication is signed again before it
// returns. When the role keys are not those of the newest root and the root key
// is given, the next root lists them.
//
// A directory without a root gives a Repository that serves nothing until the
// first Publish, for which the root key must be given.
func OpenRepository(dir string, keys RoleKeys, opts Options) (*Repository, error) {
	r, err := openRepository(dir, keys, opts)
	if err != nil {
		return nil, fmt.Errorf("TUF repository %s: %w", dir, err)
	}
	return r, nil
}

func openRepository(dir string, keys RoleKeys, opts Options) (*Repository, error) {
	life, err := opts.Expiry.byRole()
	if err != nil {
		return nil, err
	}
	r := &Repository{now: opts.Now, log: opts.Logger, life: life, keys: map[Role]*roleKey{}, store: store{dir: dir, step: opts.testStep}}
	if r.now == nil {
		r.now = time.Now
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	for role, signer := range map[Role]crypto.Signer{Root: keys.Root, Targets: keys.Targets, Snapshot: keys.Snapshot, Timestamp: keys.Timestamp} {
		if signer == nil && role == Root {
			continue
		}
		if signer == nil {
			return nil, fmt.Errorf("no key for TUF role %s; only the root key may be offline", role)
		}
		if r.keys[role], err = newRoleKey(role, signer); err != nil {
			return nil, err
		}
	}
	if err := r.store.open(); err != nil {
		return nil, err
	}
	if r.highest, err = r.store.highest(); err != nil {
		return nil, err
	}
	if err := r.loadRoots(); err != nil {
		return nil, err
	}
	if r.root == nil {
		return r, nil
	}
	due := map[Role]bool{}
	if err := r.checkRootKeys(due); err != nil {
		return nil, err
	}
	base, err := r.load(due)
	if err != nil {
		return nil, err
	}
	now := r.time()
	if r.keys[Root] == nil && expired(r.root.Signed.Expires, now) {
		return nil, r.rootExpired()
	}
	r.addDue(due, base, now)
	if base == nil { // the first publication was interrupted; Publish repeats it
		if due[Root] {
			err = r.writeRoot(now)
		}
		return r, err
	}
	// Opening cannot be cancelled: what is half-published must be completed.
	if err := r.advance(context.Background(), base, nil, due); err != nil {
		return nil, err
	}
	return r, nil
}

// time is the clock in the resolution of the metadata.
func (r *Repository) time() time.Time { return r.now().UTC().Truncate(time.Second) }

func expired(expires, now time.Time) bool { return !now.Before(expires) }

// loadRoots reads every root version and verifies each by itself and by the one
// before (TUF specification, section 5.3). It repairs root.json, the copy.
func (r *Repository) loadRoots() error {
	newest := r.highest[Root]
	if newest == 0 {
		if len(r.highest) != 0 {
			return errors.New("there is metadata but no 1.root.json; restore it from a backup or a mirror")
		}
		if r.keys[Root] == nil {
			return errors.New("there is no repository yet and the root key is not given; give it once, to sign the first root")
		}
		return nil
	}
	for v := int64(1); v <= newest; v++ {
		name := versioned(v, Root)
		data, err := r.store.read(name, maxRoot)
		if err != nil {
			return fmt.Errorf("every root version must be kept; restore the missing one from a mirror: %w", err)
		}
		root, err := parseRoot(data)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if root.Signed.Version != v {
			return fmt.Errorf("%s is version %d of the root", name, root.Signed.Version)
		}
		for _, by := range []*metadata.Metadata[metadata.RootType]{r.root, root} {
			if by == nil { // nothing before version 1
				continue
			}
			if err := by.VerifyDelegate(metadata.ROOT, root); err != nil {
				return fmt.Errorf("%s is not signed as root version %d demands: %w", name, by.Signed.Version, err)
			}
		}
		r.root, r.roots = root, append(r.roots, data)
	}
	// root.json is written after the version that it copies. One that is ahead
	// shows that a version was lost, and another must not take its number.
	copied, err := r.store.read("root.json", maxRoot)
	if err == nil && bytes.Equal(copied, r.roots[newest-1]) {
		return nil
	}
	if err == nil {
		root, err := parseRoot(copied)
		if err == nil && root.Signed.Version > newest {
			return fmt.Errorf("%s is missing, but root.json is a copy of it; restore it from a backup or a mirror", versioned(root.Signed.Version, Root))
		}
	}
	return r.store.write("root.json", r.roots[newest-1])
}

// checkRootKeys compares the keys that we have with those that the newest root
// lists. When an online key changed, the root is due, and so is the role, whose
// metadata the next root would not vouch for.
func (r *Repository) checkRootKeys(due map[Role]bool) error {
	for role, key := range r.keys {
		ids := r.root.Signed.Roles[string(role)].KeyIDs
		if role == Root {
			if !slices.Contains(ids, key.id) {
				return fmt.Errorf("the given root key is not one of root version %d; give the key that signed it, or none", r.root.Signed.Version)
			}
			continue
		}
		if len(ids) == 1 && ids[0] == key.id {
			continue
		}
		if r.keys[Root] == nil {
			if slices.Contains(ids, key.id) { // a root from elsewhere with spare keys
				continue
			}
			return fmt.Errorf("the key of TUF role %s is not in root version %d, and the root key is offline; give the old key, or the root key to sign root version %d",
				role, r.root.Signed.Version, r.root.Signed.Version+1)
		}
		due[Root], due[role] = true, true
	}
	return nil
}

// load reads what timestamp.json leads to. A role whose metadata was signed
// under an earlier root is marked due: its new key is known but the signature
// is not there yet. Without a timestamp it returns nil.
func (r *Repository) load(due map[Role]bool) (*generation, error) {
	if r.highest[Timestamp] == 0 {
		// Only a first publication can have been interrupted before there was
		// a timestamp, and it makes no version beyond 1.
		if r.highest[Targets] > 1 || r.highest[Snapshot] > 1 {
			return nil, errors.New("timestamp.json is missing from a repository that was published before; restore it from a backup or a mirror")
		}
		return nil, nil
	}
	g := &generation{own: map[string][]byte{}}
	var err error
	if g.timestamp, err = loadRole(r, g, "timestamp.json", Timestamp, maxTimestamp, parseTimestamp, nil, due); err != nil {
		return nil, err
	}
	meta := g.timestamp.Signed.Meta["snapshot.json"]
	if g.snapshot, err = loadRole(r, g, versioned(meta.Version, Snapshot), Snapshot, maxSnapshot, parseSnapshot, meta, due); err != nil {
		return nil, err
	}
	if g.snapshot.Signed.Version != meta.Version {
		return nil, fmt.Errorf("snapshot version %d is in the file of version %d", g.snapshot.Signed.Version, meta.Version)
	}
	meta = g.snapshot.Signed.Meta["targets.json"]
	if g.targets, err = loadRole(r, g, versioned(meta.Version, Targets), Targets, maxTargets, parseTargets, meta, due); err != nil {
		return nil, err
	}
	if g.targets.Signed.Version != meta.Version {
		return nil, fmt.Errorf("targets version %d is in the file of version %d", g.targets.Signed.Version, meta.Version)
	}
	for name, f := range g.targets.Signed.Targets {
		path := targetPath(f.Hashes["sha256"], name)
		data, err := r.store.read(path, maxTargets)
		if err == nil {
			err = f.VerifyLengthHashes(data)
		}
		if err != nil {
			return nil, fmt.Errorf("target %s: %w; restore it from a backup or a mirror", path, err)
		}
		g.own[path] = data
	}
	r.highest[Timestamp] = max(r.highest[Timestamp], g.timestamp.Signed.Version)
	if err := g.readDocuments(); err != nil {
		return nil, err
	}
	return g, nil
}

// loadRole reads, checks and keeps the metadata file of one role.
func loadRole[T metadata.Roles](r *Repository, g *generation, name string, role Role, limit int, parse parser[T], meta *metadata.MetaFiles, due map[Role]bool) (*metadata.Metadata[T], error) {
	fail := func(err error) (*metadata.Metadata[T], error) {
		return nil, fmt.Errorf("%s: %w; restore it from a backup or a mirror", name, err)
	}
	data, err := r.store.read(name, limit)
	if err != nil {
		return fail(err)
	}
	if meta != nil && !describes(meta, data) {
		return fail(errors.New("length or hash is not what the role above it says"))
	}
	m, err := parse(data)
	if err != nil {
		return fail(err)
	}
	if err = r.root.VerifyDelegate(string(role), m); err != nil {
		if !r.earlierRootVerifies(role, m) {
			return fail(err)
		}
		due[role] = true
	}
	g.own[name] = data
	return m, nil
}

// earlierRootVerifies tells whether m was good under a root before the newest.
func (r *Repository) earlierRootVerifies(role Role, m any) bool {
	for i := len(r.roots) - 2; i >= 0; i-- {
		root, err := parseRoot(r.roots[i])
		if err == nil && root.VerifyDelegate(string(role), m) == nil {
			return true
		}
	}
	return false
}

// readDocuments parses the two documents among g's files.
func (g *generation) readDocuments() error {
	read := func(name string) ([]byte, error) {
		f := g.targets.Signed.Targets[name]
		if f == nil {
			return nil, fmt.Errorf("there is no target %s", name)
		}
		return g.own[targetPath(f.Hashes["sha256"], name)], nil
	}
	data, err := read(trustedRootName)
	if err != nil {
		return err
	}
	if g.trusted, err = parseTrustedRoot(data); err != nil {
		return fmt.Errorf("%s: %w", trustedRootName, err)
	}
	if g.active, err = activeKeys(g.trusted); err != nil {
		return fmt.Errorf("%s: %w", trustedRootName, err)
	}
	g.chains = map[[32]byte]*common.TimeRange{}
	for _, ca := range g.trusted.GetCertificateAuthorities() {
		g.chains[chainID(certificates(ca))] = ca.GetValidFor()
	}
	if data, err = read(signingConfigName); err != nil {
		return err
	}
	if g.signing, err = parseSigningConfig(data); err != nil {
		return fmt.Errorf("%s: %w", signingConfigName, err)
	}
	return nil
}

// Publish makes m what clients trust and use. The first call signs root 1;
// later ones publish only when something changed. It returns when the new
// generation is durable and served, so a signer may be used right after it.
func (r *Repository) Publish(ctx context.Context, m Material) error {
	if err := m.validate(); err != nil {
		return fmt.Errorf("publish trust root: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.publish(ctx, m); err != nil {
		return fmt.Errorf("publish trust root: %w", err)
	}
	return nil
}

func (r *Repository) publish(ctx context.Context, m Material) error {
	base := r.current.Load()
	var prevTrusted *trustroot.TrustedRoot
	var prevSigning *trustroot.SigningConfig
	if base != nil {
		prevTrusted, prevSigning = base.trusted, base.signing
	}
	now := r.time()
	trusted, err := nextTrustedRoot(prevTrusted, m, now)
	if err != nil {
		return err
	}
	set, err := makeTargets(trusted, nextSigningConfig(prevSigning, m, now))
	if err != nil {
		return err
	}
	if base != nil && sameTargets(base.targets.Signed.Targets, set) {
		return nil
	}
	return r.advance(ctx, base, set, map[Role]bool{Root: r.root == nil, Targets: true})
}

// Renew signs again what has less than half of its life left: timestamp (which
// is also signed daily), snapshot, targets, and the root if its key is online.
// It returns an error when the root is expired and its key offline; the other
// roles are renewed nevertheless.
func (r *Repository) Renew(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	base := r.current.Load()
	if base == nil {
		return errors.New("renew TUF metadata: nothing is published yet; Publish comes first")
	}
	now := r.time()
	due := map[Role]bool{}
	r.addDue(due, base, now)
	if len(due) > 0 {
		if err := r.advance(ctx, base, nil, due); err != nil {
			return fmt.Errorf("renew TUF metadata: %w", err)
		}
	}
	if left := r.root.Signed.Expires.Sub(now); left <= 0 {
		return fmt.Errorf("renew TUF metadata: %w", r.rootExpired())
	} else if r.keys[Root] == nil && r.isDue(Root, r.root.Signed.Expires, now) {
		r.log.Warn("the TUF root must be signed again with its offline key",
			"version", r.root.Signed.Version, "expires", r.root.Signed.Expires, "days_left", int(left/day))
	}
	return nil
}

func (r *Repository) rootExpired() error {
	v := r.root.Signed.Version
	return fmt.Errorf("root version %d expired at %s and the root key is offline; start once with the root key, or sign %s elsewhere and put it here",
		v, r.root.Signed.Expires.Format(time.RFC3339), versioned(v+1, Root))
}

// Run calls Renew at every tick until ctx ends, and then returns nil. An error
// is logged and the next tick tries again. An hour between ticks is plenty.
func (r *Repository) Run(ctx context.Context, ticks <-chan time.Time) error {
	return run(ctx, ticks, r.log, r)
}

func run(ctx context.Context, ticks <-chan time.Time, log *slog.Logger, r interface {
	Renew(context.Context) error
	Expiries() map[Role]time.Time
}) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticks:
			if err := r.Renew(ctx); err != nil && ctx.Err() == nil {
				log.Error("TUF metadata was not renewed; clients will refuse it once it expires", "error", err, "expiries", r.Expiries())
			}
		}
	}
}

// addDue marks the roles whose metadata must be signed again at now; g is nil
// when there is a root only.
func (r *Repository) addDue(due map[Role]bool, g *generation, now time.Time) {
	expiries := map[Role]time.Time{Root: r.root.Signed.Expires}
	if g != nil {
		expiries[Targets] = g.targets.Signed.Expires
		expiries[Snapshot] = g.snapshot.Signed.Expires
		expiries[Timestamp] = g.timestamp.Signed.Expires
	}
	for role, expires := range expiries {
		if (role != Root || r.keys[Root] != nil) && r.isDue(role, expires, now) {
			due[role] = true
		}
	}
}

func (r *Repository) isDue(role Role, expires, now time.Time) bool {
	life := r.life[role]
	age := life / 2
	if role == Timestamp {
		age = min(age, day)
	}
	left := expires.Sub(now)
	// The second case: the lifetime was shortened. An hour is the slack of a
	// clock that was set back a little.
	return left <= life-age || left > life+time.Hour
}

// advance publishes the generation after base (nil for the first): it signs the
// roles that are due, and those above them, in the order of the package comment.
// With set it also replaces the targets. It is the only code that writes
// metadata, for a first start, a change, a renewal and a recovery alike.
func (r *Repository) advance(ctx context.Context, base *generation, set []target, due map[Role]bool) error {
	now := r.time()
	if due[Root] {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := r.writeRoot(now); err != nil {
			return err
		}
		// From here on mirrors have the new root, so it is served even if
		// something below fails. (While opening there is no current one.)
		if g := r.current.Load(); g != nil {
			withRoot := *g
			r.assemble(&withRoot, g)
			r.current.Store(&withRoot)
		}
	}
	next := &generation{own: map[string][]byte{}}
	if base == nil {
		// No timestamp vouches for what an interrupted first publication
		// wrote. It is written over, so that a repository without a timestamp
		// never has a version beyond 1; load relies on that.
		clear(r.highest)
		r.highest[Root] = r.root.Signed.Version
	} else {
		next.targets, next.snapshot, next.timestamp = base.targets, base.snapshot, base.timestamp
		next.own = maps.Clone(base.own)
	}
	if due[Targets] {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := r.writeTargets(next, base, set, now); err != nil {
			return err
		}
	}
	if due[Targets] || due[Snapshot] {
		if err := ctx.Err(); err != nil {
			return err
		}
		m := metadata.Snapshot(now.Add(r.life[Snapshot]))
		m.Signed.Version = r.nextVersion(Snapshot)
		v := next.targets.Signed.Version
		m.Signed.Meta["targets.json"] = describe(v, next.own[versioned(v, Targets)])
		data, signed, err := sign(m, Snapshot, r.keys[Snapshot], r.root, parseSnapshot)
		if err != nil {
			return err
		}
		if next.snapshot != nil {
			delete(next.own, versioned(next.snapshot.Signed.Version, Snapshot))
		}
		if err := r.put(next, versioned(signed.Signed.Version, Snapshot), data); err != nil {
			return err
		}
		next.snapshot = signed
	}
	if due[Targets] || due[Snapshot] || due[Timestamp] {
		if err := ctx.Err(); err != nil {
			return err
		}
		m := metadata.Timestamp(now.Add(r.life[Timestamp]))
		m.Signed.Version = r.nextVersion(Timestamp)
		v := next.snapshot.Signed.Version
		m.Signed.Meta["snapshot.json"] = describe(v, next.own[versioned(v, Snapshot)])
		data, signed, err := sign(m, Timestamp, r.keys[Timestamp], r.root, parseTimestamp)
		if err != nil {
			return err
		}
		// The commit point: after this line the next generation is published.
		if err := r.put(next, "timestamp.json", data); err != nil {
			return err
		}
		next.timestamp = signed
	}
	if err := next.readDocuments(); err != nil { // makeTargets read them already
		return err
	}
	r.assemble(next, base)
	r.current.Store(next)
	if len(due) > 0 {
		r.log.Info("TUF metadata published", "root", r.root.Signed.Version, "targets", next.targets.Signed.Version,
			"snapshot", next.snapshot.Signed.Version, "timestamp", next.timestamp.Signed.Version, "changed", set != nil)
	}
	return nil
}

// nextVersion reserves a version; see Repository.highest.
func (r *Repository) nextVersion(role Role) int64 {
	r.highest[role]++
	return r.highest[role]
}

// put writes a file of the next generation.
func (r *Repository) put(next *generation, name string, data []byte) error {
	if err := r.store.write(name, data); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	next.own[name] = data
	return nil
}

// writeTargets writes the target files and the targets role. Without a set the
// targets stay as they are and only the signature and its expiry are new.
func (r *Repository) writeTargets(next, base *generation, set []target, now time.Time) error {
	m := metadata.Targets(now.Add(r.life[Targets]))
	m.Signed.Version = r.nextVersion(Targets)
	if set == nil {
		m.Signed.Targets = base.targets.Signed.Targets
		delete(next.own, versioned(base.targets.Signed.Version, Targets))
	} else {
		next.own = map[string][]byte{}
		if base != nil { // the snapshot in use, until there is a new one
			name := versioned(base.snapshot.Signed.Version, Snapshot)
			next.own[name] = base.own[name]
		}
		for _, t := range set {
			f, err := t.file()
			if err != nil {
				return fmt.Errorf("target %s: %w", t.name, err)
			}
			if m.Signed.Targets[t.name] != nil {
				return fmt.Errorf("two targets have the name %s", t.name)
			}
			if len(t.data) > maxTargets {
				return fmt.Errorf("target %s has %d bytes, the limit is %d", t.name, len(t.data), maxTargets)
			}
			m.Signed.Targets[t.name] = f
			if base != nil && base.own[t.path()] != nil {
				next.own[t.path()] = t.data
				continue
			}
			if err := r.put(next, t.path(), t.data); err != nil {
				return err
			}
		}
	}
	data, signed, err := sign(m, Targets, r.keys[Targets], r.root, parseTargets)
	if err != nil {
		return err
	}
	if err := r.put(next, versioned(signed.Signed.Version, Targets), data); err != nil {
		return err
	}
	next.targets = signed
	return nil
}

// writeRoot signs and writes the next root version: root 1, or one with the
// root keys of the newest and our keys for the other roles.
func (r *Repository) writeRoot(now time.Time) error {
	m := metadata.Root(now.Add(r.life[Root]))
	if r.root == nil {
		if err := m.Signed.AddKey(r.keys[Root].key, metadata.ROOT); err != nil {
			return err
		}
	} else {
		m.Signed.Version = r.root.Signed.Version + 1
		old := r.root.Signed.Roles[metadata.ROOT]
		m.Signed.Roles[metadata.ROOT].Threshold = old.Threshold
		for _, id := range old.KeyIDs {
			if err := m.Signed.AddKey(r.root.Signed.Keys[id], metadata.ROOT); err != nil {
				return err
			}
		}
	}
	for _, role := range []Role{Targets, Snapshot, Timestamp} {
		if err := m.Signed.AddKey(r.keys[role].key, string(role)); err != nil {
			return err
		}
	}
	signedBy := r.root
	if signedBy == nil {
		signedBy = m
	}
	data, signed, err := sign(m, Root, r.keys[Root], signedBy, parseRoot)
	if err != nil {
		return err
	}
	// The new root must satisfy itself too (TUF specification, section 5.3.4).
	if err := signed.VerifyDelegate(metadata.ROOT, signed); err != nil {
		return fmt.Errorf("new root cannot be published: %w", err)
	}
	name := versioned(signed.Signed.Version, Root)
	if taken, err := r.store.exists(name); err != nil {
		return err
	} else if taken {
		return fmt.Errorf("%s appeared while the repository was open; open it again to take it over", name)
	}
	// The commit point of a root: clients ask for this name first.
	err = r.store.write(name, data)
	if written, xerr := r.store.exists(name); xerr == nil && written {
		// Even if the write reported an error, the name is there for a mirror
		// to copy. This version then counts, and is never signed differently.
		r.root, r.roots = signed, append(r.roots, data)
		r.highest[Root] = signed.Signed.Version
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := r.store.write("root.json", data); err != nil {
		return fmt.Errorf("write root.json: %w", err)
	}
	r.log.Info("TUF root signed", "version", signed.Signed.Version, "expires", signed.Signed.Expires)
	return nil
}

// assemble fills in what g serves: its own files, every root, the targets under
// their plain names, and the versioned files of the generation before.
func (r *Repository) assemble(g, before *generation) {
	g.root = r.root
	g.files = map[string][]byte{}
	if before != nil {
		for name, data := range before.own {
			if name != "timestamp.json" {
				g.files[name] = data
			}
		}
	}
	maps.Copy(g.files, g.own)
	for name, f := range g.targets.Signed.Targets {
		g.files["targets/"+name] = g.own[targetPath(f.Hashes["sha256"], name)]
	}
	for i, data := range r.roots {
		g.files[versioned(int64(i)+1, Root)] = data
	}
	g.files["root.json"] = r.roots[len(r.roots)-1]
}

// File returns the bytes to serve under name, as in "3.root.json" or
// "targets/trusted_root.json". Names are compared exactly; nothing is read from
// disk. The caller must not change the bytes.
func (r *Repository) File(name string) ([]byte, bool) {
	g := r.current.Load()
	if g == nil {
		return nil, false
	}
	data, ok := g.files[name]
	return data, ok
}

// Immutable tells whether the file of this name never changes: root, snapshot
// and targets versions, and targets under their hash.
func Immutable(name string) bool {
	for _, role := range []Role{Root, Targets, Snapshot} {
		if _, ok := parseVersioned(name, role); ok {
			return true
		}
	}
	base, ok := strings.CutPrefix(name, "targets/")
	if !ok {
		return false
	}
	hash, _, ok := strings.Cut(base, ".")
	return ok && len(hash) == 2*sha256.Size && strings.Trim(hash, "0123456789abcdef") == ""
}

// Contains tells whether clients can know pub now: it is the key of a log or of
// an issuing certificate in the published trusted root, and is not retired.
// Nothing may be signed with a key for which it is false.
func (r *Repository) Contains(pub crypto.PublicKey) bool {
	g := r.current.Load()
	if g == nil {
		return false
	}
	spki, err := x509.MarshalPKIXPublicKey(pub)
	return err == nil && g.active[sha256.Sum256(spki)]
}

// Trusts tells whether clients can know the chain now, and accept it at a time:
// it is in the published trusted root, without an end before that time. Nothing
// that lives until then may be signed with a chain for which it is false.
func (r *Repository) Trusts(chain []*x509.Certificate, until time.Time) bool {
	g := r.current.Load()
	if g == nil {
		return false
	}
	valid, ok := g.chains[chainID(Authority{Chain: chain}.der())]
	return ok && (valid.GetEnd() == nil || !until.After(valid.GetEnd().AsTime()))
}

// Expiries returns when the published metadata of each role expires; nil when
// nothing is published.
func (r *Repository) Expiries() map[Role]time.Time {
	g := r.current.Load()
	if g == nil {
		return nil
	}
	return map[Role]time.Time{
		Root:      g.root.Signed.Expires,
		Targets:   g.targets.Signed.Expires,
		Snapshot:  g.snapshot.Signed.Expires,
		Timestamp: g.timestamp.Signed.Expires,
	}
}
