package keystore

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// What an AWS demands, and what it calls its key.
const (
	AWSKeyID     = "1234abcd-12ab-34cd-56ef-1234567890ab"
	AWSAccessKey = "AKIAPLANTEDACCESSKEY"
	AWSSecretKey = "planted/secret+key/of/aws/0123456789abcdef"
	AWSToken     = "planted-session-token-of-aws-0123456789"
)

// NewAWS starts an AWS KMS with one key, which signs, and decrypts whatever is
// its plaintext and "encrypted:" before it.
func NewAWS(t testing.TB, key crypto.Signer) *Store {
	t.Helper()
	s := newStore(t, one(key), serveHTTP(nil, awsTrouble, awsRequest))
	s.URL = "http://" + s.addr
	return s
}

const awsMedia = "application/x-amz-json-1.1"

// awsTrouble quotes what the request was signed with, as AWS does where it finds
// another signature.
func awsTrouble(_ *Store, w http.ResponseWriter, status int) {
	kind := "KMSInternalException"
	if status == http.StatusTooManyRequests {
		kind, status = "ThrottlingException", http.StatusBadRequest
	}
	w.Header().Set("X-Amzn-Errortype", kind)
	answer(w, status, awsMedia, map[string]string{"__type": kind, "message": "trouble\nwith x-amz-security-token:" + AWSToken})
}

func awsRequest(s *Store, w http.ResponseWriter, r *http.Request) {
	if !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential="+AWSAccessKey+"/") || r.Header.Get("X-Amz-Security-Token") != AWSToken {
		answer(w, http.StatusBadRequest, awsMedia, map[string]string{"__type": "UnrecognizedClientException", "message": "the security token is invalid"})
		return
	}
	var request struct {
		KeyID            string `json:"KeyId"`
		Message          []byte
		MessageType      string
		SigningAlgorithm string
		CiphertextBlob   []byte
	}
	if err := s.read(r, &request); err != nil || !strings.HasSuffix(request.KeyID, AWSKeyID) || r.Method != http.MethodPost {
		s.strange(w, "AWS does not understand %s %+v (%v)", r.Method, request, err)
		return
	}
	algorithms := []string{"RSASSA_PKCS1_V1_5_SHA_256", "RSASSA_PKCS1_V1_5_SHA_384", "RSASSA_PSS_SHA_256"}
	spec := "RSA_2048"
	if k, ok := s.keys[only].Public().(*ecdsa.PublicKey); ok {
		bits := strconv.Itoa(k.Params().BitSize)
		algorithms, spec = []string{"ECDSA_SHA_" + bits}, "ECC_NIST_P"+bits
	}
	switch target := r.Header.Get("X-Amz-Target"); target {
	case "TrentService.GetPublicKey":
		der, err := x509.MarshalPKIXPublicKey(s.keys[only].Public())
		if err != nil {
			s.strange(w, "%v", err)
			return
		}
		answer(w, http.StatusOK, awsMedia, map[string]any{"KeyId": request.KeyID, "PublicKey": der, "KeySpec": spec, "KeyUsage": "SIGN_VERIFY", "SigningAlgorithms": algorithms})
	case "TrentService.DescribeKey":
		answer(w, http.StatusOK, awsMedia, map[string]any{"KeyMetadata": map[string]any{
			"KeyId": AWSKeyID, "Enabled": true, "KeyState": "Enabled", "KeyUsage": "SIGN_VERIFY", "KeySpec": spec, "SigningAlgorithms": algorithms,
		}})
	case "TrentService.Sign":
		hash, err := hashOf(request.Message)
		if err != nil || request.MessageType != "DIGEST" || request.SigningAlgorithm != algorithms[0] {
			s.strange(w, "AWS does not understand %+v (%v)", request, err)
			return
		}
		answer(w, http.StatusOK, awsMedia, map[string]any{"KeyId": request.KeyID, "Signature": s.sign(only, request.Message, hash), "SigningAlgorithm": request.SigningAlgorithm})
	case "TrentService.Decrypt":
		plain, ok := strings.CutPrefix(string(request.CiphertextBlob), "encrypted:")
		if !ok {
			answer(w, http.StatusBadRequest, awsMedia, map[string]string{"__type": "InvalidCiphertextException"})
			return
		}
		answer(w, http.StatusOK, awsMedia, map[string]any{"KeyId": request.KeyID, "Plaintext": []byte(plain), "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"})
	default:
		s.strange(w, "AWS KMS has no %s", target)
	}
}
