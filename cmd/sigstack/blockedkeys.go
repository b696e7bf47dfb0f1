package main

import (
	"bytes"
	"crypto"
	"encoding/hex"
	"fmt"
	"io"
	"os"
)

// maxBlockedKeys bounds the file of ca.blocked-keys, in bytes: a million keys.
const maxBlockedKeys = 64 << 20

// readBlockedKeys returns the text of the file of ca.blocked-keys, none without one.
func readBlockedKeys(c *Config) ([]byte, error) {
	if c.CA.BlockedKeys == "" {
		return nil, nil
	}
	text, err := readAtMost(c.CA.BlockedKeys, maxBlockedKeys)
	if err != nil {
		return nil, fmt.Errorf("ca.blocked-keys: %s: %w", c.CA.BlockedKeys, err)
	}
	return text, nil
}

// blockedKeys are the keys that no certificate is issued for, with the reason:
// those of a file, and those that this server uses for something else.
func blockedKeys(c *Config, text []byte, k *keyring, log []crypto.Signer) (map[[32]byte]string, error) {
	blocked := map[[32]byte]string{}
	if err := parseBlockedKeys(text, blocked); err != nil {
		return nil, fmt.Errorf("ca.blocked-keys: %s: %w", c.CA.BlockedKeys, err)
	}
	own := map[string]crypto.Signer{
		"of the TUF root": k.tuf.Root, "of the TUF targets": k.tuf.Targets,
		"of the TUF snapshot": k.tuf.Snapshot, "of the TUF timestamp": k.tuf.Timestamp, "of the development issuer": k.issuer,
	}
	for i, signer := range log {
		own[fmt.Sprintf("of the transparency log's tree %d", i+1)] = signer
	}
	for name, signer := range own {
		if signer == nil {
			continue
		}
		id, err := keyID(signer.Public())
		if err != nil {
			return nil, err
		}
		blocked[id] = "it is that " + name
	}
	return blocked, nil
}

// parseBlockedKeys reads the SHA-256 of a SubjectPublicKeyInfo in hexadecimal from
// each line, as openssl prints it. What follows a # is a comment.
func parseBlockedKeys(text []byte, into map[[32]byte]string) error {
	n := 0
	for line := range bytes.Lines(text) {
		n++
		line, _, _ = bytes.Cut(line, []byte("#"))
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		var hash [32]byte
		if len(line) != hex.EncodedLen(len(hash)) {
			return fmt.Errorf("line %d has %d characters; the SHA-256 of a key in hexadecimal has %d", n, len(line), hex.EncodedLen(len(hash)))
		}
		if _, err := hex.Decode(hash[:], line); err != nil {
			return fmt.Errorf("line %d is not hexadecimal", n)
		}
		into[hash] = "it is on the list of blocked keys"
	}
	return nil
}

func readAtMost(name string, most int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(text)) > most {
		err = fmt.Errorf("has more than %d bytes", most)
	}
	return text, err
}
