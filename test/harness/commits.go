package harness

import "sync/atomic"

// A CommitFault is what happens to one COMMIT on its way through a Proxy.
type CommitFault int

const (
	CommitPasses CommitFault = iota

	CommitCut  // it does not arrive, and both ends are told that the connection ended
	AnswerCut  // it arrives, and its answer does not; both ends are told
	CommitLost // it does not arrive, nor anything after it, and nobody is told
	AnswerLost // it arrives, and nothing comes back, and nobody is told
)

// WatchCommits has f decide about each COMMIT that a client of MySQL sends over
// connections that are made from now on. F is called by several goroutines.
func (p *Proxy) WatchCommits(f func() CommitFault) {
	p.Watch(func() func(Direction, []byte) Verdict {
		var commands commandReader // of the direction to the server
		var answer atomic.Int32    // the Verdict on what comes back next
		return func(d Direction, data []byte) Verdict {
			if d == ToClient {
				return Verdict(answer.Swap(int32(Pass)))
			}
			if !commands.commits(data) {
				return Pass
			}
			switch f() {
			case CommitCut:
				return Cut
			case CommitLost:
				return Drop
			case AnswerCut:
				answer.Store(int32(Cut))
			case AnswerLost:
				answer.Store(int32(Drop))
			}
			return Pass
		}
	})
}

// A commandReader finds the commands in what a client of MySQL sends: packets
// with three bytes of length, a number that is zero for a command, and then the
// kind of command, 3 for the text of a statement.
type commandReader struct {
	header []byte // of a packet, as far as it is there
	left   int    // bytes of the packet that are still to come
	begin  []byte // of its payload
}

// commits says whether a statement COMMIT ends in the next piece of data.
func (r *commandReader) commits(data []byte) (found bool) {
	const commit = "\x03COMMIT"
	for len(data) > 0 {
		if len(r.header) < 4 {
			r.header, data = append(r.header, data[0]), data[1:]
			if len(r.header) == 4 {
				r.left, r.begin = int(r.header[0])|int(r.header[1])<<8|int(r.header[2])<<16, nil
			}
			continue
		}
		n := min(r.left, len(data))
		r.begin = append(r.begin, data[:min(n, len(commit)+1-len(r.begin))]...)
		r.left, data = r.left-n, data[n:]
		if r.left == 0 {
			found = found || r.header[3] == 0 && string(r.begin) == commit
			r.header = nil
		}
	}
	return found
}
