package harness

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"database/sql"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"
	_ "modernc.org/sqlite" // the driver
)

// ctEntry is a leaf of the CT log (RFC 6962, section 3.4).
type ctEntry struct {
	leaf      []byte
	timestamp uint64
	precert   bool
	issuer    []byte // SHA-256 of its SubjectPublicKeyInfo
	tbs       []byte // of a precertificate, without poison
	serial    string // hexadecimal, of a precertificate
	publicKey string // hexadecimal SHA-256 of the SubjectPublicKeyInfo
}

func verifyDigitallySigned(key *ecdsa.PublicKey, data, signed []byte) error {
	digest := sha256.Sum256(data)
	if len(signed) < 5 || signed[0] != 4 || signed[1] != 3 || !ecdsa.VerifyASN1(key, digest[:], signed[4:]) {
		return errors.New("the CT log's signature does not verify")
	}
	return nil
}

// ctHead reads the final tree of the CT log.
func (c *checker) ctHead() {
	var text []byte
	asked := c.Server.options.Clock.Now()
	err := c.get("/ct/v1/get-sth", &text)
	if err == nil {
		c.ctFinal, err = parseTree(LogCT, text)
	}
	if err != nil {
		c.bad("I1", "the CT log does not answer: %v", err)
		return
	}
	c.ctFinal.Polled = true
	c.ctFinal.Seen = asked.Add(time.Minute) // it may not be much newer
}

// ct reads the whole CT log.
func (c *checker) ct() {
	c.ctHead()
	var values [][]byte
	for uint64(len(values)) < c.ctFinal.Size {
		var answer struct {
			Entries []struct {
				LeafInput []byte `json:"leaf_input"`
			}
		}
		if err := c.get(fmt.Sprintf("/ct/v1/get-entries?start=%d&end=%d", len(values), c.ctFinal.Size-1), &answer); err != nil || len(answer.Entries) == 0 {
			c.bad("I1", "reading entries of the CT log from %d on: %d entries, %v", len(values), len(answer.Entries), err)
			return
		}
		for _, e := range answer.Entries {
			entry, err := parseLeaf(e.LeafInput)
			if err != nil {
				c.bad("I7", "CT entry %d: %v", len(values), err)
			}
			hash := [32]byte(rfc6962.DefaultHasher.HashLeaf(e.LeafInput))
			if at, ok := c.ctLeaves[hash]; ok {
				c.bad("I9", "the CT log has leaf %x at %d and at %d", hash, at, len(values))
			}
			c.ctLeaves[hash] = uint64(len(values))
			values, c.ctEntries = append(values, e.LeafInput), append(c.ctEntries, entry)
		}
	}
	c.ctRoots = foldRoots(values)
	if !bytes.Equal(c.ctRoots[c.ctFinal.Size], c.ctFinal.Root) {
		c.bad("I3", "the CT log's entries lead to root %x, its tree head has %x", c.ctRoots[c.ctFinal.Size], c.ctFinal.Root)
	}
}

func parseLeaf(leaf []byte) (ctEntry, error) {
	e := ctEntry{leaf: leaf}
	s := cryptobyte.String(leaf)
	var version, leafType uint8
	var kind uint16
	var tbs, extensions cryptobyte.String
	if !s.ReadUint8(&version) || !s.ReadUint8(&leafType) || !s.ReadUint64(&e.timestamp) || !s.ReadUint16(&kind) || version != 0 || leafType != 0 {
		return e, errors.New("not a MerkleTreeLeaf of version 1")
	}
	e.precert = kind == 1
	if !e.precert {
		return e, nil // somebody else's
	}
	if !s.ReadBytes(&e.issuer, sha256.Size) || !s.ReadUint24LengthPrefixed(&tbs) || !s.ReadUint16LengthPrefixed(&extensions) || !s.Empty() || len(extensions) > 0 {
		return e, errors.New("not a precertificate without extensions")
	}
	e.tbs = tbs
	// TBSCertificate: version, serial, algorithm, issuer, validity, subject, key.
	var fields, spki cryptobyte.String
	var serial big.Int
	if !tbs.ReadASN1(&fields, der.SEQUENCE) || !fields.SkipASN1(der.Tag(0).ContextSpecific().Constructed()) || !fields.ReadASN1Integer(&serial) {
		return e, errors.New("not a TBSCertificate")
	}
	e.serial = serial.Text(16)
	for range 4 {
		if !fields.SkipASN1(der.SEQUENCE) {
			return e, errors.New("not a TBSCertificate")
		}
	}
	if !fields.ReadASN1Element(&spki, der.SEQUENCE) {
		return e, errors.New("a TBSCertificate without key")
	}
	sum := sha256.Sum256(spki)
	e.publicKey = hex.EncodeToString(sum[:])
	return e, nil
}

