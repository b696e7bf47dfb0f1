//go:build cgo

package keys

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync"

	"github.com/miekg/pkcs11"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// openPKCS11 opens a key of a token.
func openPKCS11(ctx context.Context, uri string, o Options) (crypto.Signer, error) {
	key, err := parsePKCS11(uri)
	if err != nil {
		return nil, err
	}
	t := &token{key: key}
	public, err := within(ctx, t.open)
	if err != nil {
		return nil, o.plain(err)
	}
	return signer(newRemote(public, t.sign, o))
}

// A token signs with one key of a PKCS #11 token. It keeps sessions for reuse. A
// session in which anything failed is closed, and the next signature begins with
// a new one, with a new login and a new search for slot and key: that is how a
// token that went away and came back is found again.
//
// The module is never finalized. Other keys of this process may use it.
type token struct {
	key    *tokenKey
	module *pkcs11.Ctx
	rsa    bool // not ECDSA

	mu      sync.Mutex
	idle    []session
	refused [sha256.Size]byte // of the PIN that the token refused
}

type session struct {
	handle  pkcs11.SessionHandle
	private pkcs11.ObjectHandle
}

// open loads the module and returns the public key.
func (t *token) open() (crypto.PublicKey, error) {
	if t.module = pkcs11.New(t.key.module); t.module == nil {
		return nil, fmt.Errorf("%s cannot be loaded as a PKCS #11 module", t.key.module)
	}
	s, err := t.begin()
	if err != nil {
		return nil, err
	}
	public, err := t.public(s)
	t.end(s, err)
	_, t.rsa = public.(*rsa.PublicKey)
	return public, err
}

// sign returns a signature. Modules heed no context.
func (t *token) sign(_ context.Context, digest []byte, hash crypto.Hash) ([]byte, error) {
	s, err := t.begin()
	if err != nil {
		return nil, err
	}
	signature, err := t.signIn(s, digest, hash)
	t.end(s, err)
	return signature, err
}

// begin returns a session that is logged in.
func (t *token) begin() (session, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.idle); n > 0 {
		s := t.idle[n-1]
		t.idle = t.idle[:n-1]
		return s, nil
	}
	if err := t.module.Initialize(); err != nil && !is(err, pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED) {
		return session{}, fmt.Errorf("initializing the module: %w", err)
	}
	slot, err := t.slot()
	if err != nil {
		return session{}, err
	}
	handle, err := t.module.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION)
	if err != nil {
		return session{}, fmt.Errorf("opening a session: %w", err)
	}
	s := session{handle: handle}
	if err = t.login(handle); err == nil {
		s.private, err = t.find(handle, pkcs11.CKO_PRIVATE_KEY)
	}
	if err != nil {
		t.module.CloseSession(handle)
		return session{}, err
	}
	return s, nil
}

// end keeps a session for the next signature. One in which something failed is
// closed, and so are those that wait: what they were opened for may be gone.
func (t *token) end(s session, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil {
		t.idle = append(t.idle, s)
		return
	}
	for _, s := range append(t.idle, s) {
		t.module.CloseSession(s.handle)
	}
	t.idle = nil
}

// slot finds the token.
func (t *token) slot() (uint, error) {
	slots, err := t.module.GetSlotList(true)
	if err != nil {
		return 0, fmt.Errorf("listing the slots: %w", err)
	}
	for _, slot := range slots {
		if t.key.slot != nil && slot != *t.key.slot {
			continue
		}
		info, err := t.module.GetTokenInfo(slot)
		if err != nil {
			continue
		}
		if (t.key.token == "" || info.Label == t.key.token) && (t.key.serial == "" || info.SerialNumber == t.key.serial) {
			return slot, nil
		}
	}
	return 0, errors.New("the module has no token as the pkcs11: URI names it")
}

// login gives the PIN, which is read anew each time. A PIN that was refused is not
// tried again: tokens lock themselves after a few.
func (t *token) login(handle pkcs11.SessionHandle) error {
	pin, err := ReadFile(t.key.pin)
	if err != nil {
		return fmt.Errorf("reading the PIN: %w", err)
	}
	pin = bytes.TrimRight(pin, "\r\n")
	defer clear(pin)
	sum := sha256.Sum256(pin)
	if sum == t.refused {
		return fmt.Errorf("the token has refused the PIN in %s before; it is not tried again until the file changes", t.key.pin)
	}
	err = t.module.Login(handle, pkcs11.CKU_USER, string(pin))
	switch {
	case err == nil || is(err, pkcs11.CKR_USER_ALREADY_LOGGED_IN):
		return nil
	case is(err, pkcs11.CKR_PIN_INCORRECT), is(err, pkcs11.CKR_PIN_LEN_RANGE), is(err, pkcs11.CKR_PIN_INVALID), is(err, pkcs11.CKR_PIN_LOCKED):
		t.refused = sum
		return fmt.Errorf("the token refuses the PIN in %s: %w", t.key.pin, err)
	}
	return fmt.Errorf("logging in: %w", err)
}

