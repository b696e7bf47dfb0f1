package fsck

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/transparency-dev/merkle/rfc6962"
	"modernc.org/sqlite"

	"github.com/sigstack/sigstack/tlog/checkpoint"
	"github.com/sigstack/sigstack/tlog/tile"
)

// The files of a log in its directory.
const (
	databaseFile = "log.db"
	memoryFile   = "signed"
)

// schemaVersion is the version of the database that this checker reads (PRAGMA
// user_version).
const schemaVersion = 3

// DirOptions say what to check a data directory with.
type DirOptions struct {
	// PublicKeys are the keys of the logs, ECDSA P-256, in any order: a log is
	// matched with its key by the key hash in its checkpoints. Without any, no
	// signature is verified.
	PublicKeys []crypto.PublicKey

	// Older are checkpoints (signed notes) of these logs from earlier, matched
	// by their origin.
	Older [][]byte
}

// CheckDir checks every log below a data directory: each directory, at most
// three levels down, that has a log.db.
//
// A database is read in one transaction that writes nothing, so that the
// server may be running. The second memory (the file "signed", two slots of
// 4096 bytes) is read before it, because it is written after it. What is
// checked:
//
//   - the database itself (SQLite's integrity_check), and that it has one log;
//   - each entry: its index, its leaf hash and its identity, that time does not
//     go back, and that it is well-formed (Rekor: a JSON object with kind,
//     apiVersion and spec; CT: as CheckCT, and the stored signature of its SCT);
//   - each tile of each level against the entries, and that there is no other;
//   - the root of the head, of the second memory and of older checkpoints;
//   - that each search key leads to an entry.
func CheckDir(ctx context.Context, dir string, o DirOptions) (Report, error) {
	keys := make(map[[4]byte]*dirKey)
	for _, k := range o.PublicKeys {
		pub, id, err := checkKey(k)
		if err != nil {
			return Report{}, err
		}
		keys[[4]byte(id[:4])] = &dirKey{pub, hex.EncodeToString(id[:])}
	}
	var r Report
	matched := make(map[int]bool)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if rel, err := filepath.Rel(dir, path); err != nil || strings.Count(rel, string(filepath.Separator)) >= 3 {
				return fs.SkipDir
			}
			return nil
		}
		if d.Name() != databaseFile {
			return nil
		}
		c := &dirCheck{dir: filepath.Dir(path), keys: keys, older: o.Older, matched: matched}
		c.out = &LogReport{Log: c.dir, Kind: "empty"}
		r.Logs = append(r.Logs, c.out)
		if err := c.run(ctx); err != nil {
			return fmt.Errorf("checking the log in %s: %w", c.dir, err)
		}
		return nil
	})
	if err == nil && len(r.Logs) == 0 {
		err = fmt.Errorf("%s has no %s in it or below it; want the data directory of a server", dir, databaseFile)
	}
	for i, note := range o.Older {
		if err == nil && !matched[i] {
			origin, _, _ := strings.Cut(string(note), "\n")
			err = fmt.Errorf("older checkpoint %d is of log %.120q, which is not in %s", i, origin, dir)
		}
	}
	return r, err
}

type dirKey struct {
	pub *ecdsa.PublicKey
	id  string // hex
}

// A dirCheck is the check of one directory.
type dirCheck struct {
	dir   string
	out   *LogReport
	keys  map[[4]byte]*dirKey
	key   *dirKey // of this log; nil where it is not known
	older [][]byte
	links links

	matched map[int]bool // which of older were of this log, or of one before it

	db   *sql.Conn // in a transaction
	size uint64    // as the head says
}

// corrupt is what the database says that it should not. It is a finding.
type corrupt struct{ err error }

func (e *corrupt) Error() string { return e.err.Error() }

// dbError sorts an error of the database: what it holds is broken (a finding),
// or it could not be read.
func dbError(ctx context.Context, err error) error {
	var code *sqlite.Error
	switch {
	case err == nil || ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &code):
		switch code.Code() & 0xff {
		case 1, 11, 26: // SQLITE_ERROR (no such table), SQLITE_CORRUPT, SQLITE_NOTADB
		default:
			return err
		}
	}
	return &corrupt{err}
}

func (c *dirCheck) run(ctx context.Context) error {
	states, err := c.memory()
	if err != nil {
		return err
	}
	abs, err := filepath.Abs(filepath.Join(c.dir, databaseFile))
	if err != nil {
		return err
	}
	dsn := url.URL{Scheme: "file", OmitHost: true, Path: abs, RawQuery: "mode=ro&_pragma=query_only(true)&_pragma=busy_timeout(5000)"}
	pool, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return err
	}
	defer pool.Close()
	if c.db, err = pool.Conn(ctx); err != nil {
		return err
	}
	defer c.db.Close()
	if _, err := c.db.ExecContext(ctx, "BEGIN"); err != nil {
		return err
	}
	// A step that finds the database broken does not keep the others from
	// looking at what they can still read.
	for _, step := range []func(context.Context) error{
		c.integrity,
		func(ctx context.Context) error { return c.tree(ctx, states) },
		c.strayTiles,
		c.searchKeys,
	} {
		var bad *corrupt
		if err := step(ctx); errors.As(err, &bad) {
			c.out.find("database", "%v", bad)
		} else if err != nil {
			return err
		}
	}
	return nil
}