// auditRecord is what the checker reads of an audit row. One that intends a
// certificate has no hash of it, and one that says what came of it no subject.
type auditRecord struct {
	kind              string
	Serial            string    `json:"serial"`
	SAN               string    `json:"san"`
	Subject           string    `json:"subject"`
	NotBefore         time.Time `json:"not_before"`
	NotAfter          time.Time `json:"not_after"`
	PublicKeySHA256   string    `json:"public_key_sha256"`
	CertificateSHA256 string    `json:"certificate_sha256"`
	PrecertLeafHash   string    `json:"precert_leaf_hash"`
}

// certificates compares every request for a certificate with the CT log and the
// audit log.
func (c *checker) certificates() {
	intended := map[string]auditRecord{} // by serial
	intendedKeys := map[string]int{}
	byCertificate := map[string][]auditRecord{}
	byKey := map[string]int{}
	for n, row := range c.auditRows() {
		switch row.kind {
		case "migrated":
			// A first start over a database was cut between the migrations, so
			// that the next one found a schema of version 1, without rows.
			if n > 0 {
				c.bad("I7", "audit row %d says that the schema was migrated, and certificates are before it", n)
			}
			continue
		case "intended":
			if _, ok := intended[row.Serial]; ok {
				c.bad("I7", "serial %s was intended twice", row.Serial)
			}
			intended[row.Serial] = row
			intendedKeys[row.PublicKeySHA256]++
			continue
		case "failed":
			if _, ok := intended[row.Serial]; !ok {
				c.bad("I7", "serial %s has failed, and was not intended before", row.Serial)
			}
			continue
		}
		was, ok := intended[row.Serial]
		if !ok || was.PublicKeySHA256 != row.PublicKeySHA256 || was.SAN != row.SAN || !was.NotBefore.Equal(row.NotBefore) || !was.NotAfter.Equal(row.NotAfter) {
			c.bad("I7", "audit row %s was issued, and %+v was intended before", row.Serial, was)
		}
		row.Subject = was.Subject
		byCertificate[row.CertificateSHA256] = append(byCertificate[row.CertificateSHA256], row)
		byKey[row.PublicKeySHA256]++
		if hash := unhex(row.PrecertLeafHash); len(hash) != 32 {
			c.bad("I7", "audit row %s: leaf hash %q", row.Serial, row.PrecertLeafHash)
		} else if _, ok := c.ctLeaves[[32]byte(hash)]; !ok {
			c.bad("I7", "the precertificate of audit row %s is not in the CT log", row.Serial)
		}
	}
	logged := map[string]int{} // by key
	for i, e := range c.ctEntries {
		if !e.precert {
			c.bad("I7", "CT entry %d is no precertificate: nobody submitted one", i)
		}
		logged[e.publicKey]++
		if was, ok := intended[e.serial]; !ok || was.PublicKeySHA256 != e.publicKey {
			c.bad("I7", "CT entry %d, with serial %s and key %s, was signed, and nothing says that it was intended", i, e.serial, e.publicKey)
		}
	}

	serials := map[string]bool{}
	known := map[string]bool{}
	for _, r := range c.Records {
		if r.Kind != KindCertificate {
			continue
		}
		known[r.PublicKey] = true
		if r.Status != http.StatusOK {
			// I8. Whether an answer was lost after the audit is not known;
			// a refusal was no such answer.
			if logged[r.PublicKey] > 1 || byKey[r.PublicKey] > 1 {
				c.bad("I8", "a request with status %d left %d precertificates and %d audit rows", r.Status, logged[r.PublicKey], byKey[r.PublicKey])
			}
			if r.Status != 0 && byKey[r.PublicKey] > 0 && !(c.Unresolved && r.Status == http.StatusServiceUnavailable) {
				c.bad("I8", "a request that was answered with %d has an audit row", r.Status)
			}
			if r.Status >= 400 && r.Status < 500 && logged[r.PublicKey]+intendedKeys[r.PublicKey] > 0 {
				c.bad("I8", "a request that was refused has a precertificate, or was intended")
			}
			if len(r.Chain) > 0 {
				c.bad("I8", "an answer with status %d holds certificates", r.Status)
			}
			continue
		}
		if n := logged[r.PublicKey]; n != 1 {
			c.bad("I7", "the CT log has %d precertificates for a certificate that was issued once", n)
		}
		cert, err := c.certificate(r)
		if err != nil {
			c.bad("I7", "certificate for key %s: %v", r.PublicKey[:16], err)
			continue
		}
		serial := fmt.Sprintf("%x", cert.SerialNumber)
		if serials[serial] {
			c.bad("I7", "serial %s was given twice", serial)
		}
		serials[serial] = true
		sum := sha256.Sum256(cert.Raw)
		audit := byCertificate[hex.EncodeToString(sum[:])]
		if len(audit) != 1 {
			c.bad("I7", "certificate %s has %d audit rows, want 1", serial, len(audit))
		} else if a := audit[0]; a.Serial != serial || a.PublicKeySHA256 != r.PublicKey || !a.NotBefore.Equal(cert.NotBefore) || !a.NotAfter.Equal(cert.NotAfter) || a.SAN != r.Email ||
			string(cert.Extensions[subjectAt].Value) != "\x0c"+string(rune(len(a.Subject)))+a.Subject {
			c.bad("I7", "the audit row of certificate %s says %+v", serial, a)
		}
	}
	for key, n := range logged {
		if !known[key] {
			c.bad("I7", "the CT log has %d precertificates for key %s, which nobody asked for", n, key)
		}
	}
	for key := range intendedKeys { // whatever is issued was intended
		if !known[key] {
			c.bad("I7", "the audit log has a row for key %s, which nobody asked for", key)
		}
	}
}

