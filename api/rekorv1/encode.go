package rekorv1

import (
	"encoding/base64"
	"encoding/hex"
	"strconv"

	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/rekor"
)

// The answers are few, fixed in shape and hot, so they are written in place:
// no reflection, one buffer each.

// appendEntry appends an object with one member, the entry under its UUID.
func appendEntry(b []byte, e *rekor.LogEntry) []byte {
	b = append(b, `{"`...)
	b = append(b, e.UUID...)
	b = append(b, `":{`...)
	if e.Attestation != nil {
		b = append(b, `"attestation":{"data":"`...)
		b = base64.StdEncoding.AppendEncode(b, e.Attestation)
		b = append(b, `"},`...)
	}
	b = append(b, `"body":"`...)
	b = base64.StdEncoding.AppendEncode(b, e.Body)
	b = append(b, `","integratedTime":`...)
	b = strconv.AppendInt(b, e.IntegratedTime, 10)
	b = append(b, `,"logID":"`...)
	b = append(b, e.LogID...)
	b = append(b, `","logIndex":`...)
	b = strconv.AppendUint(b, e.LogIndex, 10)
	b = append(b, `,"verification":{"inclusionProof":{"checkpoint":`...)
	b = appendString(b, string(e.Proof.Checkpoint))
	b = append(b, `,"hashes":`...)
	b = appendHashes(b, e.Proof.Hashes)
	b = append(b, `,"logIndex":`...)
	b = strconv.AppendUint(b, e.Proof.Index, 10)
	b = append(b, `,"rootHash":"`...)
	b = hex.AppendEncode(b, e.Proof.Root[:])
	b = append(b, `","treeSize":`...)
	b = strconv.AppendUint(b, e.Proof.Size, 10)
	b = append(b, `},"signedEntryTimestamp":"`...)
	b = base64.StdEncoding.AppendEncode(b, e.SET)
	return append(b, `"}}}`...)
}

// entrySize returns about how many bytes appendEntry appends, and rather more.
func entrySize(e *rekor.LogEntry) int {
	return 1024 + base64.StdEncoding.EncodedLen(len(e.Attestation)) + base64.StdEncoding.EncodedLen(len(e.Body)) + len(e.Proof.Checkpoint) + 68*len(e.Proof.Hashes)
}

// appendHashes appends an array of hexadecimal strings; an empty one is [].
func appendHashes(b []byte, hashes []tlog.Hash) []byte {
	b = append(b, '[')
	for i := range hashes {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = hex.AppendEncode(b, hashes[i][:])
		b = append(b, '"')
	}
	return append(b, ']')
}

// appendString appends a JSON string (RFC 8259, section 7). s must be UTF-8.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, '\\', 'n')
		case c < ' ' || c == 0x7f:
			b = append(b, `\u00`...)
			b = append(b, "0123456789abcdef"[c>>4], "0123456789abcdef"[c&15])
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}