// slotSize is the size of one of the two slots of the second memory.
const slotSize = 4096

// memory reads the checkpoints in the second memory.
func (c *dirCheck) memory() ([]checkpoint.Checkpoint, error) {
	f, err := os.Open(filepath.Join(c.dir, memoryFile))
	if errors.Is(err, fs.ErrNotExist) {
		c.out.find("second memory", "there is no file %q beside the database", memoryFile)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 2*slotSize+1))
	if err != nil {
		return nil, err
	}
	if len(b) != 2*slotSize {
		c.out.find("second memory", "it has %d bytes, want %d", len(b), 2*slotSize)
	}
	var states []checkpoint.Checkpoint
	for slot := 0; slot < 2 && len(b) > slot*slotSize; slot++ {
		object := fmt.Sprintf("second memory, slot %d", slot)
		part := b[slot*slotSize : min(len(b), (slot+1)*slotSize)]
		note, rest, _ := bytes.Cut(part, []byte{0})
		if len(bytes.Trim(rest, "\x00")) > 0 {
			c.out.find(object, "there is something behind its checkpoint")
		}
		if len(note) == 0 {
			continue // never written
		}
		cp, err := c.open(note)
		if err != nil {
			c.out.find(object, "%v (a crash in the middle of writing it leaves that too)", err)
			continue
		}
		c.out.Counts.Checkpoints++
		states = append(states, cp)
	}
	// The origin may differ between the slots: it follows the name of the host.
	if len(states) > 0 {
		c.out.Origin = slices.MaxFunc(states, func(a, b checkpoint.Checkpoint) int { return cmp.Compare(a.Size, b.Size) }).Origin
	}
	return states, nil
}

// open opens a checkpoint with the key that fits it, or reads it unverified
// where no keys were given.
func (c *dirCheck) open(note []byte) (checkpoint.Checkpoint, error) {
	body, lines, ok := bytes.Cut(note, []byte("\n\n"))
	if !ok {
		return checkpoint.Checkpoint{}, errors.New("it is not a signed note: no blank line before its signatures")
	}
	if len(c.keys) == 0 {
		return checkpoint.Parse(append(bytes.Clone(body), '\n'))
	}
	for _, k := range c.keys {
		cp, _, err := openNote(note, k.pub)
		if err == nil {
			c.key, c.out.KeyID = k, k.id
			c.out.Counts.Signatures++
			return cp, nil
		}
	}
	first, _, _ := bytes.Cut(lines, []byte("\n"))
	return checkpoint.Checkpoint{}, fmt.Errorf("its signature line %.120q does not verify with any of the %d keys that were given", first, len(c.keys))
}

// integrity has SQLite check its own structures: pages, and that indexes and
// tables agree.
func (c *dirCheck) integrity(ctx context.Context) error {
	var version int
	if err := c.db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return dbError(ctx, err)
	}
	if version != schemaVersion {
		return fmt.Errorf("%s has schema version %d; this checker reads version %d", databaseFile, version, schemaVersion)
	}
	rows, err := c.db.QueryContext(ctx, "PRAGMA integrity_check(100)")
	if err != nil {
		return dbError(ctx, err)
	}
	defer rows.Close()
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			return dbError(ctx, err)
		}
		if line != "ok" {
			c.out.find("database", "%s", strings.ReplaceAll(line, "\n", "; "))
		}
	}
	return dbError(ctx, rows.Err())
}