// auditRows reads the audit log, and holds its hashes against the chain that its
// rows lead to: domain, hash before, time, and kind, serial and record with their
// lengths.
func (c *checker) auditRows() []auditRecord {
	var rows []auditRecord
	chain := make([]byte, sha256.Size)
	err := c.query("audit.db", "SELECT time, kind, serial, record, hash FROM audit ORDER BY seq",
		"SELECT time, kind, serial, record, hash FROM sigstack_audit_row ORDER BY seq", func(scan func(...any) error) error {
			var nanos int64
			var kind, serial, text string
			var hash []byte
			if err := scan(&nanos, &kind, &serial, &text, &hash); err != nil {
				return err
			}
			var b cryptobyte.Builder
			b.AddBytes([]byte("sigstack audit row, version 1\n"))
			b.AddBytes(chain)
			b.AddUint64(uint64(nanos))
			for _, field := range []string{kind, serial, text} {
				b.AddUint32LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(field)) })
			}
			sum := sha256.Sum256(b.BytesOrPanic())
			if chain = sum[:]; !bytes.Equal(chain, hash) {
				c.bad("I7", "audit row %d (%s %s) has hash %x, its chain has %x", len(rows), kind, serial, hash, chain)
			}
			row := auditRecord{kind: kind}
			if err := json.Unmarshal([]byte(text), &row); err != nil {
				return err
			}
			if row.Serial != serial {
				c.bad("I7", "the audit row of serial %s speaks of %s", serial, row.Serial)
			}
			rows = append(rows, row)
			return nil
		})
	if err != nil {
		c.bad("I7", "reading the audit log: %v", err)
	}
	var head []byte
	err = c.query("audit.db", "SELECT hash FROM audit_head", "SELECT hash FROM sigstack_audit_head", func(scan func(...any) error) error { return scan(&head) })
	if err != nil || !bytes.Equal(head, chain) {
		c.bad("I7", "the head of the audit log is %x (%v), its rows lead to %x", head, err, chain)
	}
	return rows
}

