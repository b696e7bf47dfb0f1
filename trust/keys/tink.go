package keys

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"regexp"
	"strings"

	gcpkms "cloud.google.com/go/kms/apiv1"
	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/aws/aws-sdk-go-v2/config"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	sigtink "github.com/sigstore/sigstore/pkg/signature/tink"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"google.golang.org/api/option"
)

// What a key that encrypts keysets is called, as Tink has it.
var (
	awsKEK = regexp.MustCompile(`^aws-kms://(arn:(?:aws|aws-us-gov|aws-cn):kms:([a-z0-9-]+):\d{12}:(?:key|alias)/\S+)$`)
	gcpKEK = regexp.MustCompile(`^gcp-kms://(projects/[^/\s]+/locations/[^/\s]+/keyRings/[^/\s]+/cryptoKeys/[^/\s]+)$`)
)

// splitTink takes "tink:PATH?kek=URI" apart.
func splitTink(uri string) (path, kek string, err error) {
	path, kek, ok := strings.Cut(strings.TrimPrefix(uri, "tink:"), "?kek=")
	if !ok || !awsKEK.MatchString(kek) && !gcpKEK.MatchString(kek) {
		return "", "", errors.New("a tink: URI names the key that encrypts its keyset; write tink:/path/keyset.json?kek=aws-kms://ARN or ?kek=gcp-kms://projects/P/locations/L/keyRings/R/cryptoKeys/K")
	}
	if path, err = filePath(path); err != nil {
		return "", "", errors.New("the tink: URI names no file; write tink:/path/keyset.json?kek=URI")
	}
	return path, kek, nil
}

// openTink reads an encrypted Tink keyset, as JSON, and has it decrypted by the
// key service that encrypted it. Its primary key then signs in this process. The
// options of the client are for tests.
func openTink(ctx context.Context, uri string, o Options, client ...option.ClientOption) (crypto.Signer, error) {
	path, kek, err := splitTink(uri)
	if err != nil {
		return nil, err
	}
	data, err := ReadFile(path)
	if err != nil {
		return nil, err
	}
	signer, err := within(ctx, func() (crypto.Signer, error) {
		by := decrypter(func(ctx context.Context, text, about []byte) ([]byte, error) {
			return decryptAWS(ctx, kek, text, about)
		})
		if gcpKEK.MatchString(kek) {
			by = func(ctx context.Context, text, about []byte) ([]byte, error) {
				return decryptGCP(ctx, kek, text, about, client)
			}
		}
		return parseTink(ctx, data, by)
	})
	if err != nil {
		return nil, fmt.Errorf("the keyset %s: %w", path, o.plain(err))
	}
	return signer, nil
}

// parseTink reads a keyset whose key is decrypted by by.
func parseTink(ctx context.Context, data []byte, by decrypter) (crypto.Signer, error) {
	handle, err := keyset.ReadWithContext(ctx, keyset.NewJSONReader(bytes.NewReader(data)), by, nil)
	if err != nil {
		return nil, err
	}
	key, err := sigtink.KeyHandleToSigner(handle)
	if err != nil {
		return nil, err
	}
	if describe(key.Public()) == "unsupported" {
		return nil, fmt.Errorf("unsupported kind of key; want %s, %s or %s", P256, P384, Ed25519)
	}
	return key, nil
}

// A decrypter asks a key service to decrypt. It is Tink's AEADWithContext, of
// which a server needs one direction.
type decrypter func(ctx context.Context, text, about []byte) ([]byte, error)

func (d decrypter) DecryptWithContext(ctx context.Context, text, about []byte) ([]byte, error) {
	return d(ctx, text, about)
}

func (decrypter) EncryptWithContext(context.Context, []byte, []byte) ([]byte, error) {
	return nil, errors.New("keysets are only decrypted here")
}

// decryptAWS asks the region that the ARN names. Keysets have no associated data.
func decryptAWS(ctx context.Context, kek string, text, _ []byte) ([]byte, error) {
	parts := awsKEK.FindStringSubmatch(kek)
	c, err := config.LoadDefaultConfig(ctx, config.WithRegion(parts[2]))
	if err != nil {
		return nil, err
	}
	out, err := awskms.NewFromConfig(c).Decrypt(ctx, &awskms.DecryptInput{KeyId: &parts[1], CiphertextBlob: text})
	if err != nil {
		return nil, err
	}
	return out.Plaintext, nil
}

func decryptGCP(ctx context.Context, kek string, text, about []byte, client []option.ClientOption) ([]byte, error) {
	c, err := gcpkms.NewKeyManagementClient(ctx, client...)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	out, err := c.Decrypt(ctx, &kmspb.DecryptRequest{Name: gcpKEK.FindStringSubmatch(kek)[1], Ciphertext: text, AdditionalAuthenticatedData: about})
	if err != nil {
		return nil, err
	}
	return out.Plaintext, nil
}
