package ca

import (
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"testing"

	"github.com/sigstack/sigstack/ca/catest"
)

// TestCSRBound sends certificate requests that are good and large.
func TestCSRBound(t *testing.T) {
	key := catest.ECDSA(t, elliptic.P256())
	csr := func(names int) []byte {
		t.Helper()
		template := &x509.CertificateRequest{}
		for n := range names {
			template.DNSNames = append(template.DNSNames, fmt.Sprintf("name-%06d.example.com", n))
		}
		der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
		if err != nil {
			t.Fatal(err)
		}
		return pemOf("CERTIFICATE REQUEST", der)
	}
	few, many := csr(900), csr(1000)
	if len(few) > maxCSR || len(many) <= maxCSR {
		t.Fatalf("%d and %d bytes, want them on both sides of %d", len(few), len(many), maxCSR)
	}
	if _, err := ParseCSR(few); err != nil {
		t.Errorf("%d bytes: %v", len(few), err)
	}
	_, err := ParseCSR(many)
	wantRefused(t, "a large request", err, msgCSRUnparsable)
}

// TestSerialBits looks at 158 bits of 64 serial numbers: each is 0 in some and
// 1 in others.
func TestSerialBits(t *testing.T) {
	const numbers = 64
	var ones [160]int
	for range numbers {
		n, err := newSerial(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		for i := range ones {
			ones[i] += int(n.Bit(i))
		}
	}
	for i, n := range ones[:158] {
		if n == 0 || n == numbers {
			t.Errorf("bit %d is %d in %d of %d serial numbers", i, min(n, 1), numbers, numbers)
		}
	}
}
