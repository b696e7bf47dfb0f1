package fsck

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/url"
	"path/filepath"
	"time"

	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"
)

// The versions of the schemas that this checker reads: that of the file of the audit
// log, and that of a database, which has all tables.
const (
	auditVersion    = 2
	databaseVersion = 3
)

// auditDomain begins what the hash of a row is over.
const auditDomain = "sigstack audit row, version 1\n"

// An AuditSource is an audit log, with the CT log of the same CA.
type AuditSource struct {
	audit, ct *sql.DB
	queries   auditQueries
}

// auditQueries are what a storage is asked.
type auditQueries struct {
	version, snapshot, rows, head, entries string
	reads                                  int // what version must say
}

// AuditDir opens the audit log and the CT log of a data directory. Nothing is
// written, so that the server may be running.
func AuditDir(dir string) (*AuditSource, error) {
	s := &AuditSource{queries: auditQueries{
		reads:    auditVersion,
		version:  "PRAGMA user_version",
		snapshot: "BEGIN",
		rows:     "SELECT seq, time, kind, serial, record, hash FROM audit ORDER BY seq",
		head:     "SELECT seq, hash FROM audit_head",
		entries:  "SELECT idx, value FROM entry WHERE idx >= ? ORDER BY idx",
	}}
	for _, f := range []struct {
		to   **sql.DB
		name string
	}{{&s.audit, "audit.db"}, {&s.ct, filepath.Join("ct", databaseFile)}} {
		abs, err := filepath.Abs(filepath.Join(dir, f.name))
		if err != nil {
			return nil, err
		}
		dsn := url.URL{Scheme: "file", OmitHost: true, Path: abs, RawQuery: "mode=ro&_pragma=query_only(true)&_pragma=busy_timeout(5000)"}
		if *f.to, err = sql.Open("sqlite", dsn.String()); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// AuditDatabase reads them in a database of MySQL's protocol, over connections that
// take several statements at a time.
func AuditDatabase(db *sql.DB) *AuditSource {
	return &AuditSource{audit: db, ct: db, queries: auditQueries{
		reads:    databaseVersion,
		version:  "SELECT COALESCE(MAX(version), 0) FROM sigstack_schema",
		snapshot: "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;START TRANSACTION WITH CONSISTENT SNAPSHOT",
		rows:     "SELECT seq, time, kind, serial, record, hash FROM sigstack_audit_row ORDER BY seq",
		head:     "SELECT seq, hash FROM sigstack_audit_head",
		entries: `SELECT s.SequenceNumber, l.LeafValue FROM SequencedLeafData s
			JOIN LeafData l ON l.TreeId = s.TreeId AND l.LeafIdentityHash = s.LeafIdentityHash
			JOIN sigstack_log n ON n.tree_id = s.TreeId
			WHERE n.name = 'ct' AND s.SequenceNumber >= ? ORDER BY s.SequenceNumber`,
	}}
}

// Close closes what was opened.
func (s *AuditSource) Close() error { return errors.Join(s.audit.Close(), s.ct.Close()) }

// AuditOptions say what to check an audit log with.
type AuditOptions struct {
	// Issuers are the hashes of the keys of issuing certificates (SHA-256 of
	// the SubjectPublicKeyInfo), beside those that the rows name: each
	// precertificate of theirs in the CT log must have been intended.
	Issuers [][32]byte

	// Heads are hashes of the chain that were noted earlier, and must still be
	// in it. Without one, rows that are missing at the end are not noticed where
	// the head was taken back, too.
	Heads [][32]byte
}

// An AuditReport says what was checked and what was found.
type AuditReport struct {
	Rows, Issued, Failed uint64
	Open                 uint64   // intended, without a row that says what came of it
	Recorded             uint64   // of schema version 1
	Entries              uint64   // of the CT log
	Head                 [32]byte // the hash of the last row; zero if there is none

	Findings []Finding
	Omitted  int // findings beyond the first maxFindings
}

// Write writes the report for a person to read.
func (r AuditReport) Write(w io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "head    %x\nrows    %d\n", r.Head, r.Rows)
	fmt.Fprintf(&b, "checked %d certificates, %d failures, %d intended and without outcome, %d of version 1, %d entries of the CT log\n",
		r.Issued, r.Failed, r.Open, r.Recorded, r.Entries)
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "WRONG   %s\n", f)
	}
	if r.Omitted > 0 {
		fmt.Fprintf(&b, "WRONG   %d more\n", r.Omitted)
	}
	if len(r.Findings) == 0 {
		fmt.Fprintln(&b, "OK")
	}
	_, err := w.Write(b.Bytes())
	return err
}

