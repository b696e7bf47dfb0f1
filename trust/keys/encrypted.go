package keys

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha1" // the pseudorandom function of PBKDF2 where none is named
	"crypto/sha256"
	"crypto/sha512"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"

	"github.com/secure-systems-lab/go-securesystemslib/encrypted"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/crypto/scrypt"
)

// Bounds of what a key file may ask for when it is decrypted: some seconds, or
// 128 MiB.
const (
	maxIterations = 5_000_000
	maxScrypt     = 128 << 20 // bytes: 128 * N * r
	maxParallel   = 4         // p of scrypt
)

var errPassphrase = errors.New("the private key cannot be decrypted: the passphrase is not its own, or the file is damaged")

// decrypt returns the block of an encrypted key as that of a PKCS #8 key, and any
// other as it is.
func decrypt(block *pem.Block, passphrase []byte) (*pem.Block, error) {
	var open func() ([]byte, error)
	switch block.Type {
	case "ENCRYPTED PRIVATE KEY":
		open = func() ([]byte, error) {
			k, err := parsePBES2(block.Bytes)
			if err != nil {
				return nil, err
			}
			return k.decrypt(passphrase)
		}
	case "ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY":
		open = func() ([]byte, error) {
			// It takes three sets of parameters for scrypt, of 32, 64 and 128 MiB.
			der, err := encrypted.Decrypt(block.Bytes, passphrase)
			if err != nil {
				return nil, errPassphrase // the cause could quote what it read
			}
			return der, nil
		}
	default:
		if len(passphrase) > 0 {
			return nil, errors.New("a passphrase is given, but the key is not encrypted; leave ?passphrase-file= away, or encrypt the key with: openssl pkcs8 -topk8 -v2 aes-256-cbc")
		}
		return block, nil
	}
	if len(passphrase) == 0 {
		return nil, errors.New("the key is encrypted; name a file with its passphrase, of mode 0600: file:/path/key.pem?passphrase-file=/path/passphrase")
	}
	der, err := open()
	if err != nil {
		return nil, err
	}
	return &pem.Block{Type: "PRIVATE KEY", Bytes: der}, nil
}

// A pbes2 is an encrypted PKCS #8 key (RFC 5958, section 3) by PBES2 (RFC 8018,
// section 6.2): AES in CBC mode, with a key from PBKDF2 or scrypt (RFC 7914).
type pbes2 struct {
	salt       []byte
	prf        func() hash.Hash // of PBKDF2; nil for scrypt
	iterations int
	n, r, p    int // of scrypt
	keySize    int
	iv, text   []byte
}

// Object identifiers of RFC 8018, RFC 7914 and of NIST's AES.
var (
	oidPBES2      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidScrypt     = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11591, 4, 11}
	oidHMACSHA1   = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 7}
	oidHMACSHA256 = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}
	oidHMACSHA384 = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 10}
	oidHMACSHA512 = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 11}
	oidAES128CBC  = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 2}
	oidAES192CBC  = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 22}
	oidAES256CBC  = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}
)

// parsePBES2 reads an EncryptedPrivateKeyInfo.
func parsePBES2(der []byte) (*pbes2, error) {
	damaged := errors.New("the encrypted private key is damaged: its DER does not parse")
	in := cryptobyte.String(der)
	var outer, algorithm, parameters, kdf, scheme cryptobyte.String
	var oid, kdfOID, schemeOID asn1.ObjectIdentifier
	k := &pbes2{}
	if !in.ReadASN1(&outer, cbasn1.SEQUENCE) || !in.Empty() ||
		!outer.ReadASN1(&algorithm, cbasn1.SEQUENCE) || !outer.ReadASN1Bytes(&k.text, cbasn1.OCTET_STRING) || !outer.Empty() ||
		!algorithm.ReadASN1ObjectIdentifier(&oid) {
		return nil, damaged
	}
	if !oid.Equal(oidPBES2) {
		return nil, errors.New("the private key is encrypted by something else than PBES2; convert it with: openssl pkcs8 -topk8 -v2 aes-256-cbc")
	}
	if !algorithm.ReadASN1(&parameters, cbasn1.SEQUENCE) || !algorithm.Empty() ||
		!parameters.ReadASN1(&kdf, cbasn1.SEQUENCE) || !parameters.ReadASN1(&scheme, cbasn1.SEQUENCE) || !parameters.Empty() ||
		!kdf.ReadASN1ObjectIdentifier(&kdfOID) || !scheme.ReadASN1ObjectIdentifier(&schemeOID) {
		return nil, damaged
	}
	switch {
	case schemeOID.Equal(oidAES128CBC):
		k.keySize = 16
	case schemeOID.Equal(oidAES192CBC):
		k.keySize = 24
	case schemeOID.Equal(oidAES256CBC):
		k.keySize = 32
	default:
		return nil, errors.New("the private key is encrypted by another cipher than AES in CBC mode; convert it with: openssl pkcs8 -topk8 -v2 aes-256-cbc")
	}
	if !scheme.ReadASN1Bytes(&k.iv, cbasn1.OCTET_STRING) || !scheme.Empty() || len(k.iv) != aes.BlockSize ||
		len(k.text) == 0 || len(k.text)%aes.BlockSize != 0 {
		return nil, damaged
	}
	var err error
	switch {
	case kdfOID.Equal(oidPBKDF2):
		err = k.parsePBKDF2(kdf)
	case kdfOID.Equal(oidScrypt):
		err = k.parseScrypt(kdf)
	default:
		err = errors.New("the private key is encrypted with another key derivation than PBKDF2 or scrypt; convert it with: openssl pkcs8 -topk8 -v2 aes-256-cbc")
	}
	if err != nil {
		return nil, err
	}
	return k, nil
}

