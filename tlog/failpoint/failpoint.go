// Package failpoint names the places at which fault tests make the process
// fail. In every ordinary build its functions do nothing and are compiled away;
// with the build tag "failpoints" they do what the environment says:
//
//	SIGSTACK_FAILPOINTS=tlog.appended=kill,sqlite.commit:ct=error@3
//
// names points, each with an action and the hit that it is for: the first
// without @, the third with @3, the third and all after it with @3+, every one
// with @*. A point with a colon is that of one log, named by the directory of
// its files: sqlite.commit:ct is hit by the CT log alone. The actions are
//
//	kill          the process gets SIGKILL
//	error         the point returns an error
//	sleep:200ms   the point waits
//	flip          the point flips one bit of what it is given
//
// SIGSTACK_CLOCK names a file with a duration (such as -1h) that is added to
// the time; without the file the time is right. A file that says "frozen" and a
// time (RFC 3339) stops the clock there.
package failpoint

// The points, in the order in which a write passes them. Recovery passes the
// ones of Load and then, like a write, those of Publish.
const (
	Append         = "tlog.append"   // before the store is asked to append
	Begin          = "sqlite.begin"  // the transaction has begun
	Insert         = "sqlite.insert" // entries and search keys are written, tiles are not
	Commit         = "sqlite.commit" // everything is written, nothing committed
	Committed      = "sqlite.committed"
	Sequenced      = "mysql.sequenced"  // storage mysql, in place of Commit and Committed: the tree has grown, nothing is committed
	Integrated     = "mysql.integrated" // and now it is
	Appended       = "tlog.appended"    // the store has answered
	Sign           = "tlog.sign"        // before the checkpoint is signed
	Signed         = "tlog.signed"      // it is signed, and remembered nowhere
	Remembered     = "tlog.remembered"  // the second memory is durable
	Published      = "tlog.published"   // it can be read, nobody was answered
	LoadHead       = "tlog.load.head"   // recovery has read the head
	LoadTiles      = "tlog.load.tiles"  // and the right edge
	SignedTree     = "tlog.signed.tree" // flip: the root that is being signed
	AuditRecord    = "audit.record"     // before an audit row is written
	AuditCommit    = "audit.commit"     // it is written, not committed
	AuditCommitted = "audit.committed"
)

// Points are all points at which a process may be killed.
func Points() []string {
	return []string{Append, Begin, Insert, Commit, Committed, Sequenced, Integrated, Appended, Sign, Signed, Remembered, Published, LoadHead, LoadTiles, AuditRecord, AuditCommit, AuditCommitted}
}