// find returns the one key of a class that the URI names.
func (t *token) find(handle pkcs11.SessionHandle, class uint) (pkcs11.ObjectHandle, error) {
	template := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, class)}
	if t.key.object != "" {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_LABEL, t.key.object))
	}
	if t.key.id != nil {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_ID, t.key.id))
	}
	if err := t.module.FindObjectsInit(handle, template); err != nil {
		return 0, fmt.Errorf("looking for the key: %w", err)
	}
	found, _, err := t.module.FindObjects(handle, 2)
	if err := errors.Join(err, t.module.FindObjectsFinal(handle)); err != nil {
		return 0, fmt.Errorf("looking for the key: %w", err)
	}
	what := "private"
	if class == pkcs11.CKO_PUBLIC_KEY {
		what = "public"
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return 0, fmt.Errorf("the token has no %s key as the pkcs11: URI names it", what)
	}
	return 0, fmt.Errorf("the token has several %s keys as the pkcs11: URI names them; add id= or object=", what)
}

// public reads the public key that stands beside the private one.
func (t *token) public(s session) (crypto.PublicKey, error) {
	object, err := t.find(s.handle, pkcs11.CKO_PUBLIC_KEY)
	if err != nil {
		return nil, err
	}
	read := func(kinds ...uint) ([][]byte, error) {
		var template []*pkcs11.Attribute
		for _, kind := range kinds {
			template = append(template, pkcs11.NewAttribute(kind, nil))
		}
		got, err := t.module.GetAttributeValue(s.handle, object, template)
		if err != nil {
			return nil, fmt.Errorf("reading the public key: %w", err)
		}
		var out [][]byte
		for _, a := range got {
			out = append(out, a.Value)
		}
		return out, nil
	}
	if v, err := read(pkcs11.CKA_EC_PARAMS, pkcs11.CKA_EC_POINT); err == nil {
		return ecdsaPublic(v[0], v[1])
	}
	v, err := read(pkcs11.CKA_MODULUS, pkcs11.CKA_PUBLIC_EXPONENT)
	if err != nil {
		return nil, err
	}
	e := new(big.Int).SetBytes(v[1])
	if !e.IsInt64() || e.Int64() < 3 || e.Int64() > 1<<31-1 {
		return nil, errors.New("the RSA key of the token has an exponent that nobody uses")
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(v[0]), E: int(e.Int64())}, nil
}

// ecdsaPublic reads CKA_EC_PARAMS, the OID of a curve, and CKA_EC_POINT, an
// uncompressed point in an OCTET STRING.
func ecdsaPublic(params, point []byte) (crypto.PublicKey, error) {
	curves := map[string]elliptic.Curve{"1.2.840.10045.3.1.7": elliptic.P256(), "1.3.132.0.34": elliptic.P384()}
	var oid asn1.ObjectIdentifier
	var raw cryptobyte.String
	p, q := cryptobyte.String(params), cryptobyte.String(point)
	if !p.ReadASN1ObjectIdentifier(&oid) || curves[oid.String()] == nil {
		return nil, errors.New("the EC key of the token is on another curve than P-256 and P-384")
	}
	if !q.ReadASN1(&raw, cbasn1.OCTET_STRING) || !q.Empty() {
		return nil, errors.New("the EC key of the token has a point that does not parse")
	}
	key, err := ecdsa.ParseUncompressedPublicKey(curves[oid.String()], raw)
	if err != nil {
		return nil, errors.New("the EC key of the token has a point that is not on its curve")
	}
	return key, nil
}

// digestInfo is what stands before a digest in PKCS #1 v1.5 (RFC 8017, section
// 9.2, note 1).
func digestInfo(hash crypto.Hash) []byte {
	oid := byte(1) // SHA-256
	if hash == crypto.SHA384 {
		oid = 2
	}
	size := byte(hash.Size())
	return []byte{0x30, 17 + size, 0x30, 13, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, oid, 5, 0, 4, size}
}

// signIn signs in a session.
func (t *token) signIn(s session, digest []byte, hash crypto.Hash) ([]byte, error) {
	mechanism, message := uint(pkcs11.CKM_ECDSA), digest
	if t.rsa {
		mechanism, message = pkcs11.CKM_RSA_PKCS, slices.Concat(digestInfo(hash), digest)
	}
	if err := t.module.SignInit(s.handle, []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, nil)}, s.private); err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	signature, err := t.module.Sign(s.handle, message)
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	if t.rsa {
		return signature, nil
	}
	if len(signature) == 0 || len(signature)%2 != 0 {
		return nil, errors.New("the token's signature has an odd length")
	}
	half := len(signature) / 2
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1BigInt(new(big.Int).SetBytes(signature[:half]))
		b.AddASN1BigInt(new(big.Int).SetBytes(signature[half:]))
	})
	return b.Bytes()
}

// is reports whether an error is a code of PKCS #11.
func is(err error, code uint) bool {
	got, ok := err.(pkcs11.Error)
	return ok && uint(got) == code
}
