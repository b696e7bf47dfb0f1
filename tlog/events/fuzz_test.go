package events

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/sigstack/sigstack/test/fuzz"
)

// What a receiver says of the next attempt is bounded, whatever it says.
func FuzzRetryAfter(f *testing.F) {
	now := time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)
	seeds := fuzz.Seeds("0", "120", "4294967295", "-1", now.Add(time.Minute).Format(http.TimeFormat), now.Add(-time.Minute).Format(http.TimeFormat),
		now.Add(1000*time.Hour).Format(http.TimeFormat), "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994")
	type said struct {
		after time.Duration
		ok    bool
	}
	parse := func(in []byte) (said, error) {
		after, ok := parseRetryAfter(string(in), now)
		return said{after, ok}, nil
	}
	fuzz.Run(f, seeds, parse, func(t *testing.T, in []byte, got said, _ error) {
		if got.after < 0 || got.after > MaxRetryAfter || !got.ok && got.after != 0 {
			t.Errorf("%q is read as %v, %v", in, got.after, got.ok)
		}
	})
}

// A cursor has one spelling.
func FuzzCursor(f *testing.F) {
	seeds := fuzz.Seeds("0\n", "1\n", "9223372036854775807\n", "9223372036854775808\n", "007\n", "12", "\n")
	fuzz.Run(f, seeds, parseCursor, func(t *testing.T, in []byte, next uint64, err error) {
		if err == nil && fmt.Sprintf("%d\n", next) != string(in) {
			t.Errorf("%q is read as %d", in, next)
		}
	})
}