var (
	oidSCTList = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}
	oidIssuer  = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 1}
	oidIssuer2 = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 8}
	oidSubject = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 24}
)

// subjectAt is where the profile has the token's subject.
const subjectAt = 7

// profile is what extensions a certificate has, in order, and which are critical.
var profile = []struct {
	id       asn1.ObjectIdentifier
	critical bool
}{
	{asn1.ObjectIdentifier{2, 5, 29, 15}, true},  // key usage
	{asn1.ObjectIdentifier{2, 5, 29, 37}, false}, // extended key usage
	{asn1.ObjectIdentifier{2, 5, 29, 14}, false}, // subject key identifier
	{asn1.ObjectIdentifier{2, 5, 29, 35}, false}, // authority key identifier
	{asn1.ObjectIdentifier{2, 5, 29, 17}, true},  // subject alternative name
	{oidIssuer, false},
	{oidIssuer2, false},
	{oidSubject, false},
	{oidSCTList, false},
}

// certificate verifies one that was issued, and finds its precertificate.
func (c *checker) certificate(r Record) (*x509.Certificate, error) {
	if len(r.Chain) < 2 {
		return nil, fmt.Errorf("%d certificates in the chain, want its issuer's too", len(r.Chain))
	}
	at := slices.IndexFunc(c.authorities, func(a authority) bool {
		return slices.EqualFunc(a.certs, r.Chain[1:], func(c *x509.Certificate, der []byte) bool { return bytes.Equal(c.Raw, der) })
	})
	if at < 0 {
		return nil, errors.New("its chain is not one in the trust root")
	}
	signed := c.authorities[at]
	cert, err := x509.ParseCertificate(r.Chain[0])
	if err != nil {
		return nil, err
	}
	issuer := signed.certs[0]
	if err := cert.CheckSignatureFrom(issuer); err != nil {
		return nil, err
	}
	spki := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	switch {
	case hex.EncodeToString(spki[:]) != r.PublicKey:
		return nil, errors.New("it is for another key")
	case cert.Version != 3 || len(cert.SerialNumber.Bytes()) != 20 || cert.SerialNumber.Sign() <= 0:
		return nil, fmt.Errorf("version %d, serial %x", cert.Version, cert.SerialNumber)
	case cert.NotAfter.Sub(cert.NotBefore) != 10*time.Minute:
		return nil, fmt.Errorf("valid for %s, want 10 minutes", cert.NotAfter.Sub(cert.NotBefore))
	case cert.NotBefore.Add(time.Second+clockError).Before(r.Sent) || cert.NotBefore.After(r.Received.Add(clockError)):
		return nil, fmt.Errorf("valid from %s, asked for from %s to %s", cert.NotBefore, r.Sent, r.Received)
	case cert.KeyUsage != x509.KeyUsageDigitalSignature:
		return nil, fmt.Errorf("key usage %b", cert.KeyUsage)
	case !slices.Equal(cert.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}) || len(cert.UnknownExtKeyUsage) > 0:
		return nil, fmt.Errorf("extended key usage %v %v", cert.ExtKeyUsage, cert.UnknownExtKeyUsage)
	case !slices.Equal(cert.EmailAddresses, []string{r.Email}) || len(cert.DNSNames)+len(cert.IPAddresses)+len(cert.URIs) > 0:
		return nil, fmt.Errorf("names %v %v %v %v", cert.EmailAddresses, cert.DNSNames, cert.IPAddresses, cert.URIs)
	case !bytes.Equal(cert.RawIssuer, issuer.RawSubject) || !bytes.Equal(cert.AuthorityKeyId, issuer.SubjectKeyId):
		return nil, errors.New("it does not name its issuer")
	case cert.NotBefore.Before(signed.start) || !signed.end.IsZero() && cert.NotAfter.After(signed.end):
		return nil, fmt.Errorf("valid from %s to %s, its chain in the trust root from %s to %s", cert.NotBefore, cert.NotAfter, signed.start, signed.end)
	case len(cert.Subject.Names) > 0 || cert.IsCA:
		return nil, fmt.Errorf("subject %s, CA %v", cert.Subject, cert.IsCA)
	case len(cert.Extensions) != len(profile):
		return nil, fmt.Errorf("%d extensions, want %d", len(cert.Extensions), len(profile))
	}
	for i, e := range cert.Extensions {
		if !e.Id.Equal(profile[i].id) || e.Critical != profile[i].critical {
			return nil, fmt.Errorf("extension %d is %s (critical: %v)", i, e.Id, e.Critical)
		}
		switch {
		case e.Id.Equal(oidIssuer) && string(e.Value) != r.Issuer,
			e.Id.Equal(oidIssuer2) && string(e.Value) != "\x0c"+string(rune(len(r.Issuer)))+r.Issuer:
			return nil, fmt.Errorf("extension %s is %q, want the issuer %s", e.Id, e.Value, r.Issuer)
		}
	}

	leaf, stamped, err := VerifySCT(cert, issuer, c.ctKey)
	if err != nil {
		return nil, err
	}
	if stamped.Add(clockError).Before(r.Sent) || stamped.After(r.Received.Add(clockError)) {
		c.bad("I4", "an SCT is of %s, asked for from %s to %s", stamped, r.Sent, r.Received)
	}
	hash := rfc6962.DefaultHasher.HashLeaf(leaf)
	query := url.Values{"hash": {base64.StdEncoding.EncodeToString(hash)}, "tree_size": {fmt.Sprint(c.ctFinal.Size)}}
	var where struct {
		Index uint64   `json:"leaf_index"`
		Path  [][]byte `json:"audit_path"`
	}
	if err := c.get("/ct/v1/get-proof-by-hash?"+query.Encode(), &where); err != nil {
		return nil, fmt.Errorf("its precertificate is not in the CT log: %w", err)
	}
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, where.Index, c.ctFinal.Size, hash, where.Path, c.ctFinal.Root); err != nil {
		return nil, fmt.Errorf("its precertificate: %w", err)
	}
	if at, ok := c.ctLeaves[[32]byte(hash)]; !ok || at != where.Index {
		return nil, errors.New("get-entries does not have its precertificate")
	}
	return cert, nil
}

