package entry

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/sigstack/sigstack/tlog/entry/sigkey"
)

// alpine 0.0.1: a package of Alpine Linux (apk version 2) that is sent along.
// Proposed:
//
//	spec.publicKey.content  base64 of PEM, the key of the builder
//	spec.package.content    base64 of the package
//	spec.package.hash       optional {algorithm: "sha256", value}, must match
//
// Stored are the key, the package's SHA-256 in lower-case hex, and the names
// and values of its .PKGINFO in spec.package.pkginfo.
//
// A package is three gzip members, one after the other, each with a tar
// archive in it:
//
//	signature  the first file whose name begins with ".SIGN": a signature over
//	           the SHA-1 of the compressed control segment
//	control    .PKGINFO, in which datahash is the SHA-256, in hex, of the
//	           compressed data segment
//	data       all bytes that follow
//
// So the signature covers all but itself. SHA-1 is what apk signs with: whoever
// signs a package that somebody else made may sign a second one by it.
//
// The data is hashed and not decompressed. The other two are read as they are
// decompressed, each up to maxAPKSegment bytes, whatever they say of their size.

const (
	// maxAPKSegment bounds, in bytes, each decompressed segment that is read. A
	// control segment holds .PKGINFO and a few scripts.
	maxAPKSegment = 1 << 20
	// maxPkginfoNames and maxPkginfoSize bound what of .PKGINFO is stored:
	// different names, and bytes of names and values. Packages have about
	// twenty names and two kilobytes.
	maxPkginfoNames = 1000
	maxPkginfoSize  = 64 << 10
)

type alpine struct {
	*packageSpec
	key     *sigkey.X509
	pkginfo map[string]string
}

func readAlpine(spec value) (*alpine, error) {
	p, err := readPackageSpec(spec)
	if err != nil {
		return nil, err
	}
	key, err := sigkey.ParseX509(p.key)
	if err != nil {
		return nil, err
	}
	return &alpine{packageSpec: p, key: key}, nil
}

func proposeAlpine(spec value) ([]byte, *keySet, error) {
	a, err := readAlpine(spec)
	if err != nil {
		return nil, nil, err
	}
	if err := a.proposed(); err != nil {
		return nil, nil, err
	}
	pkg, err := readAPK(a.content)
	if err != nil {
		return nil, nil, err
	}
	if err := a.key.VerifyDigest(crypto.SHA1, pkg.controlHash, pkg.signature); err != nil {
		return nil, nil, fmt.Errorf("verifying signature: %w", err)
	}
	a.pkginfo = pkg.info
	return a.body(), a.keys(), nil
}

func keysAlpine(spec value) (*keySet, error) {
	a, err := readAlpine(spec)
	if err != nil {
		return nil, err
	}
	if err := a.stored(); err != nil {
		return nil, err
	}
	return a.keys(), nil
}

func (a *alpine) body() []byte {
	key := a.key.Canonical()
	out := make([]byte, 0, 2048+base64.StdEncoding.EncodedLen(len(key)))
	out = appendHeader(out, "alpine", "0.0.1")
	out = append(out, `"package":{"hash":`...)
	out = appendDigest(out, a.hash)
	out = append(out, `,"pkginfo":{`...)
	names := make([]string, 0, len(a.pkginfo))
	for name := range a.pkginfo {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return formJCS.compare([]byte(a), []byte(b)) })
	for i, name := range names {
		if i > 0 {
			out = append(out, ',')
		}
		out = appendString(out, name)
		out = append(out, ':')
		out = appendString(out, a.pkginfo[name])
	}
	out = append(out, `}},"publicKey":{"content":"`...)
	out = base64.StdEncoding.AppendEncode(out, key)
	return append(out, `"}}}`...)
}

func (a *alpine) keys() *keySet {
	s := &keySet{}
	s.addSigner(a.key, scheme{hash: crypto.SHA1})
	s.add(a.hash.searchKey())
	return s
}

// An apk is what a package says, with its data checked and its signature not
// yet verified.
type apk struct {
	signature   sigkey.X509Signature
	controlHash []byte // SHA-1 of the compressed control segment
	info        map[string]string
}

