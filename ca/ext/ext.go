// Package ext encodes and decodes the parts of a signing certificate that say who signed:
// the extensions below 1.3.6.1.4.1.57264.1 and the subject alternative name.
//
// # Extensions
//
// Values holds one string for each extension. An empty string means that the extension is
// absent. There are two encodings:
//
//	.1 to .6         the extension value is the bare bytes of the string, without an ASN.1 wrapper
//	.8, .9 to .24    the extension value is the DER of a UTF8String (tag 0x0c)
//
// The issuer is written twice, as .1 and as .8, and both always say the same. The number 7 is
// not an extension: it names the otherName form of the subject alternative name. All extensions
// are non-critical and stand in ascending order of their numbers.
//
// # Subject alternative name
//
// SAN is exactly one GeneralName (RFC 5280, section 4.2.1.6): an rfc822Name, a
// uniformResourceIdentifier, or an otherName with the type-id 1.3.6.1.4.1.57264.1.7 and a
// UTF8String. The extension is critical because the subject of these certificates is empty.
//
// # Guarantees
//
// Both directions are strict inverses. What Extensions writes, Parse reads back as the same
// Values, and a list of extensions that Parse accepts is, without the extensions of other arcs,
// the list that Extensions writes. The same holds for SAN. There is one spelling of a value, so
// that a comparison of parsed values is a comparison of the bytes in the certificate.
//
// The package is pure: no clock, no randomness, no input or output.
package ext

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// MaxValue is the largest length, in bytes, of one value and of one subject alternative name.
// It is far above what identity providers send and keeps a certificate in the order of kilobytes.
const MaxValue = 4096

// Values are the contents of the 1.3.6.1.4.1.57264.1 extensions of one certificate. All strings
// are UTF-8 of at most MaxValue bytes; an empty string means that the extension is absent. Only
// Issuer must be there.
type Values struct {
	// Issuer is who vouches for the identity: the issuer of the token. It is written as .1
	// (bare bytes, which older clients read) and as .8 (UTF8String).
	Issuer string

	GitHubWorkflowTrigger    string // .2, bare bytes: the event that started the workflow
	GitHubWorkflowSHA        string // .3, bare bytes: the commit, in hex
	GitHubWorkflowName       string // .4, bare bytes
	GitHubWorkflowRepository string // .5, bare bytes: owner/name
	GitHubWorkflowRef        string // .6, bare bytes: the git ref

	BuildSignerURI                      string // .9: the build instructions that were trusted to sign
	BuildSignerDigest                   string // .10: the version of BuildSignerURI, a commit in hex
	RunnerEnvironment                   string // .11: for example github-hosted or self-hosted
	SourceRepositoryURI                 string // .12
	SourceRepositoryDigest              string // .13: the commit that was built, in hex
	SourceRepositoryRef                 string // .14: the git ref that was built
	SourceRepositoryIdentifier          string // .15: survives a rename of the repository
	SourceRepositoryOwnerURI            string // .16
	SourceRepositoryOwnerIdentifier     string // .17: survives a rename of the owner
	BuildConfigURI                      string // .18: the top-level build instructions
	BuildConfigDigest                   string // .19: the version of BuildConfigURI, a commit in hex
	BuildTrigger                        string // .20: the event that started the build
	RunInvocationURI                    string // .21: this run
	SourceRepositoryVisibilityAtSigning string // .22: for example public or private
	DeploymentEnvironment               string // .23

	Subject string // .24: the "sub" claim of the token, as it was
}

// row ties one extension number to one field of Values.
type row struct {
	number int
	raw    bool // bare bytes instead of a UTF8String
	name   string
	key    string // in a configuration; empty for what no configuration sets
	field  *string
}

// rows returns the extensions in the order in which they stand in a certificate, pointing into v.
// It is the only place that knows the numbers.
func (v *Values) rows() []row {
	return []row{
		{1, true, "issuer", "", &v.Issuer},
		{2, true, "GitHub workflow trigger", "github-workflow-trigger", &v.GitHubWorkflowTrigger},
		{3, true, "GitHub workflow SHA", "github-workflow-sha", &v.GitHubWorkflowSHA},
		{4, true, "GitHub workflow name", "github-workflow-name", &v.GitHubWorkflowName},
		{5, true, "GitHub workflow repository", "github-workflow-repository", &v.GitHubWorkflowRepository},
		{6, true, "GitHub workflow ref", "github-workflow-ref", &v.GitHubWorkflowRef},
		{8, false, "issuer", "", &v.Issuer},
		{9, false, "build signer URI", "build-signer-uri", &v.BuildSignerURI},
		{10, false, "build signer digest", "build-signer-digest", &v.BuildSignerDigest},
		{11, false, "runner environment", "runner-environment", &v.RunnerEnvironment},
		{12, false, "source repository URI", "source-repository-uri", &v.SourceRepositoryURI},
		{13, false, "source repository digest", "source-repository-digest", &v.SourceRepositoryDigest},
		{14, false, "source repository ref", "source-repository-ref", &v.SourceRepositoryRef},
		{15, false, "source repository identifier", "source-repository-identifier", &v.SourceRepositoryIdentifier},
		{16, false, "source repository owner URI", "source-repository-owner-uri", &v.SourceRepositoryOwnerURI},
		{17, false, "source repository owner identifier", "source-repository-owner-identifier", &v.SourceRepositoryOwnerIdentifier},
		{18, false, "build config URI", "build-config-uri", &v.BuildConfigURI},
		{19, false, "build config digest", "build-config-digest", &v.BuildConfigDigest},
		{20, false, "build trigger", "build-trigger", &v.BuildTrigger},
		{21, false, "run invocation URI", "run-invocation-uri", &v.RunInvocationURI},
		{22, false, "source repository visibility at signing", "source-repository-visibility-at-signing", &v.SourceRepositoryVisibilityAtSigning},
		{23, false, "deployment environment", "deployment-environment", &v.DeploymentEnvironment},
		{24, false, "token subject", "", &v.Subject},
	}
}