// VerifySCT checks that a certificate carries one SCT and that this is the promise
// of the log with this key to include its precertificate, which issuer has signed.
// It returns the MerkleTreeLeaf that is promised and the time of the promise.
func VerifySCT(cert, issuer *x509.Certificate, key *ecdsa.PublicKey) (leaf []byte, at time.Time, err error) {
	fail := func(err error) ([]byte, time.Time, error) { return nil, time.Time{}, err }
	var sct []byte
	for _, e := range cert.Extensions {
		if e.Id.Equal(oidSCTList) {
			sct = e.Value
		}
	}
	// RFC 6962, section 3.3: an octet string with a list of one SCT.
	var octets, list, one, extensions cryptobyte.String
	var version uint8
	var logID []byte
	var timestamp uint64
	value := cryptobyte.String(sct)
	if !value.ReadASN1(&octets, der.OCTET_STRING) || !value.Empty() || !octets.ReadUint16LengthPrefixed(&list) || !octets.Empty() ||
		!list.ReadUint16LengthPrefixed(&one) || !list.Empty() || !one.ReadUint8(&version) || version != 0 ||
		!one.ReadBytes(&logID, sha256.Size) || !one.ReadUint64(&timestamp) || !one.ReadUint16LengthPrefixed(&extensions) {
		return fail(errors.New("its SCT list is not a list of one SCT"))
	}
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return fail(err)
	}
	if id := sha256.Sum256(spki); !bytes.Equal(logID, id[:]) {
		return fail(fmt.Errorf("its SCT is of log %x, want %x", logID, id))
	}
	tbs, err := withoutSCT(cert.RawTBSCertificate)
	if err != nil {
		return fail(err)
	}
	// The leaf, and what an SCT signs (RFC 6962, sections 3.2 and 3.4).
	var b cryptobyte.Builder
	b.AddUint16(0)
	b.AddUint64(timestamp)
	b.AddUint16(1)
	issuerKey := sha256.Sum256(issuer.RawSubjectPublicKeyInfo)
	b.AddBytes(issuerKey[:])
	b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(tbs) })
	b.AddUint16(0)
	leaf = b.BytesOrPanic()
	if err := verifyDigitallySigned(key, leaf, one); err != nil {
		return fail(fmt.Errorf("its SCT: %w", err))
	}
	return leaf, time.UnixMilli(int64(timestamp)), nil
}

