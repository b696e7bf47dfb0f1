//go:build !failpoints

package failpoint

import "time"

// Hit returns nil.
func Hit(string) error { return nil }

// Flip does nothing.
func Flip(string, []byte) {}

// Now returns the time.
func Now() time.Time { return time.Now() }
