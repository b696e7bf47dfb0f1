package trust

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	common "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	trustroot "github.com/sigstore/protobuf-specs/gen/pb-go/trustroot/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// The media types, to the letter: Go and Python clients compare them. The
// trusted root keeps the older form because neither accepts the newer one.
const (
	trustedRootType   = "application/vnd.dev.sigstore.trustedroot+json;version=0.1"
	signingConfigType = "application/vnd.dev.sigstore.signingconfig.v0.2+json"
)

// The major API versions that clients select services by. Fulcio's is 1 though
// clients then call /api/v2/signingCert.
const (
	fulcioAPI  = 1
	oidcAPI    = 1
	rekorV1API = 1
)

// nextTrustedRoot returns the trusted root that follows prev (nil for none)
// when m is what the server signs with from now on. now is in whole seconds.
//
// Retired instances come first, in the order of their retirement, then those
// of m in its order. So the Rekor v1 log in use is the last of the tlogs, from
// which policy-controller takes the URL to look legacy signatures up at.
// A future Rekor v2 log belongs before it, timestamp authorities into
// TimestampAuthorities by the same mergeAuthorities.
func nextTrustedRoot(prev *trustroot.TrustedRoot, m Material, now time.Time) (*trustroot.TrustedRoot, error) {
	tlogs, err := mergeLogs(prev.GetTlogs(), m.RekorV1, m.RetiredRekorV1, now)
	if err != nil {
		return nil, err
	}
	ctlogs, err := mergeLogs(prev.GetCtlogs(), m.CTLogs, nil, now)
	if err != nil {
		return nil, err
	}
	return &trustroot.TrustedRoot{
		MediaType:              trustedRootType,
		Tlogs:                  tlogs,
		CertificateAuthorities: mergeAuthorities(prev.GetCertificateAuthorities(), m.Authorities, m.Retired, now),
		Ctlogs:                 ctlogs,
	}, nil
}

// mergeLogs keeps the start of a log that is known by its key, and ends those
// of prev that are not in logs. A log that comes back after its end is valid
// without an end again, from its first start. A retired one that is not in prev is
// valid for the time of its entries.
func mergeLogs(prev []*trustroot.TransparencyLogInstance, logs []Log, retired []RetiredLog, now time.Time) ([]*trustroot.TransparencyLogInstance, error) {
	known := map[string]*trustroot.TransparencyLogInstance{}
	for _, p := range prev {
		known[string(p.GetLogId().GetKeyId())] = p
	}
	var inUse []*trustroot.TransparencyLogInstance
	for _, l := range logs {
		id, err := l.id()
		if err != nil {
			return nil, err
		}
		start := timestamppb.New(now)
		if p := known[id]; p != nil {
			start = p.GetPublicKey().GetValidFor().GetStart()
			delete(known, id)
		}
		added, err := l.instance(start)
		if err != nil {
			return nil, err
		}
		inUse = append(inUse, added)
	}
	var out []*trustroot.TransparencyLogInstance
	for _, l := range retired {
		id, err := l.id()
		if err != nil {
			return nil, err
		}
		if known[id] != nil {
			continue
		}
		ended, err := l.instance(timestamppb.New(l.First.Truncate(time.Second))) // clients know whole ones
		if err != nil {
			return nil, err
		}
		retire(ended.PublicKey.ValidFor, l.Last.Add(logGrace))
		out = append(out, ended)
	}
	for _, p := range prev {
		if known[string(p.GetLogId().GetKeyId())] != nil {
			p = proto.Clone(p).(*trustroot.TransparencyLogInstance)
			retire(p.PublicKey.ValidFor, now.Add(logGrace))
			out = append(out, p)
		}
	}
	return append(out, inUse...), nil
}

// id is the identity of a log as a key of a map.
func (l Log) id() (string, error) {
	id, _, err := l.keyID()
	return string(id[:]), err
}

// instance is a log without an end.
func (l Log) instance(start *timestamppb.Timestamp) (*trustroot.TransparencyLogInstance, error) {
	id, spki, err := l.keyID()
	if err != nil {
		return nil, err
	}
	return &trustroot.TransparencyLogInstance{
		BaseUrl:       l.URL,
		HashAlgorithm: common.HashAlgorithm_SHA2_256,
		PublicKey: &common.PublicKey{
			RawBytes:   spki,
			KeyDetails: common.PublicKeyDetails_PKIX_ECDSA_P256_SHA_256,
			ValidFor:   &common.TimeRange{Start: start},
		},
		LogId: &common.LogId{KeyId: id[:]},
	}, nil
}