// withoutSCT returns a TBSCertificate without its SCT list: what the
// precertificate was, but for the poison.
func withoutSCT(tbs []byte) ([]byte, error) {
	broken := errors.New("the TBSCertificate does not parse")
	tag := der.Tag(3).ContextSpecific().Constructed()
	input := cryptobyte.String(tbs)
	var fields cryptobyte.String
	if !input.ReadASN1(&fields, der.SEQUENCE) {
		return nil, broken
	}
	var before []byte
	var kept []byte
	for !fields.Empty() {
		var field, explicit, extensions cryptobyte.String
		var t der.Tag
		if !fields.ReadAnyASN1Element(&field, &t) {
			return nil, broken
		}
		if t != tag {
			before = append(before, field...)
			continue
		}
		if !field.ReadASN1(&explicit, tag) || !explicit.ReadASN1(&extensions, der.SEQUENCE) {
			return nil, broken
		}
		for !extensions.Empty() {
			var element, content cryptobyte.String
			var id asn1.ObjectIdentifier
			if !extensions.ReadASN1Element(&element, der.SEQUENCE) {
				return nil, broken
			}
			whole := []byte(element)
			if !element.ReadASN1(&content, der.SEQUENCE) || !content.ReadASN1ObjectIdentifier(&id) {
				return nil, broken
			}
			if !id.Equal(oidSCTList) {
				kept = append(kept, whole...)
			}
		}
	}
	var b cryptobyte.Builder
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(before)
		b.AddASN1(tag, func(b *cryptobyte.Builder) {
			b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(kept) })
		})
	})
	return b.Bytes()
}

