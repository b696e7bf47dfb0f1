package rekor

import (
	"encoding/hex"
	"fmt"
	"math"
	"strconv"

	"github.com/sigstack/sigstack/tlog"
)

const (
	treeDigits = 16                // hexadecimal digits of a tree ID
	hashDigits = 2 * tlog.HashSize // and of a leaf hash
	uuidDigits = treeDigits + hashDigits
)

// An ID names an entry: a tree and a leaf hash.
type ID struct {
	Tree int64 // positive; 0 where the name does not say which tree
	Leaf tlog.Hash
}

// ParseID reads a UUID: 80 hexadecimal digits, or the last 64 of them, in any
// case. It returns an InputError.
func ParseID(s string) (ID, error) {
	if !IsID(s) {
		return ID{}, inputError("entry UUID %.90q: want 64 or 80 hexadecimal digits", s)
	}
	var id ID
	if len(s) == uuidDigits {
		tree, err := strconv.ParseUint(s[:treeDigits], 16, 64)
		if err != nil || tree == 0 || tree > math.MaxInt64 {
			return ID{}, inputError("validation error: %s is not a valid TreeID", s[:treeDigits])
		}
		id.Tree = int64(tree)
	}
	// IsID has seen that these are 64 digits.
	hex.Decode(id.Leaf[:], []byte(s[len(s)-hashDigits:]))
	return id, nil
}

// IsID says whether s has the shape of a UUID: 64 or 80 hexadecimal digits.
func IsID(s string) bool {
	if len(s) != hashDigits && len(s) != uuidDigits {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'f', 'A' <= c && c <= 'F':
		default:
			return false
		}
	}
	return true
}

// String returns the lower-case digits: 80, or 64 where Tree is 0.
func (id ID) String() string {
	if id.Tree == 0 {
		return hex.EncodeToString(id.Leaf[:])
	}
	return fmt.Sprintf("%016x%x", id.Tree, id.Leaf[:])
}

// uuid returns the UUID of a leaf of this shard.
func (s *shard) uuid(leaf tlog.Hash) string { return ID{s.TreeID, leaf}.String() }