// Field returns where the value with a key of Fulcio's configuration stands, for example
// "build-signer-uri", and whether there is one. Issuer and Subject have no key: they are always
// those of the token.
func (v *Values) Field(key string) (*string, bool) {
	for _, r := range v.rows() {
		if key != "" && r.key == key {
			return r.field, true
		}
	}
	return nil, false
}

// Keys are all keys that Field knows, in the order of the extensions.
func Keys() []string {
	var keys []string
	for _, r := range new(Values).rows() {
		if r.key != "" {
			keys = append(keys, r.key)
		}
	}
	return keys
}

// arc is 1.3.6.1.4.1.57264.1 followed by number.
func arc(number int) asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, number}
}

// inArc reports whether id is 1.3.6.1.4.1.57264.1 or lies below it.
func inArc(id asn1.ObjectIdentifier) bool {
	prefix := arc(0)[:8]
	return len(id) >= len(prefix) && id[:len(prefix)].Equal(prefix)
}

// Extensions encodes v in ascending order of the extension numbers, which is the order in which
// a certificate carries them: .1 to .6, .8, .9 to .24. Empty values are left out. It is an error
// if the issuer is missing, if a value is not UTF-8, or if one is longer than MaxValue bytes.
func (v Values) Extensions() ([]pkix.Extension, error) {
	if v.Issuer == "" {
		return nil, errors.New("issuer is missing: every certificate names the issuer of the identity")
	}
	rows := v.rows()
	list := make([]pkix.Extension, 0, len(rows))
	for _, r := range rows {
		if *r.field == "" {
			continue
		}
		if err := check(*r.field); err != nil {
			return nil, fmt.Errorf("%s (.%d): %w", r.name, r.number, err)
		}
		value := []byte(*r.field)
		if !r.raw {
			var err error
			if value, err = utf8String(*r.field); err != nil {
				return nil, fmt.Errorf("%s (.%d): %w", r.name, r.number, err)
			}
		}
		list = append(list, pkix.Extension{Id: arc(r.number), Value: value})
	}
	return list, nil
}

// Parse reads the extensions of this arc from all the extensions of a certificate and leaves the
// extensions of other arcs alone. It refuses what Extensions would not have written: an unknown
// number, a duplicate, another order, a critical extension, an empty, overlong or wrongly encoded
// value, a missing issuer, and an issuer whose two spellings (.1 and .8) differ.
func Parse(extensions []pkix.Extension) (Values, error) {
	var v Values
	rows := v.rows()
	next := 0 // the first row that may still follow
	seen := make([]bool, len(rows))
	for _, e := range extensions {
		if !inArc(e.Id) {
			continue
		}
		at := -1
		for i := range rows {
			if e.Id.Equal(arc(rows[i].number)) {
				at = i
			}
		}
		switch {
		case at < 0:
			return Values{}, fmt.Errorf("extension %s is not known in this arc", oidString(e.Id))
		case seen[at]:
			return Values{}, fmt.Errorf("%s (.%d): the extension stands twice", rows[at].name, rows[at].number)
		case at < next:
			return Values{}, fmt.Errorf("%s (.%d): the extension stands after a higher number, ascending order is required", rows[at].name, rows[at].number)
		case e.Critical:
			return Values{}, fmt.Errorf("%s (.%d): the extension is critical, it must not be", rows[at].name, rows[at].number)
		}
		r := rows[at]
		seen[at], next = true, at+1
		value, err := decode(e.Value, r.raw)
		if err != nil {
			return Values{}, fmt.Errorf("%s (.%d): %w", r.name, r.number, err)
		}
		if *r.field != "" && *r.field != value { // only the issuer has two rows
			return Values{}, fmt.Errorf("%s: .1 and .8 differ, they must say the same", r.name)
		}
		*r.field = value
	}
	for i, r := range rows {
		if r.field == &v.Issuer && !seen[i] {
			return Values{}, fmt.Errorf("%s (.%d): the extension is missing", r.name, r.number)
		}
	}
	return v, nil
}

// decode reads one extension value, which is the bare bytes or the DER of a UTF8String.
func decode(value []byte, raw bool) (string, error) {
	if !raw {
		der, inner := cryptobyte.String(value), cryptobyte.String(nil)
		if !der.ReadASN1(&inner, cbasn1.UTF8String) || !der.Empty() {
			return "", errors.New("the value is not the DER of one UTF8String")
		}
		value = inner
	}
	if len(value) > MaxValue { // before the copy
		return "", errTooLong
	}
	s := string(value)
	return s, check(s)
}

var (
	errTooLong = fmt.Errorf("the value is longer than %d bytes", MaxValue)
	errEmpty   = errors.New("the value is empty")
	errUTF8    = errors.New("the value is not valid UTF-8")
)

// check holds the rules that all values share.
func check(value string) error {
	switch {
	case value == "":
		return errEmpty
	case len(value) > MaxValue:
		return errTooLong
	case !utf8.ValidString(value):
		return errUTF8
	}
	return nil
}

// utf8String returns the DER of s as a UTF8String.
func utf8String(s string) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes([]byte(s)) })
	return b.Bytes()
}

// oidString is id in dotted form, cut short: an object identifier in a hostile certificate can
// have thousands of components.
func oidString(id asn1.ObjectIdentifier) string {
	const most = 16
	if len(id) > most {
		return id[:most].String() + "..."
	}
	return id.String()
}
