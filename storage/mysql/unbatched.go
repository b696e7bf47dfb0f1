//go:build !batched_queue

package mysql

// Batched says that this binary was built with the tag batched_queue, which
// Trillian's driver needs to sequence a batch with few statements. This one was
// not: it works, at a third of the rate.
const Batched = false
