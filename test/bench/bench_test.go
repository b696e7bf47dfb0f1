// Package bench measures the real binary over HTTP: latency as one client sees
// it, with everything on the disk and proven when the answer arrives.
//
//	go test -run '^$' -bench . -benchtime 5s ./test/bench
package bench

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sigstack/sigstack/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// BenchmarkStart starts the server on an empty directory, keys and trust root
// included, until it is ready, and reports the memory that it then holds.
func BenchmarkStart(b *testing.B) {
	var rss float64
	for b.Loop() {
		s := harness.Start(b)
		resp, err := http.Get(s.Ops + "/metrics")
		if err != nil {
			b.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			b.Fatal(err)
		}
		_, value, _ := strings.Cut(string(text), "\nprocess_resident_memory_bytes ")
		value, _, _ = strings.Cut(value, "\n")
		if rss, err = strconv.ParseFloat(value, 64); err != nil {
			b.Fatal(err)
		}
		s.Stop()
	}
	b.ReportMetric(rss/1e6, "RSS-MB")
}

// BenchmarkEntry uploads hashedrekord entries, each new, one after the other.
// The key pair and the signatures are made outside of the measured time.
func BenchmarkEntry(b *testing.B) {
	s := harness.Start(b)
	key, pub := newKey(b)
	measure(b, func() (string, []byte) {
		digest := make([]byte, sha256.Size)
		rand.Read(digest)
		sig, err := ecdsa.SignASN1(rand.Reader, key, digest)
		if err != nil {
			b.Fatal(err)
		}
		return s.URL + "/api/v1/log/entries", marshal(b, map[string]any{
			"kind": "hashedrekord", "apiVersion": "0.0.1",
			"spec": map[string]any{
				"data":      map[string]any{"hash": map[string]any{"algorithm": "sha256", "value": fmt.Sprintf("%x", digest)}},
				"signature": map[string]any{"content": sig, "publicKey": map[string]any{"content": pub}},
			},
		})
	}, http.StatusCreated, "inclusionProof")
}

// BenchmarkCertificate requests certificates, with a new key each time, from
// an intermediate on each curve.
func BenchmarkCertificate(b *testing.B) {
	for _, curve := range []string{"p384", "p256"} {
		b.Run(curve, func(b *testing.B) {
			config := b.TempDir() + "/sigstack.yaml"
			if err := os.WriteFile(config, []byte("ca: {key-type: "+curve+"}\n"), 0o600); err != nil {
				b.Fatal(err)
			}
			s := harness.Start(b, "--config", config)
			token := mint(b, s.URL, "bench@example.com")
			measure(b, func() (string, []byte) {
				key, pub := newKey(b)
				subject := sha256.Sum256([]byte("bench@example.com"))
				proof, err := ecdsa.SignASN1(rand.Reader, key, subject[:])
				if err != nil {
					b.Fatal(err)
				}
				return s.URL + "/api/v2/signingCert", marshal(b, map[string]any{
					"credentials": map[string]any{"oidcIdentityToken": token},
					"publicKeyRequest": map[string]any{
						"publicKey":         map[string]any{"algorithm": "ECDSA", "content": string(pub)},
						"proofOfPossession": base64.StdEncoding.EncodeToString(proof),
					},
				})
			}, http.StatusOK, "signedCertificateEmbeddedSct")
		})
	}
}

// measure posts what next returns, one request after the other, and reports
// the median and the 99th percentile of the time from sending to having read
// the answer.
func measure(b *testing.B, next func() (url string, body []byte), status int, want string) {
	client := &http.Client{Timeout: 10 * time.Second}
	var url string
	bodies := make([][]byte, b.N)
	for i := range bodies {
		url, bodies[i] = next()
	}
	took := make([]time.Duration, 0, b.N)
	b.ResetTimer()
	for _, body := range bodies {
		start := time.Now()
		resp, err := client.Post(url, "application/json", bytes.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		answer, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		took = append(took, time.Since(start))
		if err != nil || resp.StatusCode != status || !bytes.Contains(answer, []byte(want)) {
			b.Fatalf("%s: %s (%v)", resp.Status, answer, err)
		}
	}
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
}

func newKey(b *testing.B) (*ecdsa.PrivateKey, []byte) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		b.Fatal(err)
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})
}

func mint(b *testing.B, base, email string) string {
	form := url.Values{"email": {email}}
	req, err := http.NewRequest(http.MethodPost, base+"/oidc/mint", strings.NewReader(form.Encode()))
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("X-Sigstack-Dev", "1")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	token, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		b.Fatalf("%s: %s (%v)", resp.Status, token, err)
	}
	return string(token)
}

func marshal(b *testing.B, v any) []byte {
	body, err := json.Marshal(v)
	if err != nil {
		b.Fatal(err)
	}
	return body
}