// mergeAuthorities does for certificate authorities what mergeLogs does for
// logs. A new one is valid from when its issuing certificate is, also when it
// comes as one that is retired already.
func mergeAuthorities(prev []*trustroot.CertificateAuthority, authorities, retired []Authority, now time.Time) []*trustroot.CertificateAuthority {
	known := map[[32]byte]*trustroot.CertificateAuthority{}
	for _, p := range prev {
		known[chainID(certificates(p))] = p
	}
	var inUse []*trustroot.CertificateAuthority
	for _, a := range authorities {
		id := chainID(a.der())
		start := timestamppb.New(a.Chain[0].NotBefore)
		if p := known[id]; p != nil {
			start = p.GetValidFor().GetStart()
			delete(known, id)
		}
		inUse = append(inUse, a.instance(start))
	}
	var out []*trustroot.CertificateAuthority
	for _, p := range prev {
		if known[chainID(certificates(p))] != nil {
			p = proto.Clone(p).(*trustroot.CertificateAuthority)
			retire(p.ValidFor, now.Add(authorityGrace))
			out = append(out, p)
		}
	}
	for _, a := range retired {
		if known[chainID(a.der())] == nil {
			ca := a.instance(timestamppb.New(a.Chain[0].NotBefore))
			retire(ca.ValidFor, now.Add(authorityGrace))
			out = append(out, ca)
		}
	}
	return append(out, inUse...)
}

// instance is an authority without an end.
func (a Authority) instance(start *timestamppb.Timestamp) *trustroot.CertificateAuthority {
	ca := &trustroot.CertificateAuthority{
		Subject:   subject(a.Chain[len(a.Chain)-1]),
		Uri:       a.URL,
		CertChain: &common.X509CertificateChain{},
		ValidFor:  &common.TimeRange{Start: start},
	}
	for _, raw := range a.der() {
		ca.CertChain.Certificates = append(ca.CertChain.Certificates, &common.X509Certificate{RawBytes: raw})
	}
	return ca
}

func subject(c *x509.Certificate) *common.DistinguishedName {
	dn := &common.DistinguishedName{CommonName: c.Subject.CommonName}
	if len(c.Subject.Organization) > 0 {
		dn.Organization = c.Subject.Organization[0]
	}
	return dn
}

func certificates(ca *trustroot.CertificateAuthority) [][]byte {
	var der [][]byte
	for _, c := range ca.GetCertChain().GetCertificates() {
		der = append(der, c.GetRawBytes())
	}
	return der
}

// How long after its retirement something ends.
const (
	// A CT timestamp has milliseconds and would otherwise lie after the end when
	// it was given in the last second of use.
	logGrace = time.Second
	// Clients ask whether an authority was valid when a signature was logged. A
	// certificate signs for as long as it lives, 24 hours at most, and replicas
	// take a new chain over one after the other.
	authorityGrace = 25 * time.Hour
)

// retire ends a validity unless it has ended, or is about to.
func retire(valid *common.TimeRange, end time.Time) {
	if valid.End != nil {
		return
	}
	if start := valid.Start.AsTime(); end.Before(start) { // the clock went back
		end = start
	}
	valid.End = timestamppb.New(end)
}

// nextSigningConfig returns the signing configuration that follows prev (nil
// for none). Only what is in use is in it. A service that was there already
// keeps its start.
//
// TsaUrls is where timestamp authorities belong. TsaConfig is always present:
// sigstore-go reads its selector without asking whether it is there.
func nextSigningConfig(prev *trustroot.SigningConfig, m Material, now time.Time) *trustroot.SigningConfig {
	var fulcio, rekor []string
	for _, a := range m.Authorities {
		fulcio = append(fulcio, a.URL)
	}
	for _, l := range m.RekorV1 {
		rekor = append(rekor, l.URL)
	}
	return &trustroot.SigningConfig{
		MediaType:       signingConfigType,
		CaUrls:          mergeServices(prev.GetCaUrls(), fulcio, fulcioAPI, m.Operator, now),
		OidcUrls:        mergeServices(prev.GetOidcUrls(), m.OIDC, oidcAPI, m.Operator, now),
		RekorTlogUrls:   mergeServices(prev.GetRekorTlogUrls(), rekor, rekorV1API, m.Operator, now),
		RekorTlogConfig: &trustroot.ServiceConfiguration{Selector: trustroot.ServiceSelector_ANY},
		TsaConfig:       &trustroot.ServiceConfiguration{Selector: trustroot.ServiceSelector_ANY},
	}
}

// mergeServices lists each URL once: two authorities of a rotation share one.
func mergeServices(prev []*trustroot.Service, urls []string, api uint32, operator string, now time.Time) []*trustroot.Service {
	var out []*trustroot.Service
	for _, u := range urls {
		same := func(s *trustroot.Service) bool { return s.GetUrl() == u && s.GetMajorApiVersion() == api }
		if slices.ContainsFunc(out, same) {
			continue
		}
		start := timestamppb.New(now)
		if i := slices.IndexFunc(prev, same); i >= 0 {
			start = prev[i].GetValidFor().GetStart()
		}
		out = append(out, &trustroot.Service{Url: u, MajorApiVersion: api, ValidFor: &common.TimeRange{Start: start}, Operator: operator})
	}
	return out
}

