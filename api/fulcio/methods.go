package fulcio

import (
	"context"
	"encoding/pem"
	"strings"

	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/sigstack/sigstack/ca"
	"github.com/sigstack/sigstack/ca/identity"
	"github.com/sigstack/sigstack/proto/fulcio/v1beta"
	fulciov2 "github.com/sigstack/sigstack/proto/fulcio/v2"
)

// pemChainType is the media type of concatenated PEM certificates (RFC 8555,
// section 9.1).
const pemChainType = "application/pem-certificate-chain"

// v2 is dev.sigstore.fulcio.v2.CA.
type v2 struct {
	fulciov2.UnimplementedCAServer
	*Service
}

func (s v2) CreateSigningCertificate(ctx context.Context, req *fulciov2.CreateSigningCertificateRequest) (_ *fulciov2.SigningCertificate, err error) {
	defer s.finish(ctx, fulciov2.CA_CreateSigningCertificate_FullMethodName, &err)
	issued, err := s.issue(ctx, req.GetCredentials().GetOidcIdentityToken(), func(id identity.Identity) (ca.ProvenKey, error) {
		if csr := req.GetCertificateSigningRequest(); len(csr) > 0 {
			return ca.ParseCSR(csr)
		}
		key := req.GetPublicKeyRequest()
		return provenKey(id, []byte(key.GetPublicKey().GetContent()), key.GetProofOfPossession())
	})
	if err != nil {
		return nil, err
	}
	chain := &fulciov2.CertificateChain{}
	for _, der := range append([][]byte{issued.Leaf}, issued.Chain...) {
		chain.Certificates = append(chain.Certificates, strings.TrimSpace(certificatePEM(der)))
	}
	return &fulciov2.SigningCertificate{Certificate: &fulciov2.SigningCertificate_SignedCertificateEmbeddedSct{
		SignedCertificateEmbeddedSct: &fulciov2.SigningCertificateEmbeddedSCT{Chain: chain},
	}}, nil
}

func (s v2) GetTrustBundle(ctx context.Context, _ *fulciov2.GetTrustBundleRequest) (_ *fulciov2.TrustBundle, err error) {
	defer s.finish(ctx, fulciov2.CA_GetTrustBundle_FullMethodName, &err)
	bundle := &fulciov2.TrustBundle{}
	for _, certs := range s.parts.Load().CA.Bundle() {
		chain := &fulciov2.CertificateChain{}
		for _, cert := range certs {
			chain.Certificates = append(chain.Certificates, certificatePEM(cert.Raw))
		}
		bundle.Chains = append(bundle.Chains, chain)
	}
	return bundle, nil
}

func (s v2) GetConfiguration(ctx context.Context, _ *fulciov2.GetConfigurationRequest) (_ *fulciov2.Configuration, err error) {
	defer s.finish(ctx, fulciov2.CA_GetConfiguration_FullMethodName, &err)
	configuration := &fulciov2.Configuration{}
	for _, issuer := range s.parts.Load().Verifier.Issuers() {
		message := &fulciov2.OIDCIssuer{
			Audience:              issuer.ClientID,
			ChallengeClaim:        issuer.ChallengeClaim(),
			IssuerType:            issuer.Type,
			SubjectDomain:         issuer.SubjectDomain,
			SpiffeTrustDomain:     issuer.SPIFFETrustDomain,
			SkipEmailVerification: issuer.SkipEmailVerification,
		}
		if issuer.IsPattern() {
			message.Issuer = &fulciov2.OIDCIssuer_WildcardIssuerUrl{WildcardIssuerUrl: issuer.URL}
		} else {
			message.Issuer = &fulciov2.OIDCIssuer_IssuerUrl{IssuerUrl: issuer.URL}
		}
		configuration.Issuers = append(configuration.Issuers, message)
	}
	return configuration, nil
}

// v1 is dev.sigstore.fulcio.v1beta.CA.
type v1 struct {
	fulciov1beta.UnimplementedCAServer
	*Service
}

func (s v1) CreateSigningCertificate(ctx context.Context, req *fulciov1beta.CreateSigningCertificateRequest) (_ *httpbody.HttpBody, err error) {
	defer s.finish(ctx, fulciov1beta.CA_CreateSigningCertificate_FullMethodName, &err)
	issued, err := s.issue(ctx, "", func(id identity.Identity) (ca.ProvenKey, error) {
		if csr := req.GetCertificateSigningRequest(); len(csr) > 0 {
			return ca.ParseCSR(csr)
		}
		return provenKey(id, req.GetPublicKey().GetContent(), req.GetSignedEmailAddress())
	})
	if err != nil {
		return nil, err
	}
	var body strings.Builder
	for _, der := range append([][]byte{issued.Leaf}, issued.Chain...) {
		body.WriteString(certificatePEM(der))
	}
	return &httpbody.HttpBody{ContentType: pemChainType, Data: []byte(strings.TrimSpace(body.String()))}, nil
}

func (s v1) GetRootCertificate(ctx context.Context, _ *emptypb.Empty) (_ *httpbody.HttpBody, err error) {
	defer s.finish(ctx, fulciov1beta.CA_GetRootCertificate_FullMethodName, &err)
	var blocks []string
	for _, certs := range s.parts.Load().CA.Bundle() {
		for _, cert := range certs {
			blocks = append(blocks, certificatePEM(cert.Raw))
		}
	}
	return &httpbody.HttpBody{ContentType: pemChainType, Data: []byte(strings.Join(blocks, "\n"))}, nil
}

func certificatePEM(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
