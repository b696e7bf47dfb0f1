//go:build !failpoints

package failpoint

import "time"

// Hit returns nil.
func Hit(point, file string) error { return nil }

// Flip does nothing.
func Flip(point, file string, b []byte) {}

// Now returns the time.
func Now() time.Time { return time.Now() }
