package tlog

// BreakMemory closes the file of the second memory under a log, so that
// nothing can be written to it any more. The log must be idle.
func (l *Log) BreakMemory() error { return l.memory.file.Close() }

// PublishRoot publishes the newest tree with another root. The log must be idle.
func (l *Log) PublishRoot(root Hash) error {
	t := *l.Published()
	t.Root = root
	return l.publish(&t)
}