// tree folds the entries, and compares them with the tiles and the roots.
func (c *dirCheck) tree(ctx context.Context, states []checkpoint.Checkpoint) error {
	var root []byte
	var treeID, headTime int64
	if err := c.db.QueryRowContext(ctx, "SELECT tree_id, size, root, time FROM log").Scan(&treeID, &c.size, &root, &headTime); err != nil {
		return dbError(ctx, err)
	}
	c.out.Size = c.size
	if treeID <= 0 {
		c.out.find("head", "its tree ID is %d, want a positive number", treeID)
	}
	// A Rekor log identifies an entry by its leaf hash, a CT log does not. The
	// majority says which it is, so that one broken entry does not.
	var entries, otherIDs uint64
	if err := c.db.QueryRowContext(ctx, "SELECT (SELECT count(*) FROM entry), (SELECT count(*) FROM entry WHERE hash IS NOT NULL)").Scan(&entries, &otherIDs); err != nil {
		return dbError(ctx, err)
	}
	if entries > 0 {
		c.out.Kind = "rekor"
		if otherIDs > entries/2 {
			c.out.Kind = "ct"
		}
	}
	f := newFold(c.out)
	if len(root) != 32 {
		c.out.find("head", "its root has %d bytes, want 32", len(root))
	} else {
		c.out.Root = [32]byte(root)
		f.want(c.size, c.out.Root, "head")
	}
	if len(states) == 0 && c.size > 0 {
		c.out.find("second memory", "it holds no checkpoint, but the log has %d entries", c.size)
	}
	for _, cp := range states {
		c.wantState(f, fmt.Sprintf("signed checkpoint of size %d", cp.Size), cp)
	}
	for i, note := range c.older {
		if origin, _, _ := strings.Cut(string(note), "\n"); origin != c.out.Origin {
			continue // of another log
		}
		c.matched[i] = true
		object := fmt.Sprintf("older checkpoint %d", i)
		cp, err := c.open(note)
		if err != nil {
			c.out.find(object, "%v", err)
			continue
		}
		c.out.Counts.Checkpoints++
		c.wantState(f, object, cp)
	}
	f.tile = func(level int, index uint64, hashes [][tile.HashSize]byte) error {
		return c.tile(ctx, level, index, hashes)
	}
	last, err := c.entries(ctx, f)
	if err != nil {
		return err
	}
	if f.broken {
		c.out.find("tree", "neither tiles nor roots behind the first missing entry were compared")
		return nil
	}
	if f.size() != c.size {
		c.out.find("head", "its size is %d, but there are %d entries", c.size, f.size())
	} else if c.size > 0 && last != headTime {
		c.out.find("head", "its time is %d, but that of the last entry is %d", headTime, last)
	}
	return f.finish()
}

func (c *dirCheck) wantState(f *fold, object string, cp checkpoint.Checkpoint) {
	if cp.Size > c.size {
		c.out.find(object, "the log has only %d entries", c.size)
		return
	}
	f.want(cp.Size, cp.Root, object)
}

// entries folds every entry, and returns the time of the last one.
func (c *dirCheck) entries(ctx context.Context, f *fold) (last int64, err error) {
	next := uint64(0) // the index to come
	for {
		// One tile's width at a time: tiles are read between the queries.
		hashes := make([][32]byte, 0, tile.Width)
		rows, err := c.db.QueryContext(ctx, "SELECT idx, id, hash, time, value, extra FROM entry WHERE idx >= ? ORDER BY idx LIMIT ?", int64(next), tile.Width)
		if err != nil {
			return 0, dbError(ctx, err)
		}
		for rows.Next() {
			var e dirEntry
			if err := rows.Scan(&e.index, &e.id, &e.hash, &e.time, &e.value, &e.extra); err != nil {
				rows.Close()
				return 0, dbError(ctx, err)
			}
			object := fmt.Sprintf("entry %d", e.index)
			if e.index != next {
				if e.index == next+1 {
					c.out.find(fmt.Sprintf("entry %d", next), "it is missing")
				} else {
					c.out.find(fmt.Sprintf("entries %d to %d", next, e.index-1), "they are missing")
				}
				f.broken = true
			}
			next = e.index + 1
			if e.time < last {
				c.out.find(object, "its time is %d, before that of the entry before it, %d", e.time, last)
			}
			last = e.time
			hashes = append(hashes, c.entry(object, e))
			c.out.Counts.Entries++
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return 0, dbError(ctx, err)
		}
		for _, h := range hashes {
			if err := f.push(h); err != nil {
				return 0, err
			}
		}
		if len(hashes) < tile.Width {
			break
		}
	}
	if next < c.size && !f.broken {
		c.out.find(fmt.Sprintf("entries %d to %d", next, c.size-1), "they are missing")
	}
	return last, nil
}

type dirEntry struct {
	index        uint64
	id, hash     []byte
	time         int64
	value, extra []byte
}

// entry checks one entry by itself and returns its leaf hash. Where the value
// does not hash to what was recorded beside it, the recorded one is returned:
// the tree then tells whether it was the value that changed.
func (c *dirCheck) entry(object string, e dirEntry) [32]byte {
	computed := [32]byte(rfc6962.DefaultHasher.HashLeaf(e.value))
	recorded := e.hash
	if recorded == nil {
		recorded = e.id
	}
	if c.out.Kind == "rekor" {
		if problem := rekorBody(e.value); problem != "" {
			c.out.find(object, "%s", problem)
		}
		if e.hash != nil {
			c.out.find(object, "its identity is %x, want its leaf hash", e.id)
		}
	} else {
		c.certificate(object, e)
	}
	if bytes.Equal(recorded, computed[:]) {
		return computed
	}
	c.out.find(object, "its value hashes to %x, but its recorded leaf hash is %x", computed, recorded)
	if len(recorded) == 32 {
		return [32]byte(recorded)
	}
	return computed
}

