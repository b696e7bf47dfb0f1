package keys

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// A tokenKey is what a PKCS #11 URI (RFC 7512) says: which key of which token, by
// which module, and in which file the PIN is.
type tokenKey struct {
	token, serial string // one of them, or both
	object        string // CKA_LABEL
	id            []byte // CKA_ID
	slot          *uint
	module        string // file of the module
	pin           string // file with the PIN
}

const pkcs11Form = "pkcs11:token=LABEL;object=LABEL?module-path=/path/module.so&pin-source=file:/path/pin"

// parsePKCS11 reads a PKCS #11 URI. It takes the attributes that find a key, and
// refuses the others: an attribute that is passed over might have been what tells
// two keys apart.
func parsePKCS11(uri string) (*tokenKey, error) {
	rest, ok := strings.CutPrefix(uri, "pkcs11:")
	if !ok || strings.HasPrefix(rest, "//") {
		return nil, errors.New("want " + pkcs11Form)
	}
	path, query, _ := strings.Cut(rest, "?")
	k := &tokenKey{}
	seen := map[string]bool{}
	each := func(text, separator string, take func(name, value string) error) error {
		for part := range strings.SplitSeq(text, separator) {
			if part == "" {
				continue
			}
			name, raw, _ := strings.Cut(part, "=")
			value, err := url.PathUnescape(raw)
			if err != nil || value == "" || strings.ContainsRune(value, 0) && name != "id" {
				return errors.New("an attribute of the pkcs11: URI is empty or not percent-encoded as it should be")
			}
			if seen[name] {
				return errors.New("an attribute of the pkcs11: URI stands twice")
			}
			seen[name] = true
			if err := take(name, value); err != nil {
				return err
			}
		}
		return nil
	}
	if err := each(path, ";", k.takePath); err != nil {
		return nil, err
	}
	if err := each(query, "&", k.takeQuery); err != nil {
		return nil, err
	}
	switch {
	case k.token == "" && k.serial == "" && k.slot == nil:
		return nil, errors.New("the pkcs11: URI names no token; want token=LABEL, serial=NUMBER or slot-id=NUMBER")
	case k.object == "" && k.id == nil:
		return nil, errors.New("the pkcs11: URI names no key; want object=LABEL or id=%01%02")
	case k.module == "":
		return nil, errors.New("the pkcs11: URI names no module; want ?module-path=/path/module.so")
	case k.pin == "":
		return nil, errors.New("the pkcs11: URI names no PIN; want pin-source=file:/path/pin, a file of mode 0600")
	}
	return k, nil
}

func (k *tokenKey) takePath(name, value string) error {
	switch name {
	case "token":
		k.token = value
	case "serial":
		k.serial = value
	case "object":
		k.object = value
	case "id":
		k.id = []byte(value)
	case "slot-id":
		n, err := strconv.ParseUint(value, 10, 32)
		if err != nil {
			return errors.New("slot-id of the pkcs11: URI is not a number")
		}
		slot := uint(n)
		k.slot = &slot
	case "type":
		if value != "private" {
			return errors.New("type of the pkcs11: URI is not private; leave it away")
		}
	default:
		return fmt.Errorf("the pkcs11: URI has the attribute %s; want token, serial, slot-id, object or id", nameOf(name))
	}
	return nil
}

func (k *tokenKey) takeQuery(name, value string) error {
	switch name {
	case "module-path":
		if !strings.HasPrefix(value, "/") {
			return errors.New("module-path of the pkcs11: URI is not an absolute path")
		}
		k.module = value
	case "pin-source":
		path, err := filePath(strings.TrimPrefix(value, "file:"))
		if err != nil || strings.HasPrefix(value, "|") || !strings.HasPrefix(path, "/") {
			return errors.New("pin-source of the pkcs11: URI is not file: and an absolute path")
		}
		k.pin = path
	case "pin-value":
		return errors.New("the pkcs11: URI holds a PIN, and URIs are seen in configurations and logs; write the PIN to a file of mode 0600 and name that: pin-source=file:/path/pin")
	default:
		return fmt.Errorf("the pkcs11: URI has the attribute %s; want module-path and pin-source", nameOf(name))
	}
	return nil
}

// nameOf is the name of an attribute in an error, if it is one.
func nameOf(name string) string {
	if plainScheme(name) {
		return strconv.Quote(name)
	}
	return "?"
}
