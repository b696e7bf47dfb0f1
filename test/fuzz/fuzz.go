// Package fuzz is what the fuzz targets of this module share: a layer that
// mutates the fields of an input rather than its bytes, and a budget for what a
// parser may allocate.
//
// Few random changes of the bytes of a certificate in PEM in base64 in JSON get
// past the base64. So an input of [Run] is either bytes as they are, or the
// number of a seed, a place in its structure, a way to change what is there and
// a patch; lengths, base64 and quotes around that place are written anew. The
// structure of most seeds is found by looking at them ([Look]); [Seq], [Prefixed]
// and [Join] describe others.
//
// In an ordinary test run, without the flag -fuzz, Run also tries a fixed
// number of mutations of each piece of each seed, and each piece as often as
// fits into some sizes from 6 to 128 KiB: there a parser that makes much of little is seen.
package fuzz

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"testing"
)

// Budget runs f, which handles size bytes of input, and fails the test if it
// allocates more than ten times that and 1 MiB. f may be called again: only
// what it allocates each time counts, not what is made once for all calls.
func Budget(t testing.TB, size int, f func()) {
	t.Helper()
	budget(t, size, uint64(10*size+1<<20), f)
}

func budget(t testing.TB, size int, limit uint64, f func()) {
	t.Helper()
	begin := allocated()
	f()
	// The cheap figure lags behind by the unused parts of some spans.
	if allocated()-begin < limit/2 {
		return
	}
	var least uint64
	for i := range 3 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; i == 0 || got < least {
			least = got
		}
		if least <= limit {
			return
		}
	}
	t.Errorf("%d bytes allocated for an input of %d, want at most %d", least, size, limit)
}

// allocated returns the bytes allocated by the process so far, without
// stopping it.
func allocated() uint64 {
	sample := [1]metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample[:])
	return sample[0].Value.Uint64()
}

// Seeds finds the structure of valid inputs by looking at them.
func Seeds[S string | []byte](inputs ...S) []*Node {
	var out []*Node
	for _, in := range inputs {
		out = append(out, Look([]byte(in)))
	}
	return out
}

// What is tried without -fuzz: so many mutations of all seeds of a target
// together, and so many of their pieces repeated. A quarter of them with -short.
const (
	mutations   = 2000
	repetitions = 100
)

// sizes are the bytes up to which a piece is repeated: below and above what
// parsers take.
func sizes() []int { return []int{6 << 10, 24 << 10, 60 << 10, 128 << 10} }

// Run is the body of a fuzz target. Each input is parsed within its budget, and
// check judges what came out. Where parse is called again to be measured, check
// sees the result of the last call.
func Run[T any](f *testing.F, seeds []*Node, parse func(in []byte) (T, error), check func(t *testing.T, in []byte, got T, err error)) {
	f.Helper()
	RunWith(f, Options{}, seeds, parse, check)
}

// Options are for a parser that has to do more than parse.
type Options struct {
	// Allow says by how many bytes the budget of an input is larger, where
	// signatures have to be verified or files to be written. Whoever allows
	// something bounds it. Nil allows nothing.
	Allow func(in []byte) int

	// Slow takes a tenth of the mutations that are tried without -fuzz.
	Slow bool
}

// RunWith is Run with options.
func RunWith[T any](f *testing.F, o Options, seeds []*Node, parse func(in []byte) (T, error), check func(t *testing.T, in []byte, got T, err error)) {
	f.Helper()
	if len(seeds) == 0 || len(seeds) > 255 {
		f.Fatalf("%d seeds, want 1 to 255", len(seeds))
	}
	one := func(t *testing.T, in []byte) {
		// A seed may differ from one process to the next (it is signed by a
		// key that was made for it), so the input itself is shown.
		done := false
		defer func() {
			if t.Failed() || !done {
				t.Logf("input: %s", show(in))
			}
		}()
		var got T
		var err error
		limit := 10*len(in) + 1<<20
		if o.Allow != nil {
			limit += o.Allow(in)
		}
		budget(t, len(in), uint64(limit), func() { got, err = parse(in) })
		check(t, in, got, err)
		done = true
	}
	for i, s := range seeds {
		f.Add(uint8(0), uint16(0), uint8(0), s.Bytes())
		f.Add(uint8(i+1), uint16(0), uint8(keep), []byte{})
	}
	if !fuzzing() {
		// Beside the seeds in this list, there is one input that is not an
		// input: where it comes, everything that is derived from them is tried.
		f.Add(uint8(0), uint16(0), uint8(255), []byte{})
	}
	f.Fuzz(func(t *testing.T, pick uint8, place uint16, how uint8, patch []byte) {
		switch {
		case pick == 0 && how == 255 && len(patch) == 0:
			share := len(seeds)
			if testing.Short() {
				share *= 4
			}
			if o.Slow {
				share *= 10
			}
			for i, s := range seeds {
				sweep(s, uint64(i), share, func(in []byte) {
					if !t.Failed() {
						one(t, in)
					}
				})
			}
		case pick == 0:
			one(t, patch)
		default:
			one(t, seeds[int(pick-1)%len(seeds)].Mutate(place, how, patch))
		}
	})
}

// fuzzing says whether the test binary was told to fuzz.
func fuzzing() bool {
	return slices.ContainsFunc(os.Args, func(arg string) bool {
		return arg == "-test.fuzz" || strings.HasPrefix(arg, "-test.fuzz=") && arg != "-test.fuzz="
	})
}

// sweep calls try with mutations of a seed, the same in every run, of which it
// has one share.
func sweep(seed *Node, number uint64, share int, try func(in []byte)) {
	places := seed.count
	patches := [][]byte{{}, {0}, {0xff, 0xff, 0x80}, []byte("null"), []byte(`""`), []byte("\n"), []byte(" "), []byte("/"), []byte("9999999999999999999999")}
	r := rand.New(rand.NewPCG(number, uint64(places)))
	most := min(mutations/share, 8*places*howMany)
	for i := range most {
		place, how := r.IntN(places), r.IntN(howMany)
		if places*howMany <= most { // each way at each place
			place, how = i/howMany%places, i%howMany
		}
		patch := patches[r.IntN(len(patches))]
		if i%3 == 0 {
			patch = []byte{byte(r.Uint32()), byte(r.Uint32() % 4), byte(r.Uint32())}
		}
		try(seed.Mutate(uint16(place), uint8(how), patch))
	}
	// The places of one sort of thing cost the same: some of each seed do.
	step := max(1, (places*share+repetitions-1)/repetitions)
	for place := 0; place < places; place += step {
		piece := seed.at(place).raw
		for _, size := range sizes() {
			if n := size / max(len(piece), 1); n > 1 {
				try(seed.with(place, repeated(piece, n)...))
			}
		}
	}
}

// show renders an input for a message.
func show(in []byte) string {
	const most = 2000
	if len(in) > most {
		return fmt.Sprintf("%q... (%d bytes)", in[:most], len(in))
	}
	return fmt.Sprintf("%q", in)
}
