package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
)

// This file says which public keys may be in a certificate. The same rules hold
// for the keys of requests, of the chain and of the CT log.

// checkKey refuses keys of a kind that clients do not know, keys that are known to
// be weak, and keys whose private half is published.
func checkKey(key crypto.PublicKey) error {
	if err := checkStrength(key); err != nil {
		return err
	}
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return err
	}
	if source := sharedKey(sha256.Sum256(spki)); source != "" {
		return fmt.Errorf("its private key is published: %s", source)
	}
	return nil
}

func checkStrength(key crypto.PublicKey) error {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return checkRSA(k)
	case *ecdsa.PublicKey:
		switch name := curveName(k); name {
		case "P-256", "P-384", "P-521":
		default:
			return fmt.Errorf("ECDSA on the curve %q: P-256, P-384 or P-521 is needed", name)
		}
		// ECDH makes the standard library check that the point is on the curve
		// and not at infinity.
		if _, err := k.ECDH(); err != nil {
			return fmt.Errorf("ECDSA: %w", err)
		}
		return nil
	case ed25519.PublicKey:
		return checkEd25519(k)
	}
	return fmt.Errorf("keys of type %T are not accepted: RSA, ECDSA or Ed25519 is needed", key)
}

// checkRSA asks for what boulder, the CA of Let's Encrypt, asks for.
func checkRSA(k *rsa.PublicKey) error {
	if k.N == nil || k.N.Sign() <= 0 {
		return errors.New("RSA: no modulus")
	}
	switch bits := k.N.BitLen(); bits {
	case 2048, 3072, 4096:
	default:
		return fmt.Errorf("RSA of %d bits: 2048, 3072 or 4096 are needed", bits)
	}
	if k.E != 65537 {
		return fmt.Errorf("RSA with exponent %d: 65537 is needed", k.E)
	}
	if p := smallFactor(k.N); p != 0 {
		return fmt.Errorf("RSA: the modulus is divisible by %d", p)
	}
	if roca(k.N) {
		return errors.New("RSA: the modulus has the fingerprint of ROCA (CVE-2017-15361)")
	}
	if fermat(k.N, 100) {
		return errors.New("RSA: the primes are too close to each other")
	}
	return nil
}

// smallPrimes are the primes below limit.
func smallPrimes(limit int) []int {
	composite := make([]bool, limit)
	var primes []int
	for p := 2; p < limit; p++ {
		if composite[p] {
			continue
		}
		primes = append(primes, p)
		for m := p * p; m < limit; m += p {
			composite[m] = true
		}
	}
	return primes
}

// smallFactor returns a prime below 752 that divides n, or 0.
func smallFactor(n *big.Int) int {
	const limit = 752
	var r, m big.Int
	for _, p := range smallPrimes(limit) {
		if r.Mod(n, m.SetInt64(int64(p))).Sign() == 0 {
			return p
		}
	}
	return 0
}

// roca tells keys of the Infineon library that CVE-2017-15361 is about. Their
// primes are k*M + (65537^a mod M), where M is a product of the first primes. So
// modulo each of those primes, the modulus is a power of 65537; of other moduli
// fewer than one in a hundred million are, modulo all of 3 to 167.
func roca(n *big.Int) bool {
	var r, m big.Int
	for _, p := range smallPrimes(168)[1:] {
		rest := int(r.Mod(n, m.SetInt64(int64(p))).Int64())
		power, found := 1, rest == 1
		for power = power * 65537 % p; power != 1 && !found; power = power * 65537 % p {
			found = power == rest
		}
		if !found {
			return false
		}
	}
	return true
}

// fermat tries to write the odd n as a difference of squares, which succeeds
// within the given rounds when its two factors are close (CVE-2022-26320).
func fermat(n *big.Int, rounds int) bool {
	a := new(big.Int).Sqrt(n)
	one := big.NewInt(1)
	if new(big.Int).Mul(a, a).Cmp(n) < 0 {
		a.Add(a, one)
	}
	b := new(big.Int)
	for range rounds {
		b.Mul(a, a)
		b.Sub(b, n)
		if isSquare(b) {
			return true
		}
		a.Add(a, one)
	}
	return false
}

// isSquare reports whether n, at least 0, is a perfect square. A square root
// costs far more than a remainder, and only one in some 85 numbers is a square
// modulo 64, 63, 65 and 11.
func isSquare(n *big.Int) bool {
	var r big.Int
	rest := r.Mod(n, big.NewInt(64*63*65*11)).Int64()
	for _, m := range []int64{64, 63, 65, 11} {
		if !isResidue(rest%m, m) {
			return false
		}
	}
	root := new(big.Int).Sqrt(n)
	return root.Mul(root, root).Cmp(n) == 0
}

func isResidue(n, modulus int64) bool {
	for i := range modulus/2 + 1 {
		if i*i%modulus == n {
			return true
		}
	}
	return false
}

// checkEd25519 refuses the points of small order: for those, signatures that
// verify can be made without any private key.
func checkEd25519(k ed25519.PublicKey) error {
	if len(k) != ed25519.PublicKeySize {
		return fmt.Errorf("Ed25519 key of %d bytes: %d are needed", len(k), ed25519.PublicKeySize)
	}
	y := bytes.Clone(k)
	y[31] &= 0x7f // the sign of x
	// The y coordinates, little-endian: 0, 1, two of order 8, -1, and 0 and 1
	// written as p and p+1.
	for _, small := range []string{
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000000",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	} {
		if hex.EncodeToString(y) == small {
			return errors.New("Ed25519: a point of small order")
		}
	}
	return nil
}