// marshalDocument returns m as JSON with two spaces of indentation, the same
// bytes for the same message. protojson alone varies its white space from one
// build to the next, on purpose; json.Indent writes it anew.
func marshalDocument(m proto.Message) ([]byte, error) {
	raw, err := protojson.Marshal(m)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, raw, "", "  "); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// parseTrustedRoot reads a trusted root that this package published. All that
// a later generation copies from it must be there.
func parseTrustedRoot(data []byte) (*trustroot.TrustedRoot, error) {
	tr := &trustroot.TrustedRoot{}
	if err := parseDocument(data, tr); err != nil {
		return nil, err
	}
	if tr.GetMediaType() != trustedRootType {
		return nil, fmt.Errorf("media type %q, want %q", tr.GetMediaType(), trustedRootType)
	}
	for _, list := range [][]*trustroot.TransparencyLogInstance{tr.GetTlogs(), tr.GetCtlogs()} {
		for i, l := range list {
			if sum := sha256.Sum256(l.GetPublicKey().GetRawBytes()); !bytes.Equal(l.GetLogId().GetKeyId(), sum[:]) {
				return nil, fmt.Errorf("log %d (%s): the log ID is not the SHA-256 of the public key", i, l.GetBaseUrl())
			}
			if err := checkRange(l.GetPublicKey().GetValidFor()); err != nil {
				return nil, fmt.Errorf("log %d (%s): %w", i, l.GetBaseUrl(), err)
			}
		}
	}
	for i, ca := range tr.GetCertificateAuthorities() {
		if len(ca.GetCertChain().GetCertificates()) == 0 {
			return nil, fmt.Errorf("certificate authority %d (%s) has no certificates", i, ca.GetUri())
		}
		if err := checkRange(ca.GetValidFor()); err != nil {
			return nil, fmt.Errorf("certificate authority %d (%s): %w", i, ca.GetUri(), err)
		}
	}
	return tr, nil
}

// parseSigningConfig reads a signing configuration that this package published.
func parseSigningConfig(data []byte) (*trustroot.SigningConfig, error) {
	sc := &trustroot.SigningConfig{}
	if err := parseDocument(data, sc); err != nil {
		return nil, err
	}
	if sc.GetMediaType() != signingConfigType {
		return nil, fmt.Errorf("media type %q, want %q", sc.GetMediaType(), signingConfigType)
	}
	for _, list := range [][]*trustroot.Service{sc.GetCaUrls(), sc.GetOidcUrls(), sc.GetRekorTlogUrls(), sc.GetTsaUrls()} {
		for _, s := range list {
			if err := checkRange(s.GetValidFor()); err != nil {
				return nil, fmt.Errorf("service %s: %w", s.GetUrl(), err)
			}
		}
	}
	return sc, nil
}

func parseDocument(data []byte, m proto.Message) error {
	if err := checkJSON(data, maxTargets, maxJSONMembers+len(data)/bytesPerMember); err != nil {
		return err
	}
	if err := protojson.Unmarshal(data, m); err != nil {
		return fmt.Errorf("not the expected JSON: %w", err)
	}
	return nil
}

func checkRange(r *common.TimeRange) error {
	if r.GetStart() == nil || r.GetStart().CheckValid() != nil || (r.GetEnd() != nil && r.GetEnd().CheckValid() != nil) {
		return fmt.Errorf("validFor has no start, or a time out of range")
	}
	return nil
}

// activeKeys returns the SHA-256 of the SubjectPublicKeyInfo of every key that
// signs now according to tr: of logs, and of issuing certificates.
func activeKeys(tr *trustroot.TrustedRoot) (map[[32]byte]bool, error) {
	active := map[[32]byte]bool{}
	for _, list := range [][]*trustroot.TransparencyLogInstance{tr.GetTlogs(), tr.GetCtlogs()} {
		for _, l := range list {
			if l.GetPublicKey().GetValidFor().GetEnd() == nil {
				active[sha256.Sum256(l.GetPublicKey().GetRawBytes())] = true
			}
		}
	}
	for _, ca := range tr.GetCertificateAuthorities() {
		if ca.GetValidFor().GetEnd() != nil {
			continue
		}
		issuing, err := x509.ParseCertificate(certificates(ca)[0])
		if err != nil {
			return nil, fmt.Errorf("certificate authority %s: %w", ca.GetUri(), err)
		}
		active[sha256.Sum256(issuing.RawSubjectPublicKeyInfo)] = true
	}
	return active, nil
}
