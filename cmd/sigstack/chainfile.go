package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sigstack/sigstack/ca"
)

// A chain lies in a file of its own: certificates in PEM, the issuing one first,
// the root last. Before them may stand where the key of the issuing certificate
// is, which "sigstack ca install" writes:
//
//	sigstack-key: ca-2027.pem
//	-----BEGIN CERTIFICATE-----
//
// The name is that of a file beside ca.chain, or a URI as in keys.ca. So chain
// and key are one file, and one rename replaces both. Other programs pass over
// the line (RFC 7468, section 2). Without it the key is keys.ca.
//
// ca.chain is the chain that signs. Each file *.pem in the directories ca.next
// and ca.retired is one that will sign, or did. A chain that is in several of
// them is what it is in the first of: ca.chain, ca.retired, ca.next.

// Bounds of chain files.
const (
	maxChainFile = 64 << 10 // bytes; a chain of eight has some 10 KiB
	maxChains    = 100      // in ca.next and ca.retired together
)

const keyLine = "sigstack-key: "

// A chainFile is what one file holds.
type chainFile struct {
	certs []*x509.Certificate
	key   string // behind keyLine; "" where there is none
}

// parseChainFile reads a chain. Whether its certificates fit together is for
// package ca to say.
func parseChainFile(data []byte) (f chainFile, err error) {
	rest := data
	if line, after, ok := bytes.Cut(data, []byte("\n")); ok && bytes.HasPrefix(line, []byte(keyLine)) {
		f.key, rest = strings.TrimSpace(string(line[len(keyLine):])), after
		if !goodKeyName(f.key) {
			return f, fmt.Errorf("the first line is not %q with the name of a file beside ca.chain, or a URI", strings.TrimSpace(keyLine))
		}
	}
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return f, fmt.Errorf("has a PEM block %q, want only CERTIFICATE blocks", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return f, err
		}
		f.certs = append(f.certs, cert)
	}
	if len(f.certs) == 0 {
		return f, errors.New("has no PEM certificate")
	}
	return f, nil
}

// goodKeyName accepts a URI, or the name of a file without its directory.
func goodKeyName(name string) bool {
	plain := strings.IndexFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) < 0
	return plain && name != "" && (strings.Contains(name, ":") || name == filepath.Base(name) && name != "." && name != "..")
}

// text is the file that parseChainFile reads.
func (f chainFile) text() []byte {
	var b bytes.Buffer
	if f.key != "" {
		b.WriteString(keyLine + f.key + "\n")
	}
	for _, cert := range f.certs {
		// Encoding to a buffer without headers cannot fail.
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
	}
	return b.Bytes()
}

// chainID is the identity of a chain: SHA-256 over the DER of its certificates.
func chainID(certs []*x509.Certificate) digest {
	h := sha256.New()
	for _, cert := range certs {
		h.Write(cert.Raw)
	}
	return digest(h.Sum(nil))
}

// chainName is the name of a chain's file in ca.next or ca.retired.
func chainName(certs []*x509.Certificate) string {
	id := chainID(certs)
	return hex.EncodeToString(id[:8]) + ".pem"
}

// readChainFile reads the file of a chain, and returns its bytes as well.
func readChainFile(name string) (chainFile, []byte, error) {
	data, err := readBounded(name, maxChainFile)
	if err != nil {
		return chainFile{}, nil, err
	}
	f, err := parseChainFile(data)
	if err != nil {
		return chainFile{}, nil, fmt.Errorf("%s: %w", name, err)
	}
	return f, data, nil
}

// Where the chains of a configuration are.

func (c *Config) chainFile() string {
	return cmp.Or(c.CA.Chain, filepath.Join(c.DataDir, "keys", caChain))
}

func (c *Config) nextDir() string {
	return cmp.Or(c.CA.Next, filepath.Join(filepath.Dir(c.chainFile()), "ca-next"))
}

func (c *Config) retiredDir() string {
	return cmp.Or(c.CA.Retired, filepath.Join(filepath.Dir(c.chainFile()), "ca-retired"))
}

// keyURI is the URI of the key that a chain's file names.
func (c *Config) keyURI(f chainFile) string {
	switch {
	case f.key == "":
		return cmp.Or(c.Keys.CA, "file:"+filepath.Join(c.DataDir, "keys", caKey))
	case !strings.Contains(f.key, ":"):
		return "file:" + filepath.Join(filepath.Dir(c.chainFile()), f.key)
	}
	return f.key
}

