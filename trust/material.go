package trust

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Material is everything that the server signs with now, and where each
// signer is reached. What is not in it any more is retired when it is
// published. Within each list the first is the one that legacy clients get
// under the plain name.
type Material struct {
	// Operator names who runs this deployment; clients choose one service of
	// each operator. Usually a domain name.
	Operator string
	// Authorities are the certificate authorities, Fulcio's URL with the chain:
	// those that sign, and those that are published before they do.
	Authorities []Authority
	// Retired are authorities that sign no longer. One that was published
	// already needs not be here to stay; one that was not, because it signed
	// for another deployment, is published with an end.
	Retired []Authority
	// CTLogs are the certificate transparency logs.
	CTLogs []Log
	// RekorV1 are the transparency logs with the Rekor v1 API.
	RekorV1 []Log
	// RetiredRekorV1 are logs that take no more entries, and that another
	// deployment has written. They need not be published yet.
	RetiredRekorV1 []RetiredLog
	// OIDC are the URLs of the issuers that a client may get its token from,
	// exactly as the issuer spells itself.
	OIDC []string
}

// Authority is a certificate authority with one issuing key.
type Authority struct {
	URL   string              // no trailing slash: clients append the API path
	Chain []*x509.Certificate // the issuing certificate first, the self-signed root last
}

// Log is a transparency log. Its identity is its key.
type Log struct {
	URL string           // no trailing slash
	Key crypto.PublicKey // ECDSA P-256, see keyID
}

// RetiredLog is a log that has ended, with the times of its first and its last entry.
type RetiredLog struct {
	Log
	First, Last time.Time
}

// keyID returns the identity of a log: SHA-256 of the DER SubjectPublicKeyInfo
// (RFC 6962, section 3.2), and that DER.
//
// Only P-256 is accepted. Clients disagree about the digest that a larger
// curve signs: half of them always take SHA-256, the others that of the curve.
func (l Log) keyID() (id [32]byte, spki []byte, err error) {
	key, ok := l.Key.(*ecdsa.PublicKey)
	if !ok || key == nil || key.Curve != elliptic.P256() {
		return id, nil, fmt.Errorf("the key of %s is not ECDSA P-256, the one kind that every client verifies", l.URL)
	}
	spki, err = x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return id, nil, fmt.Errorf("the key of %s: %w", l.URL, err)
	}
	return sha256.Sum256(spki), spki, nil
}

// chainID is the identity of a certificate authority: SHA-256 over the DER of
// its certificates, issuing one first.
func chainID(der [][]byte) [32]byte { return sha256.Sum256(bytes.Join(der, nil)) }

func (a Authority) der() [][]byte {
	out := make([][]byte, len(a.Chain))
	for i, c := range a.Chain {
		out[i] = c.Raw
	}
	return out
}

// validate refuses what some client would refuse later, far from the cause.
func (m Material) validate() error {
	if m.Operator == "" {
		return errors.New("the operator has no name; clients choose services by it, so give one, for example a domain name")
	}
	if len(m.Authorities) == 0 || len(m.CTLogs) == 0 || len(m.RekorV1) == 0 {
		return fmt.Errorf("clients need at least one certificate authority, one CT log and one Rekor log; got %d, %d and %d",
			len(m.Authorities), len(m.CTLogs), len(m.RekorV1))
	}
	// Logs are looked up by their identity, so two with one key would be one.
	seen := map[[32]byte]string{}
	unique := func(id [32]byte, name string) error {
		if other, ok := seen[id]; ok {
			return fmt.Errorf("%s and %s have the same key; every log and authority needs its own", other, name)
		}
		seen[id] = name
		return nil
	}
	// A chain is an authority by itself, so that a key may get another certificate.
	chains := map[[32]byte]bool{}
	for _, a := range slices.Concat(m.Authorities, m.Retired) {
		if err := a.validate(); err != nil {
			return err
		}
		id := chainID(a.der())
		if chains[id] {
			return fmt.Errorf("the chain of certificate authority %s (%q) stands twice; a chain signs, or is retired", a.URL, a.Chain[0].Subject)
		}
		chains[id] = true
		seen[sha256.Sum256(a.Chain[0].RawSubjectPublicKeyInfo)] = "certificate authority " + a.URL
	}
	var retired []Log
	for _, l := range m.RetiredRekorV1 {
		if l.Last.Before(l.First) {
			return fmt.Errorf("retired Rekor log %s: its last entry, of %v, is before its first, of %v", l.URL, l.Last, l.First)
		}
		retired = append(retired, l.Log)
	}
	for _, list := range []struct {
		kind string
		logs []Log
	}{{"CT log", m.CTLogs}, {"Rekor log", m.RekorV1}, {"retired Rekor log", retired}} {
		for _, l := range list.logs {
			if err := checkURL(l.URL, false); err != nil {
				return fmt.Errorf("%s: %w", list.kind, err)
			}
			id, _, err := l.keyID()
			if err != nil {
				return fmt.Errorf("%s: %w", list.kind, err)
			}
			if err := unique(id, list.kind+" "+l.URL); err != nil {
				return err
			}
		}
	}
	for _, issuer := range m.OIDC {
		if err := checkURL(issuer, true); err != nil {
			return fmt.Errorf("OIDC issuer: %w", err)
		}
	}
	return nil
}

func (a Authority) validate() error {
	if err := checkURL(a.URL, false); err != nil {
		return fmt.Errorf("certificate authority: %w", err)
	}
	if len(a.Chain) == 0 {
		return fmt.Errorf("certificate authority %s: no certificate; want the chain, issuing certificate first, root last", a.URL)
	}
	for i, c := range a.Chain {
		if c == nil || !c.BasicConstraintsValid || !c.IsCA {
			return fmt.Errorf("certificate authority %s: certificate %d of the chain is not a CA certificate", a.URL, i)
		}
		// The last one is its own issuer: a root that is not self-signed
		// ends no chain for most clients.
		parent := a.Chain[min(i+1, len(a.Chain)-1)]
		if parent == nil || !bytes.Equal(c.RawIssuer, parent.RawSubject) {
			return fmt.Errorf("certificate authority %s: certificate %d of the chain is not issued by the next; want the issuing certificate first, the self-signed root last", a.URL, i)
		}
		if err := c.CheckSignatureFrom(parent); err != nil {
			return fmt.Errorf("certificate authority %s: certificate %d of the chain is not signed by the next: %w", a.URL, i, err)
		}
	}
	return nil
}

// checkURL accepts an absolute http or https URL that clients can append a
// path to. Issuers are compared byte by byte and may end in a slash.
func checkURL(s string, issuer bool) error {
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.User != nil ||
		u.RawQuery != "" || u.ForceQuery || strings.Contains(s, "#") {
		return fmt.Errorf("%q is not an http or https URL with a host and without user, query and fragment", s)
	}
	if !issuer && strings.HasSuffix(s, "/") {
		return fmt.Errorf("%q ends in a slash, which clients would double; leave it out", s)
	}
	return nil
}