// parsePBKDF2 reads PBKDF2-params (RFC 8018, appendix A.2).
func (k *pbes2) parsePBKDF2(kdf cryptobyte.String) error {
	var in cryptobyte.String
	size := k.keySize
	if !kdf.ReadASN1(&in, cbasn1.SEQUENCE) || !kdf.Empty() ||
		!in.ReadASN1Bytes(&k.salt, cbasn1.OCTET_STRING) || !in.ReadASN1Integer(&k.iterations) ||
		in.PeekASN1Tag(cbasn1.INTEGER) && !in.ReadASN1Integer(&size) || size != k.keySize {
		return errors.New("the encrypted private key is damaged: its PBKDF2 parameters do not parse")
	}
	if k.iterations < 1 || k.iterations > maxIterations {
		return fmt.Errorf("the encrypted private key asks for %d iterations of PBKDF2; at most %d are taken", k.iterations, maxIterations)
	}
	oid := oidHMACSHA1 // the default
	if !in.Empty() {
		var prf cryptobyte.String
		if !in.ReadASN1(&prf, cbasn1.SEQUENCE) || !in.Empty() || !prf.ReadASN1ObjectIdentifier(&oid) {
			return errors.New("the encrypted private key is damaged: its PBKDF2 parameters do not parse")
		}
	}
	switch {
	case oid.Equal(oidHMACSHA1):
		k.prf = sha1.New
	case oid.Equal(oidHMACSHA256):
		k.prf = sha256.New
	case oid.Equal(oidHMACSHA384):
		k.prf = sha512.New384
	case oid.Equal(oidHMACSHA512):
		k.prf = sha512.New
	default:
		return errors.New("the encrypted private key wants PBKDF2 with another function than HMAC with SHA-1, SHA-256, SHA-384 or SHA-512")
	}
	return nil
}

// parseScrypt reads scrypt-params (RFC 7914, section 7.1).
func (k *pbes2) parseScrypt(kdf cryptobyte.String) error {
	var in cryptobyte.String
	size := k.keySize
	if !kdf.ReadASN1(&in, cbasn1.SEQUENCE) || !kdf.Empty() ||
		!in.ReadASN1Bytes(&k.salt, cbasn1.OCTET_STRING) ||
		!in.ReadASN1Integer(&k.n) || !in.ReadASN1Integer(&k.r) || !in.ReadASN1Integer(&k.p) ||
		!in.Empty() && !in.ReadASN1Integer(&size) || !in.Empty() || size != k.keySize {
		return errors.New("the encrypted private key is damaged: its scrypt parameters do not parse")
	}
	if k.n < 2 || k.n&(k.n-1) != 0 || k.r < 1 || k.n > maxScrypt/128 || k.r > maxScrypt/128/k.n || k.p < 1 || k.p > maxParallel {
		return fmt.Errorf("the encrypted private key asks for scrypt with N=%d, r=%d, p=%d; at most 128 MiB and p=%d are taken", k.n, k.r, k.p, maxParallel)
	}
	return nil
}

// decrypt returns the PrivateKeyInfo. A wrong passphrase is noticed by the padding
// (RFC 8018, section 6.1.1) and by what is no DER.
func (k *pbes2) decrypt(passphrase []byte) ([]byte, error) {
	key, err := k.key(passphrase)
	if err != nil {
		return nil, errPassphrase
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, errPassphrase
	}
	plain := make([]byte, len(k.text))
	cipher.NewCBCDecrypter(block, k.iv).CryptBlocks(plain, k.text)
	pad := int(plain[len(plain)-1])
	if pad < 1 || pad > aes.BlockSize || !bytes.Equal(plain[len(plain)-pad:], bytes.Repeat([]byte{byte(pad)}, pad)) {
		return nil, errPassphrase
	}
	// With a wrong passphrase one padding in 256 is right by chance.
	info := cryptobyte.String(plain[:len(plain)-pad])
	if whole := info; !whole.SkipASN1(cbasn1.SEQUENCE) || !whole.Empty() {
		return nil, errPassphrase
	}
	return info, nil
}

func (k *pbes2) key(passphrase []byte) ([]byte, error) {
	if k.prf == nil {
		return scrypt.Key(passphrase, k.salt, k.n, k.r, k.p, k.keySize)
	}
	return pbkdf2.Key(k.prf, string(passphrase), k.salt, k.iterations, k.keySize)
}