// An auditCheck is one run of CheckAudit. Its memory grows with the log, by some
// 400 bytes for each certificate.
type auditCheck struct {
	source *AuditSource
	out    *LogReport // collects the findings
	report AuditReport

	issuers  map[[32]byte]bool
	heads    map[[32]byte]bool // that were not met yet
	intended map[string]*auditState
	tokens   map[[32]byte][32]byte // of tokens that are good for one key, that key
	migrated time.Time             // when the schema was brought to version 2

	logged  map[[32]byte]*loggedCert // by leaf hash
	serials map[string]uint64        // of the CT log's precertificates, their entry
	size    uint64                   // of the CT log, as far as it was read
	again   bool                     // it was read once
}

// auditState is what the rows say of a serial number.
type auditState struct {
	row     uint64
	what    [32]byte // of name and key, and the validity
	key     [32]byte
	outcome bool
	leaf    *[32]byte // where a certificate was issued
}

// loggedCert is a precertificate in the CT log.
type loggedCert struct {
	index     uint64
	timestamp uint64 // ms since 1970
	issuer    [32]byte
	serial    string
	key       [32]byte
	late      bool // it was added while the rows were being read
}

// CheckAudit re-reads every row of an audit log and every entry of the CT log, and
// says what does not fit: the chain of hashes and its head, the order of the rows
// of a serial number and what they repeat of each other, a serial number or a token
// that was used twice, a certificate whose precertificate is not in the CT log,
// and a precertificate that no row intends.
func CheckAudit(ctx context.Context, source *AuditSource, o AuditOptions) (AuditReport, error) {
	c := &auditCheck{
		source: source, out: &LogReport{},
		issuers: map[[32]byte]bool{}, heads: map[[32]byte]bool{}, intended: map[string]*auditState{}, tokens: map[[32]byte][32]byte{},
		logged: map[[32]byte]*loggedCert{}, serials: map[string]uint64{},
	}
	for _, i := range o.Issuers {
		c.issuers[i] = true
	}
	for _, h := range o.Heads {
		c.heads[h] = true
	}
	// A row is written before its precertificate is logged, and one that says
	// issued afterwards: so entries, rows, and the entries that came meanwhile.
	for _, step := range []func(context.Context) error{c.entries, c.rows, c.entries, c.compare} {
		var bad *corrupt
		if err := step(ctx); errors.As(err, &bad) {
			c.out.find("database", "%v", bad)
		} else if err != nil {
			return c.report, fmt.Errorf("checking the audit log: %w", err)
		}
	}
	c.report.Findings, c.report.Omitted = c.out.Findings, c.out.Omitted
	return c.report, nil
}

// rows reads the rows, in one snapshot with their head.
func (c *auditCheck) rows(ctx context.Context) error {
	conn, err := c.source.audit.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	var version int
	if err := conn.QueryRowContext(ctx, c.source.queries.version).Scan(&version); err != nil {
		return err
	}
	if reads := c.source.queries.reads; version != reads {
		return fmt.Errorf("it has schema version %d, and this checker reads version %d; a start of the server brings an older one to its own", version, reads)
	}
	if _, err := conn.ExecContext(ctx, c.source.queries.snapshot); err != nil {
		return err
	}
	defer conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
	found, err := conn.QueryContext(ctx, c.source.queries.rows)
	if err != nil {
		return dbError(ctx, err)
	}
	defer found.Close()
	last := int64(0)
	delete(c.heads, [32]byte{}) // that of an empty log is in every chain
	for found.Next() {
		var seq, nanos int64
		var kind, serial string
		var record, hash []byte
		if err := found.Scan(&seq, &nanos, &kind, &serial, &record, &hash); err != nil {
			return dbError(ctx, err)
		}
		object := fmt.Sprintf("row %d (%.20s, serial %.64s)", seq, kind, serial)
		if seq != last+1 {
			c.out.find(object, "it follows row %d: what was between is missing", last)
		}
		last = seq
		c.report.Rows++
		c.report.Head = auditChain(c.report.Head, nanos, kind, serial, record)
		if !bytes.Equal(hash, c.report.Head[:]) {
			c.out.find(object, "its hash is %x, the rows up to it lead to %x: it, or one before it, was changed", hash, c.report.Head)
			if len(hash) == len(c.report.Head) {
				c.report.Head = [32]byte(hash) // so that each break is found once
			}
		}
		delete(c.heads, c.report.Head)
		c.row(object, uint64(seq), time.Unix(0, nanos), kind, serial, record) // #nosec G115 -- a name
	}
	if err := found.Err(); err != nil {
		return dbError(ctx, err)
	}
	found.Close()
	var headSeq int64
	var head []byte
	if err := conn.QueryRowContext(ctx, c.source.queries.head).Scan(&headSeq, &head); err != nil {
		return dbError(ctx, err)
	}
	if headSeq != last || !bytes.Equal(head, c.report.Head[:]) {
		c.out.find("head", "it names row %d with hash %x; the last row is %d with %x", headSeq, head, last, c.report.Head)
	}
	for h := range c.heads {
		c.out.find("head", "%x, which was noted earlier, is not in the chain: rows were removed or changed since", h)
	}
	return nil
}

