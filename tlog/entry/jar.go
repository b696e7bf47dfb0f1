package entry

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/sigstack/sigstack/tlog/entry/sigkey"
)

// jar 0.0.1: a signed Java archive (JAR File Specification, "Signed JAR
// File"). Proposed:
//
//	spec.archive.content  base64 of the archive
//	spec.archive.hash     optional {algorithm: "sha256", value}, must match
//
// Stored:
//
//	spec.archive.hash                 SHA-256 of the archive, in lower-case hex
//	spec.signature.content            base64 of PEM: the signature block, without content
//	spec.signature.publicKey.content  base64 of PEM: the first certificate of the block
//
// The archive has one signature file (META-INF/*.SF) with its block (*.RSA,
// *.DSA, *.EC or SIG-*). The block is verified over the signature file, that
// over the manifest (META-INF/MANIFEST.MF), and the manifest over each file
// that it names. Files that it does not name are not signed, as in Java.

const (
	// maxJarMetadata is the largest size, in bytes, of a file directly in
	// META-INF with an extension. Manifest, signature file and block are such
	// files, and are read into memory.
	maxJarMetadata = 1 << 20

	// What is inflated is bounded: so many bytes at least, so many for each byte
	// of the archive, and so many at most. What is hashed by several functions
	// counts for each. Class files shrink to a half or a third, text to a tenth;
	// deflate can do a thousandth.
	minInflated  = 1 << 20
	inflateRatio = 16
	maxInflated  = 256 << 20
)

type jar struct {
	archive   digest
	signature *sigkey.PKCS7
}

func proposeJar(spec value) ([]byte, *keySet, error) {
	hash, content, err := readArchive(spec)
	if err != nil {
		return nil, nil, err
	}
	if len(content) == 0 {
		return nil, nil, errors.New("'content' must be specified for package")
	}
	j := &jar{}
	if j.archive, err = matchDigest(content, hash); err != nil {
		return nil, nil, err
	}
	if j.signature, err = verifyJar(content); err != nil {
		return nil, nil, err
	}
	body, err := j.body()
	if err != nil {
		return nil, nil, err
	}
	keys, err := j.keys()
	return body, keys, err
}

// readArchive reads spec.archive. A stored one has no content.
func readArchive(spec value) (hash digest, content []byte, err error) {
	m, err := spec.members("archive")
	if err != nil {
		return digest{}, nil, err
	}
	archive, err := requiredMembers(m[0], "archive", "hash", "content")
	if err != nil {
		return digest{}, nil, err
	}
	if archive[0] != nil {
		if hash, err = readDigest(archive[0], "archive.hash", "sha256"); err != nil {
			return digest{}, nil, err
		}
	}
	if content, err = archive[1].base64(); err != nil {
		return digest{}, nil, fmt.Errorf("archive.content: %w", err)
	}
	return hash, content, nil
}

func keysJar(spec value) (*keySet, error) {
	hash, _, err := readArchive(spec)
	if err != nil {
		return nil, err
	}
	if hash.value == "" {
		return nil, errors.New("archive.hash in body is required")
	}
	m, err := spec.members("signature")
	if err != nil {
		return nil, err
	}
	signature, err := requiredMembers(m[0], "signature", "content")
	if err != nil {
		return nil, err
	}
	text, err := requiredBytes(signature[0], "signature.content")
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PKCS7" {
		return nil, errors.New("signature.content: want PEM of the type PKCS7")
	}
	j := &jar{archive: hash}
	if j.signature, err = sigkey.ParsePKCS7(block.Bytes); err != nil {
		return nil, fmt.Errorf("signature.content: %w", err)
	}
	return j.keys()
}

func (j *jar) body() ([]byte, error) {
	first, err := j.signature.First()
	if err != nil {
		return nil, err
	}
	sig, cert := j.signature.Canonical(), first.Canonical()
	out := make([]byte, 0, 512+base64.StdEncoding.EncodedLen(len(sig)+len(cert)))
	out = appendHeader(out, "jar", "0.0.1")
	out = append(out, `"archive":{"hash":`...)
	out = appendDigest(out, j.archive)
	out = append(out, `},"signature":{"content":"`...)
	out = base64.StdEncoding.AppendEncode(out, sig)
	out = append(out, `","publicKey":{"content":"`...)
	out = base64.StdEncoding.AppendEncode(out, cert)
	return append(out, `"}}}}`...), nil
}

