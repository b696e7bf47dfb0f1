package keystore

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"hash/crc32"
	"net"
	"strings"
	"testing"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// GCPKey is what a GCP calls its key, without the version.
const GCPKey = "projects/p/locations/l/keyRings/r/cryptoKeys/ca"

// NewGCP starts a Google Cloud KMS with one key, which signs, and decrypts
// whatever is its plaintext and "encrypted:" before it. URL is host and port.
func NewGCP(t testing.TB, key crypto.Signer) *Store {
	t.Helper()
	s := newStore(t, one(key), func(s *Store, l net.Listener) func() {
		server := grpc.NewServer(grpc.UnaryInterceptor(s.gcpFault))
		kmspb.RegisterKeyManagementServiceServer(server, &gcp{store: s})
		go server.Serve(l)
		return server.Stop
	})
	s.URL = s.addr
	return s
}

// gcpFault stands before every call.
func (s *Store) gcpFault(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	switch s.now(ctx) {
	case Silent:
		return nil, status.FromContextError(ctx.Err()).Err()
	case Throttled:
		return nil, status.Error(codes.ResourceExhausted, "quota\nexceeded")
	case Broken:
		return nil, status.Error(codes.Internal, "trouble\nwithin")
	case Nonsense:
		return &kmspb.AsymmetricSignResponse{VerifiedDigestCrc32C: true}, nil // without the checksum that it always has
	}
	return handle(ctx, request)
}

type gcp struct {
	kmspb.UnimplementedKeyManagementServiceServer
	store *Store
}

// misses notes a request that is not about the key.
func (g *gcp) misses(what, name, want string) error {
	if name == want {
		return nil
	}
	g.store.t.Errorf("keystore: Google Cloud KMS is asked for the %s %q, want %q", what, name, want)
	return status.Error(codes.NotFound, "not found")
}

func (g *gcp) GetCryptoKey(_ context.Context, r *kmspb.GetCryptoKeyRequest) (*kmspb.CryptoKey, error) {
	return &kmspb.CryptoKey{Name: r.Name, Purpose: kmspb.CryptoKey_ASYMMETRIC_SIGN}, g.misses("key", r.Name, GCPKey)
}

func (g *gcp) GetCryptoKeyVersion(_ context.Context, r *kmspb.GetCryptoKeyVersionRequest) (*kmspb.CryptoKeyVersion, error) {
	algorithm := kmspb.CryptoKeyVersion_RSA_SIGN_PKCS1_2048_SHA256
	if k, ok := g.store.keys[only].Public().(*ecdsa.PublicKey); ok {
		algorithm = kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256
		if k.Params().BitSize == 384 {
			algorithm = kmspb.CryptoKeyVersion_EC_SIGN_P384_SHA384
		}
	}
	return &kmspb.CryptoKeyVersion{Name: r.Name, State: kmspb.CryptoKeyVersion_ENABLED, Algorithm: algorithm}, g.misses("version", r.Name, GCPKey+"/cryptoKeyVersions/1")
}

func (g *gcp) GetPublicKey(_ context.Context, r *kmspb.GetPublicKeyRequest) (*kmspb.PublicKey, error) {
	der, err := x509.MarshalPKIXPublicKey(g.store.keys[only].Public())
	if err != nil {
		return nil, err
	}
	return &kmspb.PublicKey{Name: r.Name, Pem: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))}, g.misses("version", r.Name, GCPKey+"/cryptoKeyVersions/1")
}

func (g *gcp) AsymmetricSign(_ context.Context, r *kmspb.AsymmetricSignRequest) (*kmspb.AsymmetricSignResponse, error) {
	digest := r.GetDigest().GetSha256()
	if len(digest) == 0 {
		digest = r.GetDigest().GetSha384()
	}
	checksum := func(data []byte) int64 { return int64(crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))) }
	hash, err := hashOf(digest)
	if err != nil || r.GetDigestCrc32C().GetValue() != checksum(digest) {
		g.store.t.Errorf("keystore: Google Cloud KMS does not understand %v (%v)", r, err)
		return nil, status.Error(codes.InvalidArgument, "digest")
	}
	signature := g.store.sign(only, digest, hash)
	return &kmspb.AsymmetricSignResponse{
		Name: r.Name, Signature: signature, SignatureCrc32C: wrapperspb.Int64(checksum(signature)), VerifiedDigestCrc32C: true,
	}, g.misses("version", r.Name, GCPKey+"/cryptoKeyVersions/1")
}

func (g *gcp) Decrypt(_ context.Context, r *kmspb.DecryptRequest) (*kmspb.DecryptResponse, error) {
	plain, ok := strings.CutPrefix(string(r.Ciphertext), "encrypted:")
	if !ok {
		return nil, status.Error(codes.InvalidArgument, "ciphertext")
	}
	return &kmspb.DecryptResponse{Plaintext: []byte(plain)}, g.misses("key", r.Name, GCPKey)
}
