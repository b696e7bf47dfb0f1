package entry

import (
	"testing"
	"time"
)

const mega = 1 << 20

// A bomb is small and claims to be large, or becomes it.
type bomb struct {
	verdict
	decompressed uint64 // bytes that may be allocated beside ten times the input and 1 MB
}

// checkBombs checks that each bomb gets its answer within a second, and in less
// than 64 MB.
func checkBombs(t *testing.T, bombs []bomb) {
	t.Helper()
	for _, c := range bombs {
		checkVerdicts(t, []verdict{c.verdict})
		got, limit := allocated(func() { _, _ = Propose(c.in) }), uint64(10*len(c.in)+mega)+c.decompressed
		if got > limit || c.decompressed > 32*mega {
			t.Errorf("%s: %d bytes allocated for %d bytes of input", c.name, got, len(c.in))
		}
		took := time.Hour
		for try := 0; try < 3 && took > time.Second; try++ { // others may use the processor
			began := time.Now()
			_, _ = Propose(c.in)
			took = time.Since(began)
		}
		if took > time.Second {
			t.Errorf("%s: %v", c.name, took)
		}
	}
}