// keys has what public logs have, the hash of the signature's text where other
// kinds have that of the key, and the hash of the signer's certificate: by it
// a search by public key finds this kind, too.
func (j *jar) keys() (*keySet, error) {
	signer, err := pkcs7Signer(j.signature)
	if err != nil {
		return nil, err
	}
	s := &keySet{signers: []Signer{signer}}
	hash := sha256Digest(j.signature.Canonical())
	s.add(hash.value, hash.searchKey(), j.archive.searchKey())
	s.add(signer.KeyHash(), "sha256:"+signer.KeyHash())
	s.about.PublicKeys = []string{signer.KeyHash()}
	return s, nil
}

// A jarReader reads the files of an archive, within its budget.
type jarReader struct {
	files  map[string]*zip.File
	limit  int64 // bytes that may be inflated
	budget int64 // what is left of limit
	buf    [16 << 10]byte
}

// verifyJar verifies an archive and returns its signature.
func verifyJar(content []byte) (*sigkey.PKCS7, error) {
	z, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		return nil, fmt.Errorf("archive.content is not a JAR: %w", err)
	}
	// One decompressor for all files: they are read one after another.
	inflater := flate.NewReader(bytes.NewReader(nil))
	z.RegisterDecompressor(zip.Deflate, func(r io.Reader) io.ReadCloser {
		_ = inflater.(flate.Resetter).Reset(r, nil) // it has no error to return
		return inflater
	})
	r := &jarReader{files: make(map[string]*zip.File, len(z.File))}
	r.limit = min(minInflated+inflateRatio*int64(len(content)), maxInflated)
	r.budget = r.limit
	manifest, signature, block, err := r.index(z.File)
	if err != nil {
		return nil, err
	}
	der, err := r.metadata(block)
	if err != nil {
		return nil, err
	}
	p, err := sigkey.ParsePKCS7(der)
	if err != nil {
		return nil, fmt.Errorf("JAR: %s: %w", clipQuoted(block.Name), err)
	}
	signed, err := r.metadata(signature)
	if err != nil {
		return nil, err
	}
	if err := p.Verify(signed); err != nil {
		return nil, fmt.Errorf("JAR: %s: %w", clipQuoted(block.Name), err)
	}
	named, err := r.metadata(manifest)
	if err != nil {
		return nil, err
	}
	if err := verifySignatureFile(signed, named); err != nil {
		return nil, err
	}
	return p, r.verifyManifest(named)
}

// index fills r.files and finds manifest, signature file and block. Names are
// compared without regard to case.
func (r *jarReader) index(files []*zip.File) (manifest, signature, block *zip.File, err error) {
	blocks, signatures := 0, 0
	blockBase, signatureBase := "", ""
	for _, f := range files {
		if strings.HasSuffix(f.Name, "/") {
			continue // a directory: merged archives have some twice
		}
		// Of two files of one name, one reader would take the first and another
		// the last.
		if r.files[f.Name] != nil {
			return nil, nil, nil, fmt.Errorf("JAR: file %s is there twice", clipQuoted(f.Name))
		}
		r.files[f.Name] = f
		dir, name := path.Split(strings.ToUpper(f.Name))
		dot := strings.LastIndexByte(name, '.')
		if dot < 0 || dir != "META-INF/" {
			continue
		}
		if f.UncompressedSize64 > maxJarMetadata {
			return nil, nil, nil, fmt.Errorf("uncompressed jar metadata of size %d exceeds max allowed size %d", f.UncompressedSize64, maxJarMetadata)
		}
		base, ext := name[:dot], name[dot:]
		switch {
		case name == "MANIFEST.MF":
			if manifest != nil {
				return nil, nil, nil, errors.New("JAR: META-INF/MANIFEST.MF is there twice")
			}
			manifest = f
		case ext == ".SF":
			signature, signatureBase = f, base
			signatures++
		case ext == ".RSA", ext == ".DSA", ext == ".EC", strings.HasPrefix(name, "SIG-"):
			block, blockBase = f, base
			blocks++
		}
	}
	switch {
	case manifest == nil:
		return nil, nil, nil, errors.New("JAR contains no META-INF/MANIFEST.MF")
	case signatures == 0:
		return nil, nil, nil, errors.New("no signatures detected in JAR archive")
	case signatures > 1, blocks > 1:
		return nil, nil, nil, errors.New("multiple signatures detected in JAR; unable to process")
	case blocks == 0, blockBase != signatureBase:
		return nil, nil, nil, fmt.Errorf("JAR contains sigfile %s with no matching signature", clipQuoted(signature.Name))
	}
	return manifest, signature, block, nil
}