// keyName is how the file of a chain names a key, the other way round: a file
// beside ca.chain by its name, so that a copy of the directory is complete.
func (c *Config) keyName(uri string) (string, error) {
	return keyNameIn(filepath.Dir(c.chainFile()), uri)
}

// keyNameIn is how a file in a directory names a key.
func keyNameIn(dir, uri string) (string, error) {
	path, ok := strings.CutPrefix(uri, "file:")
	if !ok || strings.HasPrefix(path, "//") {
		return uri, nil
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", err
	}
	if filepath.Dir(path) == dir && !strings.Contains(filepath.Base(path), ":") {
		return filepath.Base(path), nil
	}
	return "file:" + path, nil
}

// chains are all that a configuration names.
type chains struct {
	active  chainFile
	issuing *ca.Chain // active with its key, once it is open
	next    []chainFile
	retired []chainFile
	kept    []chainFile // those that signed since the start, and are in no file any more
	content digest      // of all files, but for those of keys
}

// certsOf are the certificates of some chains.
func certsOf(files []chainFile) (out [][]*x509.Certificate) {
	for _, f := range files {
		out = append(out, f.certs)
	}
	return out
}

// readChains reads the files of all chains. Open has to follow.
func readChains(c *Config) (*chains, error) {
	s := &chains{}
	var data []byte
	var err error
	if s.active, data, err = readChainFile(c.chainFile()); err != nil {
		if errors.Is(err, fs.ErrNotExist) && c.CA.Chain == "" {
			err = fmt.Errorf("%w; make the CA with `sigstack init`, or name its chain in the configuration", err)
		}
		return nil, fmt.Errorf("reading the CA's certificates: %w", err)
	}
	seen := map[digest]bool{chainID(s.active.certs): true}
	content := [][]byte{data}
	read := func(dir string) (out []chainFile, err error) {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			if filepath.Ext(e.Name()) != ".pem" {
				continue
			}
			f, data, err := readChainFile(filepath.Join(dir, e.Name()))
			if err != nil {
				return nil, fmt.Errorf("a chain that is published beside the CA's: %w", err)
			}
			content = append(content, []byte(e.Name()), data)
			if len(content) > 2*maxChains+1 {
				return nil, fmt.Errorf("more than %d chains are in %s and %s; take out the oldest", maxChains, c.retiredDir(), c.nextDir())
			}
			if id := chainID(f.certs); !seen[id] {
				seen[id] = true
				out = append(out, f)
			}
		}
		return out, nil
	}
	if s.retired, err = read(c.retiredDir()); err != nil {
		return nil, err
	}
	if s.next, err = read(c.nextDir()); err != nil {
		return nil, err
	}
	s.content = sum(content...)
	return s, nil
}

// open checks the chains, and opens the key of the one that signs.
func (s *chains) open(ctx context.Context, c *Config, openKey func(ctx context.Context, uri string, of crypto.PublicKey) (crypto.Signer, error)) error {
	for _, f := range slices.Concat(s.next, s.retired) {
		if err := ca.CheckChain(f.certs); err != nil {
			return fmt.Errorf("a chain that is published beside the CA's, of %q: %w", f.certs[0].Subject, err)
		}
	}
	signer, err := openKey(ctx, c.keyURI(s.active), s.active.certs[0].PublicKey)
	if errors.Is(err, fs.ErrNotExist) && s.active.key == "" && c.Keys.CA == "" {
		err = fmt.Errorf("%w; make the keys with `sigstack init`, or name the key in the configuration", err)
	}
	if err != nil {
		return fmt.Errorf("the CA's key: %w", err)
	}
	if s.issuing, err = ca.NewChain(s.active.certs, signer); err != nil {
		return fmt.Errorf("the CA's chain in %s: %w", c.chainFile(), err)
	}
	return nil
}

// without returns the chains that are not among others.
func without(all []chainFile, others ...[]chainFile) []chainFile {
	seen := map[digest]bool{}
	for _, f := range slices.Concat(others...) {
		seen[chainID(f.certs)] = true
	}
	return slices.DeleteFunc(slices.Clone(all), func(f chainFile) bool { return seen[chainID(f.certs)] })
}
