package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/sigstack/sigstack/ca/catest"
)

// published are the keys of the table, made from what their documents print.
func published(t *testing.T) []struct {
	source string
	key    crypto.PublicKey
} {
	t.Helper()
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	unbase64 := func(s string) []byte {
		b, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	ec := func(curve elliptic.Curve, d []byte) crypto.PublicKey {
		size := (curve.Params().BitSize + 7) / 8
		key, err := ecdsa.ParseRawPrivateKey(curve, append(make([]byte, size-len(d)), d...))
		if err != nil {
			t.Fatal(err)
		}
		return key.Public()
	}
	ed := func(seed string) crypto.PublicKey { return ed25519.NewKeyFromSeed(unhex(seed)).Public() }
	modulus := func(n string) crypto.PublicKey {
		return &rsa.PublicKey{N: new(big.Int).SetBytes(unbase64(n)), E: 65537}
	}
	p256, p384, p521 := elliptic.P256(), elliptic.P384(), elliptic.P521()
	return []struct {
		source string
		key    crypto.PublicKey
	}{
		{"RFC 6979, A.2.5", ec(p256, unhex("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721"))},
		{"RFC 6979, A.2.6", ec(p384, unhex("6b9d3dad2e1b8c1c05b19875b6659f4de23c3b667bf297ba9aa47740787137d896d5724e4c70a825f872c9ea60d2edf5"))},
		{"RFC 6979, A.2.7", ec(p521, unhex("00fad06daa62ba3b25d2fb40133da757205de67f5bb0018fee8c86e1b68c7e75caa896eb32f1f47c70855836a6d16fcc1466f6d8fbec67db89ec0c08b0e996b83538"))},
		{"RFC 7515, A.2", modulus("ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ")},
		{"RFC 7515, A.3", ec(p256, unbase64("jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"))},
		{"RFC 7515, A.4", ec(p521, unbase64("AY5pb7A0UFiB3RELSD64fTLOSV_jazdF7fLYyuTw8lOfRhWg6Y6rUrPAxerEzgdRhajnu0ferB0d53vM9mE15j2C"))},
		{"RFC 7517, A.2, EC", ec(p256, unbase64("870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE"))},
		{"RFC 7517, A.2, RSA", modulus("0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw")},
		{"RFC 7520, 3.1", ec(p521, unbase64("AAhRON2r9cqXX1hg-RoI6R1tX5p2rUAYdmpHZoC1XNM56KtscrX6zbKipQrCW9CGZH3T4ubpnoTKLDYJ_fF3_rJt"))},
		{"RFC 7520, 3.3", modulus("n4EPtAOCc9AlkeQHPzHStgAbgs7bTZLwUBZdR8_KuKPEHLd4rHVTeT-O-XV2jRojdNhxJWTDvNd7nqQ0VEiZQHz_AJmSCpMaJMRBSFKrKb2wqVwGU_NsYOYL-QtiWN2lbzcEe6XC0dApr5ydQLrHqkHHig3RBordaZ6Aj-oBHqFEHYpPe7Tpe-OfVfHd1E6cS6M1FZcD1NNLYD5lFHpPI9bTwJlsde3uhGqC0ZCuEHg8lhzwOHrtIQbS0FVbb9k3-tVTU4fg_3L_vniUFAKwuCLqKnS2BYwdq_mzSnbLY7h_qixoR7jig3__kRhuaxwUkRz5iaiQkqgc5gHdrNP5zw")},
		{"RFC 8032, 7.1, test 1", ed("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")},
		{"RFC 8032, 7.1, test 2", ed("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")},
		{"RFC 8032, 7.1, test 3", ed("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7")},
		{"RFC 8032, 7.1, test 1024", ed("f5e5767cf153319517630f226876b86c8160cc583bc013744c6bf255f5cc0ee5")},
		{"RFC 8032, 7.1, test SHA(abc)", ed("833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42")},
		{"RFC 9500, 2.1", modulus("sPnoGUOnrpiSqt4XynxA-HRP7S-BSObI6qJ7fQAVSPtRkqsotWxQYLEYzNEx5ZSHTGypibVsJylvCfuToDTfMul8b_CZjP2Ob0LdpYrNH6l5hvFE89FU1nZQF15oVLOpUgA7wGiHuEVawrGfey92UE68mOyUVXGweJIVDdxqdMoPvNNUl86BU02vlBiESxOuox-dWmuVV7vfYZ79Toh_LUK43YvJh-rhv4nKuF7iHjVjBd9sB6iDjj70HFldzOQ9r8SRI-9NirupPTkF5AKNe6kUhKJ1luB7S27ZkvB3tSTT3P593VVJvnzOjaA1z6Cz-4-eRvcysqhrRgFlwI9TEw")},
		{"RFC 9500, 2.3, P-256", ec(p256, unhex("e6cb5bdd80aa45ae9c95e8c15476679ffec953c16851e711e743939589c64fc1"))},
		{"RFC 9500, 2.3, P-384", ec(p384, unhex("e2563328dfabf68188606b91324281c1d58a4456431b09d510b35fecc9f307ca1822846fa2671371a9a81bac0e35749d"))},
		{"RFC 9500, 2.3, P-521", ec(p521, unhex("01d924dcca0a887f8d99767a37d874e637a12ccb477d6e08665356694d68b7655e5069638fde7b45c854013dc77a35b18655b84c966a60220d40f91ed9f5145802ea"))},
		{"private key 1", ec(p256, []byte{1})},
		{"private key 1", ec(p384, []byte{1})},
		{"private key 1", ec(p521, []byte{1})},
	}
}

// TestSharedKeys makes each key of the table again, and has it refused wherever a
// key is taken.
func TestSharedKeys(t *testing.T) {
	for _, p := range published(t) {
		spki, err := x509.MarshalPKIXPublicKey(p.key)
		if err != nil {
			t.Fatal(err)
		}
		hash := sha256.Sum256(spki)
		if got := sharedKey(hash); got != p.source {
			t.Errorf("%s: %x is that of %q", p.source, hash, got)
		}
		_, err = ParsePublicKey(spki)
		wantRefused(t, p.source, err, msgKeyInsecure)
		if err != nil && !strings.Contains(err.Error(), p.source) {
			t.Errorf("%s: the error does not say where the key is published: %v", p.source, err)
		}
	}
	if err := checkKey(catest.ECDSA(t, elliptic.P256()).Public()); err != nil {
		t.Errorf("another key: %v", err)
	}
}

// TestBlockedKeys asks for certificates for keys that the CA uses, or that its
// configuration blocks.
func TestBlockedKeys(t *testing.T) {
	w := newP256World(t)
	blocked := catest.ECDSA(t, elliptic.P256())
	spki, err := x509.MarshalPKIXPublicKey(blocked.Public())
	if err != nil {
		t.Fatal(err)
	}
	retired := newP256World(t)
	cfg := Config{Chain: w.chain, CTLog: w.log, Audit: w.audit, Now: w.CA.now, Retired: [][]*x509.Certificate{retired.chain.certs},
		Blocked: map[[32]byte]string{sha256.Sum256(spki): "it is on the block list"}}
	ca, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		key  crypto.PublicKey
		want string
	}{
		"blocked":         {blocked.Public(), "it is on the block list"},
		"issuing":         {w.chain.certs[0].PublicKey, "certificate authority"},
		"root":            {w.chain.certs[1].PublicKey, "certificate authority"},
		"retired issuing": {retired.chain.certs[0].PublicKey, "certificate authority"},
		"CT log":          {w.log.PublicKey(), "CT log"},
	} {
		key, err := proven(c.key, testEmail) // as its holder could
		if err != nil {
			t.Fatal(err)
		}
		issued, err := ca.Issue(t.Context(), Request{Identity: w.identity, Key: key})
		if issued != nil || !errors.Is(err, ErrRequest) || !strings.Contains(err.Error(), msgKeyInsecure) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(w.audit.intents) != 0 || w.signer.calls != 0 {
		t.Error("something was recorded or signed")
	}
	if _, err := ca.Issue(t.Context(), w.request(t)); err != nil {
		t.Errorf("another key: %v", err)
	}
}