// metadata returns the content of a file that is read into memory: package zip
// inflates no file to more than the size that index has checked.
func (r *jarReader) metadata(f *zip.File) ([]byte, error) {
	var out bytes.Buffer
	err := r.read(f, 1, func(b []byte) { out.Write(b) })
	return out.Bytes(), err
}

// read calls f with the content of a file, piece by piece. Each byte costs so
// many of the budget.
func (r *jarReader) read(file *zip.File, cost int, f func([]byte)) error {
	in, err := file.Open()
	if err != nil {
		return fmt.Errorf("JAR: file %s: %w", clipQuoted(file.Name), err)
	}
	defer in.Close()
	for {
		n, err := in.Read(r.buf[:])
		if r.budget -= int64(n * cost); r.budget < 0 {
			return fmt.Errorf("JAR: the files inflate to more than the %d bytes that are accepted of this archive", r.limit)
		}
		f(r.buf[:n])
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("JAR: file %s: %w", clipQuoted(file.Name), err)
		}
	}
}

// clipQuoted returns the name of a file for an error.
func clipQuoted(name string) string { return fmt.Sprintf("%q", clip(name)) }

// verifySignatureFile verifies the manifest by the signature file: by the
// digest of the whole, or else by those of its main attributes and of each
// section that the signature file names.
func verifySignatureFile(signed, manifest []byte) error {
	sections, err := splitSections(signed)
	if err != nil {
		return fmt.Errorf("JAR: signature file: %w", err)
	}
	main, err := parseSection(sections[0])
	if err != nil {
		return fmt.Errorf("JAR: signature file: %w", err)
	}
	whole, err := main.digests("-Digest-Manifest")
	if err != nil {
		return fmt.Errorf("JAR: signature file: %w", err)
	}
	if len(whole) > 0 {
		if err := whole.verify(manifest); err != nil {
			return fmt.Errorf("JAR: manifest signature: %w", err)
		}
		return nil
	}
	parts, err := splitSections(manifest)
	if err != nil {
		return fmt.Errorf("JAR: manifest: %w", err)
	}
	if err := main.verify("-Digest-Manifest-Main-Attributes", parts[0]); err != nil {
		return fmt.Errorf("JAR: manifest main attributes signature: %w", err)
	}
	byName := make(map[string][]byte, len(parts))
	for _, part := range parts[1:] {
		s, err := parseSection(part)
		if err != nil {
			return fmt.Errorf("JAR: manifest: %w", err)
		}
		if byName[s.name] != nil {
			return fmt.Errorf("JAR: manifest: section %s is there twice", clipQuoted(s.name))
		}
		byName[s.name] = part
	}
	for _, section := range sections[1:] {
		s, err := parseSection(section)
		if err != nil {
			return fmt.Errorf("JAR: signature file: %w", err)
		}
		part := byName[s.name]
		if s.name == "" || part == nil {
			return fmt.Errorf("JAR: manifest is missing signed section %s", clipQuoted(s.name))
		}
		if err := s.verify("-Digest", part); err != nil {
			return fmt.Errorf("JAR: manifest signature over section %s: %w", clipQuoted(s.name), err)
		}
		delete(byName, s.name) // a second time would be for the cost only
	}
	return nil
}

// verifyManifest verifies each file that the manifest names.
func (r *jarReader) verifyManifest(manifest []byte) error {
	sections, err := splitSections(manifest)
	if err != nil {
		return fmt.Errorf("JAR: manifest: %w", err)
	}
	for _, section := range sections[1:] {
		s, err := parseSection(section)
		if err != nil {
			return fmt.Errorf("JAR: manifest: %w", err)
		}
		if s.name == "" {
			return errors.New(`JAR: manifest has section with no "Name" attribute`)
		}
		if s.magic {
			continue // somebody else's rules say what its digests are over
		}
		f := r.files[s.name]
		if f == nil {
			return fmt.Errorf("JAR: file %s is in manifest but not JAR, or there twice", clipQuoted(s.name))
		}
		delete(r.files, s.name)
		digests, err := s.digests("-Digest")
		if err == nil && len(digests) == 0 {
			err = errNoDigests
		}
		if err != nil {
			return fmt.Errorf("JAR: file %s in manifest: %w", clipQuoted(s.name), err)
		}
		if err := r.read(f, len(digests), digests.write); err != nil {
			return err
		}
		if err := digests.compare(); err != nil {
			return fmt.Errorf("JAR: file %s in manifest: %w", clipQuoted(s.name), err)
		}
	}
	return nil
}
