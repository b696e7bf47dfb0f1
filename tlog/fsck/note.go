package fsck

import (
	"bytes"
	"crypto/ecdsa"
	"errors"
	"strings"

	"github.com/sigstack/sigstack/tlog/checkpoint"
)

// openNote opens a checkpoint that a key has signed, under whichever name
// stands on its first signature line.
func openNote(note []byte, key *ecdsa.PublicKey) (cp checkpoint.Checkpoint, name string, err error) {
	_, lines, ok := bytes.Cut(note, []byte("\n\n"))
	first, _, _ := strings.Cut(string(lines), "\n")
	rest, dash := strings.CutPrefix(first, "\u2014 ")
	name, _, space := strings.Cut(rest, " ")
	if !ok || !dash || !space {
		return cp, "", errors.New("it is not a signed note: no signature line after a blank line")
	}
	v, err := checkpoint.NewVerifier(name, key)
	if err != nil {
		return cp, "", err
	}
	cp, err = v.Open(note)
	return cp, name, err
}