// auditChain is the hash of a row behind another one.
func auditChain(before [32]byte, nanos int64, kind, serial string, record []byte) [32]byte {
	b := append([]byte(auditDomain), before[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(nanos)) // #nosec G115 -- its bits
	for _, field := range [][]byte{[]byte(kind), []byte(serial), record} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(field))) // #nosec G115 -- no database has a cell of 4 GiB
		b = append(b, field...)
	}
	return sha256.Sum256(b)
}

// An auditRecord is what the checker reads of the JSON of a row.
type auditRecord struct {
	Serial          string  `json:"serial"`
	SAN             string  `json:"san"`
	NotBefore       string  `json:"not_before"`
	NotAfter        string  `json:"not_after"`
	PublicKeySHA256 hexHash `json:"public_key_sha256"`
	IssuerKeySHA256 hexHash `json:"issuer_key_sha256"`
	TokenSHA256     hexHash `json:"token_sha256"`
	OneTime         bool    `json:"one_time"`
	PrecertLeafHash hexHash `json:"precert_leaf_hash"`
}

// A hexHash is 32 bytes in hexadecimal, or zero where they are missing.
type hexHash [32]byte

func (h *hexHash) UnmarshalText(text []byte) error {
	if hex.DecodedLen(len(text)) != len(h) {
		return fmt.Errorf("a hash of %d characters", len(text))
	}
	_, err := hex.Decode(h[:], text)
	return err
}

func parseAuditRecord(record []byte) (r auditRecord, err error) {
	err = json.Unmarshal(record, &r)
	return r, err
}

// row looks at one row.
func (c *auditCheck) row(object string, n uint64, at time.Time, kind, serial string, record []byte) {
	if kind == "migrated" {
		if !c.migrated.IsZero() || c.report.Rows != c.report.Recorded+1 {
			c.out.find(object, "the schema was brought to version 2 once, behind the rows of version 1 and before all others")
		}
		c.migrated = at
		return
	}
	r, err := parseAuditRecord(record)
	if err != nil {
		c.out.find(object, "its record is not that of an audit row: %v", err)
		return
	}
	if r.Serial != serial {
		c.out.find(object, "its record speaks of serial %.64q", r.Serial)
	}
	was := c.intended[serial]
	switch kind {
	case "intended":
		if was != nil {
			c.out.find(object, "its serial number is that of row %d", was.row)
			return
		}
		c.intended[serial] = &auditState{row: n, what: r.what(), key: r.PublicKeySHA256}
		c.issuers[r.IssuerKeySHA256] = true
		c.report.Open++
		if !r.OneTime {
			return
		}
		if key, ok := c.tokens[r.TokenSHA256]; ok && key != r.PublicKeySHA256 {
			c.out.find(object, "its token is good for one key, and was used for another one")
		}
		c.tokens[r.TokenSHA256] = r.PublicKeySHA256
	case "recorded":
		c.report.Recorded++
		if was != nil {
			c.out.find(object, "its serial number is that of row %d", was.row)
			return
		}
		if c.report.Rows != c.report.Recorded {
			c.out.find(object, "a row of version 1 stands behind rows of version 2")
		}
		c.intended[serial] = &auditState{row: n, what: r.what(), key: r.PublicKeySHA256, outcome: true, leaf: (*[32]byte)(&r.PrecertLeafHash)}
	case "issued", "failed":
		if was == nil {
			c.out.find(object, "no row before it intends its serial number")
			return
		}
		if was.outcome {
			c.out.find(object, "another row says already what came of its serial number, which row %d intended", was.row)
			return
		}
		was.outcome = true
		c.report.Open--
		if kind == "failed" {
			c.report.Failed++
			return
		}
		c.report.Issued++
		if was.what != r.what() {
			c.out.find(object, "its name, key or validity is not the one that row %d intended", was.row)
		}
		was.leaf = (*[32]byte)(&r.PrecertLeafHash)
	default:
		c.out.find(object, "its kind is not one of an audit row")
	}
}