func readAPK(content []byte) (*apk, error) {
	p := &apk{}
	// A bytes.Reader gives single bytes, so nothing beyond the end of a gzip
	// member is taken from it.
	r := bytes.NewReader(content)
	err := eachAPKFile(r, func(name string, file io.Reader) (err error) {
		if strings.HasPrefix(name, ".SIGN") && p.signature == nil {
			p.signature, err = readAPKSignature(file)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("signature segment of the package: %w", err)
	}
	if p.signature == nil {
		return nil, errors.New("no signature detected in alpine package")
	}
	control := content[len(content)-r.Len():]
	err = eachAPKFile(r, func(name string, file io.Reader) error {
		if name != ".PKGINFO" {
			return nil
		}
		if p.info != nil {
			return errors.New(".PKGINFO is there twice")
		}
		var text strings.Builder
		if _, err := io.Copy(&text, file); err != nil {
			return err
		}
		var err error
		p.info, err = parsePkginfo(text.String())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("control segment of the package: %w", err)
	}
	if p.info == nil {
		return nil, errors.New(".PKGINFO file was not located")
	}
	sum := sha1.Sum(control[:len(control)-r.Len()])
	p.controlHash = sum[:]
	said, err := hex.DecodeString(p.info["datahash"])
	if err != nil {
		return nil, fmt.Errorf("datahash of .PKGINFO: %w", err)
	}
	data := sha256.Sum256(control[len(control)-r.Len():])
	if !bytes.Equal(data[:], said) {
		return nil, fmt.Errorf("the data of the package has the SHA-256 %x, which is not the datahash of .PKGINFO", data)
	}
	return p, nil
}

// eachAPKFile decompresses the gzip member that r begins with, calls f for each
// file of the tar archive in it, and leaves r behind the member.
func eachAPKFile(r *bytes.Reader, f func(name string, file io.Reader) error) error {
	z, err := gzip.NewReader(r)
	if err != nil {
		return fmt.Errorf("want gzip: %w", err)
	}
	z.Multistream(false)
	limited := &io.LimitedReader{R: z, N: maxAPKSegment + 1}
	err = eachTarFile(limited, f)
	if err == nil {
		// What follows the archive belongs to the segment, and so does its
		// checksum.
		_, err = io.Copy(io.Discard, limited)
	}
	if limited.N == 0 {
		return fmt.Errorf("more than %d bytes when decompressed", maxAPKSegment)
	}
	return err
}

func eachTarFile(r io.Reader, f func(name string, file io.Reader) error) error {
	archive := tar.NewReader(r)
	for {
		h, err := archive.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		// A sparse file has holes that take no room in the archive.
		if h.Size > maxAPKSegment {
			return fmt.Errorf("a file of %d bytes, at most %d are accepted", h.Size, maxAPKSegment)
		}
		if err := f(h.Name, archive); err != nil {
			return err
		}
	}
}

// readAPKSignature reads the raw signature. In PEM it is accepted too.
func readAPKSignature(file io.Reader) (sigkey.X509Signature, error) {
	sig, err := io.ReadAll(io.LimitReader(file, sigkey.MaxSignatureSize+1))
	if err != nil {
		return nil, err
	}
	if len(sig) > sigkey.MaxSignatureSize {
		return nil, fmt.Errorf("signature of more than %d bytes", sigkey.MaxSignatureSize)
	}
	if block, _ := pem.Decode(sig); block != nil {
		return block.Bytes, nil
	}
	return sig, nil
}

// parsePkginfo reads the lines "name = value" of .PKGINFO. Public logs take the
// file for an INI file, so these rules are its rules: a line that begins with #
// or ; is a comment; a name ends at the first = or :, a value before the first
// # or ;, and it loses one pair of quotes around it; the last of several values
// of one name counts.
//
// What INI has beyond that, and no package: sections, values of more than one
// line, names in quotes and names that are counted, is refused.
func parsePkginfo(text string) (map[string]string, error) {
	for _, mark := range []string{"\xef\xbb\xbf", "\xfe\xff", "\xff\xfe"} { // byte order marks
		if rest, ok := strings.CutPrefix(text, mark); ok {
			text = rest
			break
		}
	}
	info := map[string]string{}
	size := 0
	for line := range strings.Lines(text) {
		line = strings.TrimLeftFunc(line, unicode.IsSpace)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		at := strings.IndexAny(line, "=:")
		if at <= 0 {
			return nil, fmt.Errorf(".PKGINFO: want name = value, got %.64q", strings.TrimSpace(line))
		}
		name := strings.TrimSpace(line[:at])
		if name[0] == '[' || name[0] == '"' || name[0] == '`' || name == "-" {
			return nil, fmt.Errorf(".PKGINFO: a name must be plain, got %.64q", name)
		}
		v, err := pkginfoValue(line[at+1:])
		if err != nil {
			return nil, fmt.Errorf(".PKGINFO: %.64q: %w", name, err)
		}
		if !utf8.ValidString(name) || !utf8.ValidString(v) {
			return nil, fmt.Errorf(".PKGINFO: %.64q: not valid UTF-8", name)
		}
		old, again := info[name]
		if !again {
			if len(info) == maxPkginfoNames {
				return nil, fmt.Errorf(".PKGINFO: more than %d names", maxPkginfoNames)
			}
			size += len(name)
		}
		if size += len(v) - len(old); size > maxPkginfoSize {
			return nil, fmt.Errorf(".PKGINFO: more than %d bytes of names and values", maxPkginfoSize)
		}
		info[name] = v
	}
	return info, nil
}

// pkginfoValue returns the value that follows the separator on a line.
func pkginfoValue(s string) (string, error) {
	s = strings.TrimSpace(s)
	if strings.HasPrefix(s, `"""`) || strings.HasPrefix(s, "`") || strings.HasSuffix(s, `\`) {
		return "", errors.New("a value must be plain and end with its line")
	}
	if i := strings.IndexAny(s, "#;"); i >= 0 {
		s = strings.TrimSpace(s[:i])
	}
	for _, quote := range []string{`'`, `"`} {
		if len(s) >= 2 && strings.HasPrefix(s, quote) && strings.HasSuffix(s, quote) && strings.Count(s, quote) == 2 {
			return s[1 : len(s)-1], nil
		}
	}
	return s, nil
}
