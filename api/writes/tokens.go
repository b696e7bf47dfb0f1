package writes

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// A Token lets whoever knows it write. It is known here by its SHA-256 only.
type Token struct {
	Name   string // for the log
	Digest [sha256.Size]byte
}

// What a file of tokens may have.
const (
	MaxTokens    = 500
	MaxTokenFile = 64 << 10 // bytes
	maxTokenName = 64       // bytes
)

// tokenPrefix tells scanners that look for secrets what they have found.
const tokenPrefix = "sigstack-write-"

// NewToken makes a token of 256 random bits, and the line of it for the file.
func NewToken(name string) (token, line string, err error) {
	if !plainName(name) {
		return "", "", badName(name)
	}
	var b [32]byte
	rand.Read(b[:])
	token = tokenPrefix + base64.RawURLEncoding.EncodeToString(b[:])
	digest := sha256.Sum256([]byte(token))
	return token, name + " " + hex.EncodeToString(digest[:]), nil
}

// ParseTokens reads a file of tokens: on each line a name, and the SHA-256 of a token in hexadecimal. What
// follows a # is a comment. Two tokens may have one name, while one takes the place of the other.
func ParseTokens(text []byte) ([]Token, error) {
	var tokens []Token
	seen := map[[sha256.Size]byte]int{}
	n := 0
	for line := range bytes.Lines(text) {
		n++
		line, _, _ = bytes.Cut(line, []byte("#"))
		fields := bytes.Fields(line)
		if len(fields) == 0 {
			continue
		}
		// The errors repeat nothing of the line: it may be a token by mistake.
		if len(fields) != 2 {
			return nil, fmt.Errorf("line %d has %d words; a name and the SHA-256 of a token are required, as sigstack write-token prints them", n, len(fields))
		}
		if !plainName(string(fields[0])) {
			return nil, fmt.Errorf("line %d: %w", n, badName(""))
		}
		t := Token{Name: string(fields[0])}
		if len(fields[1]) != hex.EncodedLen(len(t.Digest)) {
			return nil, fmt.Errorf("line %d: the second word has %d characters; the SHA-256 of a token in hexadecimal has %d", n, len(fields[1]), hex.EncodedLen(len(t.Digest)))
		}
		if _, err := hex.Decode(t.Digest[:], fields[1]); err != nil {
			return nil, fmt.Errorf("line %d: the second word is not hexadecimal", n)
		}
		switch {
		case seen[t.Digest] > 0:
			return nil, fmt.Errorf("line %d is the token of line %d; a token has one name", n, seen[t.Digest])
		case len(tokens) == MaxTokens:
			return nil, fmt.Errorf("line %d: there are more than %d tokens", n, MaxTokens)
		}
		seen[t.Digest] = n
		tokens = append(tokens, t)
	}
	return tokens, nil
}

// plainName is what can stand in a log without quotes.
func plainName(s string) bool {
	return s != "" && len(s) <= maxTokenName && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == ""
}

func badName(name string) error {
	text := fmt.Sprintf("1 to %d letters, digits and any of - _ . are a name", maxTokenName)
	if name != "" {
		text = fmt.Sprintf("%.80q is not a name; %s", name, text)
	}
	return errors.New(text)
}