// certificate checks an entry of a CT log. Beside the leaf lies the
// DigitallySigned of its SCT with two bytes of length, and then extra_data.
func (c *dirCheck) certificate(object string, e dirEntry) {
	leaf, err := parseLeaf(e.value)
	if err != nil {
		c.out.find(object, "%v", err)
		return
	}
	// The identity is the hash of the leaf with timestamp zero.
	zero := bytes.Clone(e.value)
	clear(zero[2:10])
	if id := sha256.Sum256(zero); !bytes.Equal(id[:], e.id) {
		c.out.find(object, "its identity is %x, but what was submitted has %x", e.id, id)
	}
	if len(e.extra) < 2 || len(e.extra)-2 < int(binary.BigEndian.Uint16(e.extra)) {
		c.out.find(object, "the signature of its SCT is cut short")
		return
	}
	n := 2 + int(binary.BigEndian.Uint16(e.extra))
	if c.key != nil {
		// RFC 6962, section 3.2: what is signed has the bytes of the leaf.
		if verifySigned(c.key.pub, e.value, e.extra[2:n]) {
			c.out.Counts.Signatures++
		} else {
			c.out.find(object, "the signature of its SCT does not verify")
		}
	}
	for _, problem := range checkCert(leaf, e.extra[n:], &c.links) {
		c.out.find(object, "%s", problem)
	}
}

// tile compares a stored tile with the hashes that the entries lead to.
func (c *dirCheck) tile(ctx context.Context, level int, index uint64, want [][tile.HashSize]byte) error {
	object := fmt.Sprintf("tile %d/%d", level, index)
	var body []byte
	err := c.db.QueryRowContext(ctx, "SELECT hashes FROM tile WHERE pos = ?", int64(level)<<56|int64(index)).Scan(&body)
	if errors.Is(err, sql.ErrNoRows) {
		c.out.find(object, "it is missing")
		return nil
	}
	if err != nil {
		return dbError(ctx, err)
	}
	c.out.Counts.Tiles++
	got, err := tile.ParseHashes(body, len(want))
	if err != nil {
		c.out.find(object, "%v", err)
		return nil
	}
	wrong := 0
	for i := range want {
		if got[i] != want[i] {
			if wrong++; wrong <= 3 {
				c.out.find(object, "its hash %d is %x, but the entries lead to %x", i, got[i], want[i])
			}
		}
	}
	if wrong > 3 {
		c.out.find(object, "%d more of its hashes are wrong", wrong-3)
	}
	return nil
}

// strayTiles looks for tiles that the tree does not have.
func (c *dirCheck) strayTiles(ctx context.Context) error {
	rows, err := c.db.QueryContext(ctx, "SELECT pos FROM tile ORDER BY pos")
	if err != nil {
		return dbError(ctx, err)
	}
	defer rows.Close()
	for rows.Next() {
		var pos int64
		if err := rows.Scan(&pos); err != nil {
			return dbError(ctx, err)
		}
		level, index := uint64(pos)>>56, uint64(pos)&(1<<56-1)
		// A level has size >> 8*level nodes, and a tile for each 256 of them
		// that were begun. Shifts by 64 and more give zero.
		if nodes := c.size >> (tileHeight * level); index >= (nodes+tile.Width-1)/tile.Width {
			c.out.find(fmt.Sprintf("tile %d/%d", level, index), "a tree of size %d does not have it", c.size)
		}
	}
	return dbError(ctx, rows.Err())
}

// searchKeys looks for search keys that lead nowhere.
func (c *dirCheck) searchKeys(ctx context.Context) error {
	if err := c.db.QueryRowContext(ctx, "SELECT count(*) FROM search").Scan(&c.out.Counts.SearchKeys); err != nil {
		return dbError(ctx, err)
	}
	rows, err := c.db.QueryContext(ctx, `SELECT key, hash FROM search AS s
		WHERE NOT EXISTS (SELECT 1 FROM entry WHERE id = s.hash AND hash IS NULL)
		AND NOT EXISTS (SELECT 1 FROM entry WHERE hash = s.hash)`)
	if err != nil {
		return dbError(ctx, err)
	}
	defer rows.Close()
	for rows.Next() {
		var key string
		var hash []byte
		if err := rows.Scan(&key, &hash); err != nil {
			return dbError(ctx, err)
		}
		c.out.find(fmt.Sprintf("search key %.200q", key), "it leads to leaf hash %x, which no entry has", hash)
	}
	return dbError(ctx, rows.Err())
}