// index compares the rows of the search index with what the entries imply, byte
// for byte, and searches for each.
func (c *checker) index() {
	want := map[string][]string{} // search key -> UUIDs
	for i, body := range c.bodies {
		if body == nil {
			continue
		}
		keys, err := searchKeys(body)
		if err != nil {
			c.bad("I11", "%v", err)
			continue
		}
		uuid := c.holding(uint64(i)).prefix + hex.EncodeToString(rfc6962.DefaultHasher.HashLeaf(body))
		for _, key := range keys {
			want[key] = append(want[key], uuid)
		}
	}
	got := map[string][]string{}
	for _, s := range c.shards {
		name := "rekorv1"
		if s.number > 0 {
			name = fmt.Sprintf("rekorv1-%d", s.number+1)
		}
		shared := `SELECT s.name, s.hash FROM (SELECT tree_id, name, hash FROM sigstack_posting UNION ALL SELECT tree_id, name, hash FROM sigstack_search) s
			JOIN sigstack_log l USING (tree_id) WHERE l.name = '` + name + "'"
		err := c.query(name+"/log.db", "SELECT key, hash FROM search", shared, func(scan func(...any) error) error {
			var key string
			var hash []byte
			err := scan(&key, &hash)
			got[key] = append(got[key], s.prefix+hex.EncodeToString(hash))
			return err
		})
		if err != nil {
			c.bad("I11", "reading the search index: %v", err)
			return
		}
	}
	compare := func(where string, key string, found []string) {
		slices.Sort(want[key])
		slices.Sort(found)
		if !slices.Equal(want[key], found) {
			c.bad("I11", "%s: key %q leads to %d entries, want %d", where, key, len(found), len(want[key]))
		}
	}
	for key := range want {
		compare("search table", key, got[key])
	}
	for key := range got {
		if _, ok := want[key]; !ok {
			c.bad("I11", "search table: key %q, which no entry implies", key)
		}
	}
	var hashes []string
	for key := range want {
		hashes = append(hashes, key)
	}
	found := make([][]string, len(hashes))
	c.each(len(hashes), func(i int) {
		hash := "sha256:" + strings.TrimPrefix(hashes[i], "sha256:")
		if err := c.fetch(http.MethodPost, "/api/v1/index/retrieve", fmt.Appendf(nil, `{"hash":%q}`, hash), &found[i]); err != nil {
			c.bad("I11", "%v", err)
		}
	})
	for i, key := range hashes {
		compare("search", key, found[i])
	}
}

// searchKeys derives the search keys that are stored of a hashedrekord with a public
// key: the digest of the artifact, and that of the key, without "sha256:" before it.
func searchKeys(body []byte) ([]string, error) {
	var entry struct {
		Kind string
		Spec struct {
			Data struct {
				Hash struct{ Algorithm, Value string }
			}
			Signature struct{ PublicKey struct{ Content []byte } }
		}
	}
	if err := json.Unmarshal(body, &entry); err != nil || entry.Kind != "hashedrekord" {
		return nil, fmt.Errorf("an entry of kind %q (%v): the load sends hashedrekord", entry.Kind, err)
	}
	key := sha256.Sum256(entry.Spec.Signature.PublicKey.Content)
	return []string{
		entry.Spec.Data.Hash.Algorithm + ":" + entry.Spec.Data.Hash.Value,
		hex.EncodeToString(key[:]),
	}, nil
}

// query runs a query on a copy of a file of the data directory, with its
// write-ahead log: the file may lie on a disk that this process sees by another
// path, which SQLite would resolve. Or it runs another one on the database.
func (c *checker) query(name, query, shared string, row func(scan func(...any) error) error) error {
	if dsn := c.Server.options.DSN; dsn != "" {
		return c.rows("mysql", dsn, shared, row)
	}
	dir, err := os.MkdirTemp("", "sigstack-check-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file, from := filepath.Join(dir, "copy.db"), filepath.Join(c.Dir, name)
	if disk := c.Server.options.Disk; disk != nil {
		if target, err := os.Readlink(from); err == nil {
			from = disk.Outside(target)
		}
	}
	for _, suffix := range []string{"", "-wal"} {
		if err := copyFile(from+suffix, file+suffix); err != nil && (suffix == "" || !errors.Is(err, os.ErrNotExist)) {
			return err
		}
	}
	return c.rows("sqlite", file, query, row)
}

func (c *checker) rows(driver, source, query string, row func(scan func(...any) error) error) error {
	db, err := sql.Open(driver, source)
	if err != nil {
		return err
	}
	defer db.Close()
	rows, err := db.QueryContext(c.ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Alter runs an SQL statement on a database that no server uses, and fails
// unless it changes a row.
func Alter(file, statement string) error {
	db, err := sql.Open("sqlite", file)
	if err != nil {
		return err
	}
	res, err := db.Exec(statement)
	if err == nil {
		var n int64
		if n, err = res.RowsAffected(); err == nil && n == 0 {
			err = fmt.Errorf("no row is changed by %s", statement)
		}
	}
	return errors.Join(err, db.Close())
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
