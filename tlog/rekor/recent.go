package rekor

import "sync"

const (
	// maxRecent bounds the bytes of each of the two generations of remembered
	// entries: a generation is some 8,000 entries with a certificate.
	maxRecent = 8 << 20

	// recentCost is what an entry takes beside its body: UUID, SET, and its
	// place in a map.
	recentCost = 320
)

// recent remembers the entries that were added or read last, by index. An entry
// never changes, so what is found is what the log would answer. Entries are
// read most in the minutes after they were added: that needs no database then
// and no signature, for which a KMS takes milliseconds, and money.
type recent struct {
	most int // bytes of a generation

	mu       sync.Mutex
	size     int // of new
	new, old map[uint64]*LogEntry
}

func newRecent(most int) *recent { return &recent{most: most, new: map[uint64]*LogEntry{}} }

// get returns an entry that put was given. Nobody changes it.
func (r *recent) get(index uint64) (*LogEntry, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.new[index]
	if !ok {
		if e, ok = r.old[index]; ok {
			r.add(e)
		}
	}
	return e, ok
}

func (r *recent) put(e *LogEntry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.new[e.LogIndex]; !ok {
		r.add(e)
	}
}

// add is called with mu held, for an entry that is not in the new generation.
func (r *recent) add(e *LogEntry) {
	cost := len(e.Body) + recentCost
	if cost > r.most {
		return
	}
	if r.size+cost > r.most {
		r.old, r.new, r.size = r.new, map[uint64]*LogEntry{}, 0
	}
	r.new[e.LogIndex] = e
	r.size += cost
}