// what ties the rows of a certificate.
func (r auditRecord) what() [32]byte {
	text, err := json.Marshal([]any{r.SAN, r.NotBefore, r.NotAfter, r.PublicKeySHA256})
	if err != nil {
		return [32]byte{} // it has strings and numbers only
	}
	return sha256.Sum256(text)
}

// entries reads the entries of the CT log that were not read yet.
func (c *auditCheck) entries(ctx context.Context) error {
	late := c.again
	c.again = true
	found, err := c.source.ct.QueryContext(ctx, c.source.queries.entries, c.size)
	if err != nil {
		return dbError(ctx, err)
	}
	defer found.Close()
	for found.Next() {
		var index uint64
		var value []byte
		if err := found.Scan(&index, &value); err != nil {
			return dbError(ctx, err)
		}
		c.size = index + 1
		c.report.Entries++
		object := fmt.Sprintf("CT entry %d", index)
		leaf, err := parseLeaf(value)
		if err != nil {
			c.out.find(object, "%v", err)
			continue
		}
		if !leaf.precert {
			continue // anybody may submit a certificate
		}
		serial, key, err := parseTBS(leaf.signed)
		if err != nil {
			c.out.find(object, "%v", err)
			continue
		}
		cert := &loggedCert{index: index, timestamp: leaf.timestamp, issuer: [32]byte(leaf.issuerKeyHash), serial: serial.Text(16), key: key, late: late}
		c.logged[[32]byte(rfc6962.DefaultHasher.HashLeaf(value))] = cert
		if first, ok := c.serials[cert.serial]; ok {
			c.out.find(object, "its serial number %s is that of CT entry %d", cert.serial, first)
		}
		c.serials[cert.serial] = index
	}
	return dbError(ctx, found.Err())
}

// parseTBS returns the serial number of a TBSCertificate (RFC 5280, section 4.1)
// and the SHA-256 of its SubjectPublicKeyInfo.
func parseTBS(b []byte) (*big.Int, [32]byte, error) {
	broken := errors.New("its TBSCertificate does not parse")
	tbs := cryptobyte.String(b)
	var fields, spki cryptobyte.String
	serial := new(big.Int)
	if !tbs.ReadASN1(&fields, der.SEQUENCE) || !tbs.Empty() ||
		!fields.SkipASN1(der.Tag(0).ContextSpecific().Constructed()) || !fields.ReadASN1Integer(serial) {
		return nil, [32]byte{}, broken
	}
	for range 4 { // signature algorithm, issuer, validity, subject
		if !fields.SkipASN1(der.SEQUENCE) {
			return nil, [32]byte{}, broken
		}
	}
	if !fields.ReadASN1Element(&spki, der.SEQUENCE) {
		return nil, [32]byte{}, broken
	}
	return serial, sha256.Sum256(spki), nil
}

// compare holds the rows against the CT log.
func (c *auditCheck) compare(ctx context.Context) error {
	for serial, s := range c.intended {
		if s.leaf == nil {
			continue
		}
		object := fmt.Sprintf("row %d (intended, serial %.64s)", s.row, serial)
		cert := c.logged[*s.leaf]
		switch {
		case cert == nil:
			c.out.find(object, "its certificate was issued, and its precertificate, with leaf hash %x, is not in the CT log", *s.leaf)
		case cert.serial != serial || cert.key != s.key:
			c.out.find(object, "its certificate was issued, and CT entry %d, which is to be its precertificate, has serial %s and key %x", cert.index, cert.serial, cert.key)
		}
	}
	for _, cert := range c.logged {
		if cert.late || !c.issuers[cert.issuer] {
			continue
		}
		object := fmt.Sprintf("CT entry %d", cert.index)
		s := c.intended[cert.serial]
		switch {
		// Version 1 wrote no row before it signed, and none where it failed.
		case s == nil && time.UnixMilli(int64(cert.timestamp)).Before(c.migrated): // #nosec G115 -- a time of the future is none of before
		case s == nil:
			c.out.find(object, "its precertificate was signed by our chain, and no row intends serial %s", cert.serial)
		case cert.key != s.key:
			c.out.find(object, "its precertificate has key %x, and row %d intends serial %s for another one", cert.key, s.row, cert.serial)
		}
	}
	return ctx.Err()
}
