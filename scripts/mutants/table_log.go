package main

// The table. A mutant is named by the folder of its fault. Its tests are the
// narrowest that ought to kill it; the cheapest stand first.

func mutants() []mutant {
	var all []mutant
	for _, part := range [][]mutant{logMutants(), storageMutants(), databaseMutants(), diskMutants(), rekorMutants(), ctMutants(), fsckMutants(), identityMutants(), caMutants(), policyMutants(), writesMutants(), entryMutants(), archiveMutants(), apiMutants(), trustMutants(), cmdMutants(), reloadMutants(), shardMutants(), attestationMutants(), eventMutants()} {
		all = append(all, part...)
	}
	return all
}

func logMutants() []mutant {
	engine := []tests{{pkg: "./tlog"}}
	stops := []tests{{pkg: "./tlog", run: "TestContradictionStopsSigning"}}
	const log, memory, tree = "tlog/log.go", "tlog/memory.go", "tlog/tree.go"
	return []mutant{
		{"tlog/root-not-compared", "the log takes the store's root for its own, both where it extends the tree and where it signs", []edit{
			{log, "if next.edge.size != head.Size || next.edge.root() != head.Root {", "if false {"},
			{log, "if t.Size != t.edge.size || t.Root != t.edge.root() {", "if false {"},
		}, stops},
		{"tlog/extend-accepts-anything", "a head that does not follow from the batch is signed instead of read back", []edit{
			{log, "if next.edge.size != head.Size || next.edge.root() != head.Root {", "if false {"},
		}, engine},
		{"tlog/signed-tree-not-compared", "a root that changed in memory while it was signed is published", []edit{
			{log, "if t.Size != t.edge.size || t.Root != t.edge.root() {", "if false {"},
		}, engine},
		{"tlog/loaded-root-not-compared", "recovery does not compare the root over the tiles with the head", []edit{
			{log, "if e.root() != head.Root {", "if false {"},
		}, engine},
		{"tlog/edge-not-reread", "after an append with an unknown outcome the edge in memory is used on", []edit{
			{log, "	l.stale = true\n	if errors.Is(err, ErrFrozen) {", "	l.stale = err == nil\n	if errors.Is(err, ErrFrozen) {"},
		}, engine},
		{"tlog/place-not-checked", "recovery does not look whether the leaves lie where the store says", []edit{
			{log, "		} else if h != p.hash {\n			return nil, fmt.Errorf(\"%w: the store placed", "		} else if false && h != p.hash {\n			return nil, fmt.Errorf(\"%w: the store placed"},
		}, engine},
		{"tlog/integrity-forgotten", "signing goes on when the store looks well again after a contradiction", []edit{
			{log, "			l.violated = ready\n", "			_ = ready\n"},
		}, engine},
		{"tlog/memory-not-written", "the second memory is not written", []edit{
			{log, "if err := l.memory.write(note); err != nil {", "if err := error(nil); err != nil {"},
		}, engine},
		{"tlog/memory-written-late", "the second memory is written after the checkpoint is published", []edit{
			{log, "	if err := l.memory.write(note); err != nil {", "	t.Checkpoint = note\n	l.published.Store(t)\n	if err := l.memory.write(note); err != nil {"},
		}, engine},
		{"tlog/memory-failure-ignored", "a checkpoint is published although the second memory could not be written", []edit{
			{log, "		return unavailable(\"writing the second memory: %w\", err)", "		l.opts.Logger.Warn(\"second memory\", \"err\", err)"},
		}, engine},
		{"tlog/memory-forgets-attempt", "a checkpoint whose second memory may have been written does not count as signed", []edit{
			{log, "	l.last = checkpoint.Checkpoint{Origin: l.opts.Signer.Origin(), Size: t.Size, Root: t.Root}\n	if err :=", "	if err :="},
			{log, "	l.published.Store(t)\n", "	l.last = checkpoint.Checkpoint{Origin: l.opts.Signer.Origin(), Size: t.Size, Root: t.Root}\n	l.published.Store(t)\n"},
		}, engine},
		{"tlog/memory-one-slot", "the second memory has one slot: a torn write spoils the only checkpoint", []edit{
			{memory, "	m.next = 1 - m.next\n", ""},
			{memory, "last, ok, m.next = cp, true, 1-slot", "last, ok, m.next = cp, true, slot"},
		}, engine},
		{"tlog/memory-older-slot", "the smaller of the two remembered checkpoints counts", []edit{
			{memory, "(!ok || cp.Size > last.Size)", "(!ok || cp.Size < last.Size)"},
		}, suite("Rollback")},
		{"tlog/memory-not-locked", "two processes can sign one log", []edit{
			{memory, "if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {", "if err := error(nil); err != nil {"},
		}, suite("Rollback")},
		{"tlog/memory-may-be-missing", "a store with entries is opened without its second memory", []edit{
			{log, "		err = l.mustBeNew(ctx)\n", ""},
		}, suite("Rollback")},
		{"tlog/rollback-accepted", "a store with fewer entries than were signed is opened", []edit{
			{log, "if head.Size < l.last.Size {", "if false {"},
			{log, "tree.RootAt(ctx, l.last.Size)", "tree.RootAt(ctx, min(head.Size, l.last.Size))"},
			{log, "if root != l.last.Root {", "if head.Size >= l.last.Size && root != l.last.Root {"},
		}, suite("Rollback")},
		{"tlog/fork-accepted", "a store that is longer than what was signed, but differs, is opened", []edit{
			{log, "if root != l.last.Root {", "if false {"},
		}, suite("Rollback")},
		{"tlog/replica-asks-nobody", "a replica takes what it has published itself for the latest", []edit{
			{log, "	if l.opts.Shared && len(adds) < len(batch) {", "	if false {"},
		}, []tests{{pkg: "./tlog", run: "TestShared"}}},
		{"tlog/duplicate-not-compared", "the answer about a duplicate takes the store's word for where the leaf lies", []edit{
			{log, "if in.Dup && leaf.ID == (Hash{}) {", "if false {"},
		}, engine},
		{"tlog/find-not-compared", "a lookup by leaf hash takes the store's word", []edit{
			{log, "	} else if h != leafHash {", "	} else if false {"},
		}, engine},
		{"tlog/entry-not-compared", "an entry is returned whatever it hashes to", []edit{
			{log, "if e.Index != begin+uint64(i) || LeafHash(e.Value) != want {", "if e.Index != begin+uint64(i) || false && want == emptyRoot {"},
		}, engine},
		{"tlog/tile-not-compared", "a tile of the store is used whatever it hashes to", []edit{
			{tree, "	if tile.top() != want {", "	if false && want == emptyRoot {"},
		}, engine},
		{"tlog/unpublished-entry-shown", "entries are shown before a checkpoint includes them", []edit{
			{log, "	end = min(end, tree.Size)\n	if begin >= end {", "	head, err := l.store.Head(ctx)\n	if err != nil {\n		return nil, err\n	}\n	end = min(end, head.Size)\n	if begin >= end {"},
			{log, "		want, err := tree.LeafHash(ctx, begin+uint64(i))\n", "		want, err := tree.LeafHash(ctx, begin+uint64(i))\n		if errors.Is(err, ErrNotFound) {\n			want, err = LeafHash(e.Value), nil\n		}\n"},
		}, engine},
		{"tlog/checkpoint-of-another-size", "a tree comes with the checkpoint of the tree before it", []edit{
			{log, "	t.Checkpoint = note\n", "	t.Checkpoint = note\n	if old := l.published.Load(); old != nil {\n		t.Checkpoint = old.Checkpoint\n	}\n"},
		}, []tests{{pkg: "./tlog/rekor"}}},
		{"tlog/proof-from-another-tree", "the proof of an answer belongs to the newest tree, not to the one beside it", []edit{
			{log, "	in.Proof, err = in.Tree.Inclusion(ctx, in.Index, in.Tree.Size)\n", "	tree := l.Published()\n	in.Proof, err = tree.Inclusion(ctx, in.Index, tree.Size)\n"},
		}, engine},
		{"tlog/answer-without-publishing", "a batch is answered when the store has it, before a checkpoint includes it", []edit{
			{log, "		return next, unknown(l.publish(next))\n", "		l.published.Store(next)\n		l.stale = false\n		return next, nil\n"},
		}, engine},
		{"tlog/queue-without-bound", "a submission waits where the queue is full, instead of being refused", []edit{
			{log, "	default:\n		return unavailable(\"%d submissions wait already\", maxQueue)\n", "	case <-ctx.Done():\n		return ctx.Err()\n"},
		}, engine},
		{"tlog/waiting-anew", "those who wait for a batch over a store that is away wait for it with the next batch again", []edit{
			{log, "			l.turnAway(carry, err)\n			carry = nil\n", ""},
		}, engine},
		{"tlog/unknown-told-as-refused", "a client whose entry may have been stored is told that it was not", []edit{
			{log, "	if !errors.Is(err, ErrUnavailable) {\n", "	if err != nil {\n"},
		}, engine},
		{"tlog/behind-is-violation", "a store that has lost what nobody signed stops the log", []edit{
			{log, "if errors.Is(err, ErrIntegrity) { // what the store", "if false { // what the store"},
		}, engine},
		{"tlog/full-disk-filled", "batches are appended until the disk is full", []edit{
			{log, "	if err := l.room(); err != nil {\n		return nil, err\n	}\n", ""},
		}, engine},
		{"tlog/full-disk-ready", "a log that takes no entries because the disk is nearly full is ready", []edit{
			{log, "	if err := l.room(); err != nil {\n		return err\n	}\n", ""},
		}, engine},
		{"tlog/leaf-without-bound", "a leaf larger than a batch is taken", []edit{
			{log, "if n := leaf.bytes(); n > MaxBatchBytes {", "if n := leaf.bytes(); false {"},
		}, suite("Entries")},
		{"tlog/ready-ignores-clock", "readiness does not look at the clock", []edit{
			{log, "behind > MaxClockStep {\n		return fmt.Errorf(\"%w: %w: by", "false {\n		return fmt.Errorf(\"%w: %w: by"},
		}, suite("Clock")},
		{"tlog/node-hash-prefix", "inner nodes are hashed without their prefix", []edit{
			{"tlog/tlog.go", "	b[0] = 1\n", "	b[0] = 0\n"},
		}, suite("Sizes")},
		{"tlog/edge-shares-memory", "a published edge is changed by the next batch", []edit{
			{"tlog/edge.go", "rows: slices.Clone(e.rows)}", "rows: e.rows}"},
			{"tlog/edge.go", "import (\n	\"math/bits\"\n	\"slices\"\n)", "import \"math/bits\""},
		}, engine},
		{"tlog/checkpoint/not-verified", "what the signer of checkpoints returns is not verified", []edit{
			{"tlog/checkpoint/checkpoint.go", "if got, err := s.Open(note); err != nil || got != cp {", "if got, err := s.Open(note); err != nil && got == cp && len(note) == 0 {"},
		}, engine},
		{"tlog/checkpoint/any-signature", "a checkpoint opens whoever signed it", []edit{
			{"tlog/checkpoint/checkpoint.go", "if !ecdsa.VerifyASN1(v.key, digest[:], sig[4:]) {", "if false {"},
			{"tlog/checkpoint/checkpoint.go", "		digest := sha256.Sum256(body)\n", ""},
		}, []tests{{pkg: "./tlog/checkpoint"}}},
	}
}

// suite is one test of the conformance suite that every store runs.
func suite(name string) []tests {
	return []tests{{pkg: "./storage/sqlite", run: "TestConformance/^" + name + "$"}}
}

func databaseMutants() []mutant {
	one := func(run string) []tests { return []tests{{pkg: "./storage/mysql", run: run}} }
	const add, conn, lease = "storage/mysql/append.go", "storage/mysql/conn.go", "storage/mysql/lease.go"
	return []mutant{
		{"storage/mysql/outcome-not-asked", "a batch that a lost COMMIT may have stored is given up", []edit{
			{add, "maxFailures = 2\n", "maxFailures = 1\n"},
		}, one("TestLostCommit")},
		{"storage/mysql/late-cut-not-asked", "an attempt that was cut after a second is taken for one that the server did not answer", []edit{
			{"storage/mysql/reach.go", " && a.waited.Load()\n", "\n"},
		}, one("TestLostCommit|TestVain")},
		{"storage/mysql/conflict-is-failure", "having waited for a lock of another transaction counts as a connection that was lost", []edit{
			{add, " || tried.conflict.Load() || ", " || "},
		}, one("TestLostTransaction")},
		{"storage/mysql/duplicate-wrong-index", "a duplicate is answered with the index after its own", []edit{
			{add, "uint64(index.Int64), integrated.Int64", "uint64(index.Int64)+1, integrated.Int64"},
		}, one("TestConformance/.*Duplicates")},
		{"storage/mysql/duplicate-unmarked", "a leaf that somebody else has queued is answered as ours", []edit{
			{add, "b.first[id] != i || p.queued != b.queue+int64(i),", "b.first[id] != i,"},
		}, one("TestConformance/.*Duplicates")},
		{"storage/mysql/queue-without-order", "the leaves that one batch queues have one queue timestamp", []edit{
			{add, "at := b.queue + int64(i)\n", "at := b.queue\n"},
		}, one("TestQueued")},
		{"storage/mysql/order-of-hashes", "the leaves of a batch enter the tree in the order of their hashes", []edit{
			{add, "	for i, id := range b.ids {\n		if b.first[id] == i {", "	for _, i := range b.sorted {\n		if id := b.ids[i]; b.first[id] == i {"},
		}, one("TestOrder")},
		{"storage/mysql/queue-left", "what others have queued is not taken along", []edit{
			{add, "return slices.Concat(fresh, queued), err", "return slices.Concat(fresh, queued[:0]), err"},
		}, one("TestQueued")},
		{"storage/mysql/rival-overtaken", "an entry may be older than one that another sequencer put before it", []edit{
			{add, "root.TreeSize > tx.q.size && root.TimestampNanos > uint64(tx.q.at)", "false"},
		}, one("TestRivalClocks")},
		{"storage/mysql/shrunk-tree", "a tree that is smaller than it was is added to", []edit{
			{add, "if root.TreeSize < tx.q.size {", "if false {"},
			{add, "if t.head.Size < was {", "if false && was > 0 {"},
		}, one("TestShrunkTree")},
		{"storage/mysql/commit-ignored", "what COMMIT answers is ignored", []edit{
			{conn, "	_, err := t.conn.ExecContext(context.Background(), how, nil)\n	return err\n", "	_, _ = t.conn.ExecContext(context.Background(), how, nil)\n	return nil\n"},
		}, one("TestLostCommit")},
		{"storage/mysql/cluster-packets", "a node of a cluster gets several statements in one packet, and may take back the first alone", []edit{
			{conn, "	if c.cluster {\n", "	if false && c.cluster {\n"},
		}, []tests{{pkg: "./test/faults", run: "TestGaleraConflicts"}}},
		{"storage/mysql/lease-not-kept", "the lease of the TUF repository ends while it is needed", []edit{
			{lease, "		ok, err := l.take(until)\n", "		ok, err := true, error(nil)\n		_ = until\n"},
		}, one("TestTUF")},
		{"storage/mysql/lease-of-another", "the lease is taken from whoever has it", []edit{
			{lease, "until <= UNIX_TIMESTAMP() OR holder = ?", "TRUE OR holder = ?"},
		}, one("TestTUF")},
		{"storage/mysql/lease-not-given-back", "the lease is left to end by itself", []edit{
			{lease, "	l.giveBack(ctx)\n", ""},
		}, one("TestTUF")},
		{"storage/mysql/version-not-compared", "files are replaced over what another replica has published", []edit{
			{"storage/mysql/tuf.go", "SET version = version + 1 WHERE name = ? AND version = ?\", tufLease.name, version)", "SET version = version + 1 WHERE name = ?\", tufLease.name)"},
		}, one("TestTUF")},
	}
}

func storageMutants() []mutant {
	failure := []tests{{pkg: "./storage/sqlite", run: "TestFailedAppend"}}
	const store, audit, place = "storage/sqlite/store.go", "storage/sqlite/audit.go", "storage/audit/place.go"
	audits := []tests{{pkg: "./storage/sqlite", run: "TestAudit$"}}
	return []mutant{
		{"storage/sqlite/answer-before-commit", "Append answers and commits afterwards", []edit{
			{store, "	defer tx.Rollback()\n", ""},
			{store, "	if err := tx.Commit(); err != nil {\n		return nil, tlog.Head{}, fmt.Errorf(\"committing: %w\", err)\n	}\n", "	time.AfterFunc(20*time.Millisecond, func() { tx.Commit() })\n"},
		}, suite("Sizes")},
		{"storage/sqlite/commit-error-ignored", "a commit that failed is answered as if it had not", []edit{
			{store, "		return nil, tlog.Head{}, fmt.Errorf(\"committing: %w\", err)\n", "		_ = err\n"},
		}, failure},
		{"storage/sqlite/tip-kept-after-failure", "an append that failed leaves its indices used up", []edit{
			{store, "	s.tip = nil // until the commit\n", ""},
		}, failure},
		{"storage/sqlite/half-a-batch", "a batch that fails in the middle is committed up to there", []edit{
			{store, "	if err != nil {\n		return nil, tlog.Head{}, err\n	}\n	if err := tx.Commit()", "	if err != nil {\n		tx.Commit()\n		return nil, tlog.Head{}, err\n	}\n	if err := tx.Commit()"},
		}, failure},
		{"storage/sqlite/duplicate-wrong-index", "a duplicate is answered with the index after its own", []edit{
			{store, "\"SELECT idx, time FROM entry WHERE id = ?\"", "\"SELECT idx + 1, time FROM entry WHERE id = ?\""},
		}, suite("Duplicates")},
		{"storage/sqlite/duplicate-wrong-time", "a duplicate is answered with the time of the question", []edit{
			{store, "time.Unix(0, was).UTC(), true", "now.UTC(), true"},
			{store, "			var was int64\n", "			var was int64\n			_ = was\n"},
		}, suite("Duplicates")},
		{"storage/sqlite/duplicate-added", "an identity that is known is added again", []edit{
			{store, "id, other := hash[:], []byte(nil)", "id, other := append(hash[:], byte(t.size()), byte(t.size()>>8)), hash[:]"},
		}, suite("Duplicates")},
		{"storage/sqlite/clock-not-checked", "entries are stored under a clock that is far behind", []edit{
			{store, "behind > tlog.MaxClockStep {", "behind > 1000*time.Hour {"},
		}, suite("Clock")},
		{"storage/sqlite/time-goes-back", "an entry may have a time before that of the entry before it", []edit{
			{store, "		now = t.head.Time\n", "		_ = behind\n"},
		}, suite("Clock")},
		{"storage/sqlite/search-key-of-duplicate", "a duplicate adds its search keys", []edit{
			{store, "			placed[i].Time, placed[i].Dup = time.Unix(0, was).UTC(), true\n", "			placed[i].Time, placed[i].Dup = time.Unix(0, was).UTC(), true\n			for _, key := range leaf.Keys {\n				tx.Stmt(s.search[1]).Exec(key, 0, hash[:])\n			}\n"},
		}, suite("SearchKeys")},
		{"storage/sqlite/search-keys-dropped", "search keys are not stored", []edit{
			{store, "range slices.Chunk(leaf.Keys, maxKeysStmt) {", "range slices.Chunk(leaf.Keys[:0], maxKeysStmt) {"},
		}, suite("SearchKeys")},
		{"storage/sqlite/partial-tile-dropped", "a partial tile above the leaves is not stored", []edit{
			{store, "if len(hashes) > 0 && t.size()>>", "if len(hashes) > 0 && level == 0 && t.size()>>"},
		}, suite("Sizes")},
		{"storage/sqlite/audit-before-commit", "an audit row is answered before it is committed", []edit{
			{audit, "	if err := tx.Commit(); err != nil {\n		return err\n	}\n", "	time.AfterFunc(20*time.Millisecond, func() { tx.Commit() })\n"},
			{audit, "	defer tx.Rollback()\n	ledger,", "	ledger,"},
		}, []tests{{pkg: "./storage/sqlite", run: "TestAudit"}}},
		{"storage/audit/error-shared", "a row that was refused is answered as written", []edit{
			{place, "		if row.Err = l.check(row); row.Err != nil {\n", "		if l.check(row) != nil {\n"},
		}, audits},
		{"storage/audit/serial-twice", "a serial number may be intended again", []edit{
			{place, "	if len(there) > 0 {\n		return ErrSerial\n	}\n	if c", "	if c"},
		}, audits},
		{"storage/audit/issued-without-intent", "a certificate is issued that nothing intended", []edit{
			{place, "		case len(there) == 0 || there[0].Kind != Intended:\n			return ErrNotIntended\n", ""},
		}, audits},
		{"storage/audit/two-outcomes", "a serial number is issued and has failed", []edit{
			{place, "		case len(there) > 1:\n			return ErrSerial\n", ""},
		}, audits},
		{"storage/audit/token-for-two-keys", "a token that is good for one key is good for another one", []edit{
			{place, "ok && key != c.Key {", "ok && false && key != c.Key {"},
		}, audits},
		{"storage/audit/retry-refused", "a token is refused when a client tries again with the same key", []edit{
			{place, "ok && key != c.Key {", "ok && key[0] <= c.Key[0] {"},
		}, audits},
		{"storage/audit/claim-kept", "the claim of a token is never removed", []edit{
			{"storage/audit/row.go", "return now.Add(-grace).Unix()", "return now.Add(-1000 * grace).Unix()"},
		}, audits},
		{"storage/audit/claim-removed-early", "the claim of a token is removed before the token has expired", []edit{
			{"storage/audit/row.go", "return now.Add(-grace).Unix()", "return now.Add(grace).Unix()"},
		}, audits},
		{"storage/audit/chain-without-time", "the time of an audit row is not in the chain", []edit{
			{"storage/audit/row.go", "uint64(r.At.UnixNano())", "uint64(0)"},
		}, []tests{{pkg: "./storage/audit", run: "TestChain"}}},
		{"storage/audit/chain-without-lengths", "two rows that are cut otherwise have one hash", []edit{
			{"storage/audit/row.go", "		b = binary.BigEndian.AppendUint32(b, uint32(len(field)))", "		_ = uint32(len(field))"},
		}, []tests{{pkg: "./storage/audit", run: "TestChain"}}},
		{"storage/sqlite/audit-head-not-kept", "the chain begins anew with each batch", []edit{
			{audit, "Exec(ledger.Seq, ledger.Head[:])", "Exec(ledger.Seq, make([]byte, 32))"},
		}, []tests{{pkg: "./storage/sqlite", run: "TestAudit"}}},
		{"storage/audit/answered-before-commit", "audit rows are answered while they are being committed", []edit{
			{"storage/audit/audit.go", "		err := q.commit(batch)\n", "		var err error\n		go q.commit(batch)\n"},
		}, []tests{{pkg: "./storage/sqlite", run: "TestAudit"}}},
		{"storage/sqlite/imported-key-elsewhere", "a search key is imported with the index of the next entry", []edit{
			{"storage/sqlite/search.go", "INSERT OR IGNORE INTO search (key, at, hash) VALUES (?, ?, ?)", "INSERT OR IGNORE INTO search (key, at, hash) VALUES (?, ? + 1, ?)"},
		}, suite("Import")},
		{"storage/sqlite/log-never-anew", "the write-ahead log grows for as long as somebody writes", []edit{
			{"storage/sqlite/wal.go", "	if w.nearly.Swap(false) {\n", "	if false {\n"},
		}, []tests{{pkg: "./storage/sqlite", run: "TestWriteAheadLog"}}},
		{"storage/sqlite/log-not-copied", "the write-ahead log is not copied into the database", []edit{
			{"storage/sqlite/wal.go", "		case w.due <- struct{}{}:\n", ""},
		}, []tests{{pkg: "./storage/sqlite", run: "TestWriteAheadLog"}}},
		{"storage/sqlite/file-readable", "the database can be read by every user of the machine", []edit{
			{"storage/sqlite/db.go", "os.O_RDWR|os.O_CREATE, 0o600)", "os.O_RDWR|os.O_CREATE, 0o644)"},
		}, []tests{{pkg: "./storage/sqlite", run: "TestFiles"}}},
	}
}

// diskMutants are what only system calls show: what was written was not synced,
// or too late.
func diskMutants() []mutant {
	lint := []tests{{pkg: "./test/trace", run: "TestOrder"}}
	const db = "storage/sqlite/db.go"
	return []mutant{
		{"disk/sqlite-synchronous-off", "SQLite does not sync at all", []edit{
			{db, "_pragma=synchronous(FULL)", "_pragma=synchronous(OFF)"},
		}, lint},
		{"disk/sqlite-synchronous-normal", "SQLite syncs at checkpoints of its journal, not at commits", []edit{
			{db, "_pragma=synchronous(FULL)", "_pragma=synchronous(NORMAL)"},
		}, lint},
		{"disk/sqlite-journal-in-memory", "SQLite keeps its journal in memory", []edit{
			{db, "_pragma=journal_mode(WAL)", "_pragma=journal_mode(MEMORY)"},
		}, lint},
		{"disk/memory-not-synced", "the second memory is written, but not synced", []edit{
			{"tlog/memory.go", "if err := syscall.Fdatasync(int(m.file.Fd())); err != nil {", "if err := error(nil); err != nil {"},
		}, lint},
		{"disk/memory-synced-late", "the second memory is synced after the answer", []edit{
			{"tlog/memory.go", "if err := syscall.Fdatasync(int(m.file.Fd())); err != nil {", "go syscall.Fdatasync(int(m.file.Fd()))\n	if err := error(nil); err != nil {"},
		}, lint},
		{"disk/tuf-file-not-synced", "a TUF file is renamed before its bytes are synced", []edit{
			{"trust/store.go", "		err = tmp.Sync()\n", "		err = nil\n"},
		}, lint},
		{"disk/tuf-name-not-synced", "the name of a TUF file is not synced", []edit{
			{"trust/store.go", "	if err := syncDir(filepath.Dir(path)); err != nil {\n		return err\n	}\n	return s.stepped(", "	return s.stepped("},
		}, lint},
		{"disk/key-name-not-synced", "the name of a new key is not synced", []edit{
			{"trust/keys/file.go", "	return syncDir(dir)\n", "	return nil\n"},
		}, lint},
		{"disk/chain-name-not-synced", "the name of the file with the CA's certificates is not synced, neither when it is made nor at the next start", []edit{
			{"cmd/sigstack/keyring.go", "	return dir.Sync()\n", "	return nil\n"},
			{"cmd/sigstack/serve.go", "if err := syncDir(filepath.Join(s.config.DataDir, \"keys\")); err != nil && ", "if err := error(nil); err != nil && "},
		}, lint},
		{"disk/directory-name-not-synced", "the names of the directories of the logs are not synced", []edit{
			{"cmd/sigstack/keyring.go", "	err = syncDir(filepath.Dir(path))\n", "	err = nil\n"},
		}, lint},
		{"disk/key-not-synced", "a new key is used before its file is synced", []edit{
			{"trust/keys/file.go", "		err = f.Sync()\n", "		err = nil\n"},
		}, lint},
	}
}

func rekorMutants() []mutant {
	rekor := []tests{{pkg: "./tlog/rekor"}}
	const entry = "tlog/rekor/entry.go"
	return []mutant{
		{"tlog/rekor/one-spelling-found", "the hash of a key is found in the spelling that is stored only", []edit{
			{"tlog/rekor/search.go", "	if err != nil || !ok {", "	if err != nil || ok || !ok {"},
		}, []tests{{pkg: "./tlog/rekor", run: "TestSearch"}}},
		{"tlog/rekor/page-skips-one", "behind each entry that a search has found, one is passed over", []edit{
			{"tlog/rekor/find.go", "		s.in.End = index\n", "		s.in.End = max(index, 1) - 1\n"},
		}, []tests{{pkg: "./api/search", run: "TestSearch"}}},
		{"tlog/rekor/page-of-any-term", "a search finds entries that satisfy one of its terms", []edit{
			{"tlog/rekor/find.go", "			if agreed == len(s.terms) {", "			if agreed > 0 {"},
			{"tlog/rekor/find.go", "agreed < max(len(s.terms), 1)", "agreed < 1"},
		}, []tests{{pkg: "./api/search", run: "TestSearch"}}},
		{"tlog/rekor/stray-key-stays", "a rebuild of the index does not look for keys that no entry gives", []edit{
			{"tlog/rekor/rebuild.go", "	if there == had && !late {", "	if there >= had || late {"},
		}, []tests{{pkg: "./tlog/rekor", run: "TestRebuildIndex"}}},
		{"tlog/rekor/statement-keys-removed", "a rebuild of the index removes the keys of statements that it cannot derive", []edit{
			{"tlog/rekor/rebuild.go", "		case !whole:", "		case false && !whole:"},
		}, []tests{{pkg: "./tlog/rekor", run: "TestRebuildIndex"}}},
		{"tlog/rekor/set-over-another-body", "the SET signs a body without its last byte", []edit{
			{entry, "b = base64.StdEncoding.AppendEncode(b, e.Body)", "b = base64.StdEncoding.AppendEncode(b, e.Body[:len(e.Body)-1])"},
		}, rekor},
		{"tlog/rekor/set-over-another-index", "the SET signs the next index", []edit{
			{entry, "b = strconv.AppendUint(b, e.LogIndex, 10)", "b = strconv.AppendUint(b, e.LogIndex+1, 10)"},
		}, rekor},
		{"tlog/rekor/set-over-another-time", "the SET signs the next second", []edit{
			{entry, "b = strconv.AppendInt(b, e.IntegratedTime, 10)", "b = strconv.AppendInt(b, e.IntegratedTime+1, 10)"},
		}, rekor},
		{"tlog/rekor/set-over-another-log", "the SET signs no log ID", []edit{
			{entry, "	b = append(b, e.LogID...)\n", ""},
		}, rekor},
		{"tlog/rekor/set-not-verified", "what the signer of SETs returns is not verified", []edit{
			{entry, "if !s.local && !ecdsa.VerifyASN1(s.key, digest[:], out.SET) {", "if false {"},
			{entry, "	\"crypto/ecdsa\"\n", ""},
		}, rekor},
		{"tlog/rekor/time-of-the-question", "the integrated time is that of the tree, not of the entry", []edit{
			{entry, "	out := *e\n", "	out := *e\n	out.IntegratedTime = tree.Time.Unix()\n"},
		}, rekor},
		{"tlog/rekor/proof-of-an-older-tree", "an entry is proven in the tree before the one beside it", []edit{
			{entry, "proof, err := tree.Inclusion(ctx, index, tree.Size)", "proof, err := tree.Inclusion(ctx, index, max(index+1, tree.Size-1))"},
		}, rekor},
		{"tlog/rekor/recent-without-bound", "every entry that was ever read is remembered", []edit{
			{"tlog/rekor/recent.go", "	if r.size+cost > r.most {\n", "	if false {\n"},
		}, rekor},
		{"tlog/rekor/recent-not-remembered", "an entry is signed anew each time it is read", []edit{
			{entry, "	l.recent.put(out)\n", ""},
		}, rekor},
		{"tlog/rekor/duplicate-accepted", "a duplicate is answered as a new entry", []edit{
			{entry, "	if in.Dup {\n", "	if false {\n"},
		}, rekor},
		{"tlog/rekor/any-tree", "an entry is found under the UUID of another tree", []edit{
			{entry, "if id.Tree != 0 && id.Tree != s.TreeID {", "if false {"},
		}, rekor},
	}
}

func ctMutants() []mutant {
	ct := []tests{{pkg: "./tlog/ct"}}
	const file, chain, read = "tlog/ct/ct.go", "tlog/ct/chain.go", "tlog/ct/read.go"
	return []mutant{
		{"tlog/ct/sct-without-entry", "an SCT is given for a certificate that is not stored", []edit{
			{file, "	in, err := l.log.Add(ctx, tlog.Leaf{Value: value, Extra: joinExtra(sig, extra), ID: id})\n	if err != nil {\n		return nil, err\n	}\n", "	in, err := l.log.Add(ctx, tlog.Leaf{Value: value, Extra: joinExtra(sig, extra), ID: id})\n	if err != nil {\n		in, err = new(tlog.Included), nil\n	}\n"},
		}, ct},
		{"tlog/ct/sct-before-entry", "an SCT is given while the entry is being stored", []edit{
			{file, "	in, err := l.log.Add(ctx, tlog.Leaf{Value: value, Extra: joinExtra(sig, extra), ID: id})\n", "	go l.log.Add(ctx, tlog.Leaf{Value: value, Extra: joinExtra(sig, extra), ID: id})\n	in := new(tlog.Included)\n"},
		}, ct},
		{"tlog/ct/refused-issuer-remembered", "issuers of a path that is refused are remembered", []edit{
			{chain, "		path = append(path, c)\n", "		path = append(path, c)\n		l.links.remember(path[i:])\n"},
		}, ct},
		{"tlog/ct/resubmission-signed-again", "a resubmission gets a new signature", []edit{
			{file, "	return SCT{LogID: l.id, Timestamp: was.Timestamp, Signature: sig}.Bytes(), nil", "	if sig, err = l.sign(stored[0].Value); err != nil {\n		return nil, err\n	}\n	return SCT{LogID: l.id, Timestamp: was.Timestamp, Signature: sig}.Bytes(), nil"},
		}, ct},
		{"tlog/ct/duplicate-not-compared", "a submission gets the SCT of whatever entry the store names", []edit{
			{file, "if string(leaf.Bytes()) != string(stored[0].Value) {", "if false {"},
		}, ct},
		{"tlog/ct/stored-sct-not-verified", "a stored SCT is returned unverified", []edit{
			{file, "		err = l.verify(stored[0].Value, sig)\n", "		err = nil\n"},
		}, ct},
		{"tlog/ct/sct-not-verified", "what the signer of SCTs and tree heads returns is not verified", []edit{
			{file, "	if err := l.verify(data, sig); err != nil {", "	if err := error(nil); err != nil {"},
		}, ct},
		{"tlog/ct/sth-time-repeats", "two tree heads may have one timestamp", []edit{
			{read, "floor = max(floor, last.Timestamp+1)", "floor = max(floor, last.Timestamp)"},
		}, ct},
		{"tlog/ct/sth-before-entry", "a tree head may be older than an entry in it", []edit{
			{read, "	if err := l.catchUp(ctx, tree.Size); err != nil {", "	if err := error(nil); err != nil {"},
		}, ct},
		{"tlog/ct/chain-signature-not-checked", "a chain counts as signed", []edit{
			{chain, "	if !issuer {\n		return child.CheckSignatureFrom(parent)\n	}\n	return l.links.check(child, parent)", "	return nil"},
		}, ct},
		{"tlog/ct/link-remembered-before-check", "an issuer whose signature was refused once is taken the next time", []edit{
			{chain, "	k.mu.Unlock()\n	if ok {\n		return nil\n	}\n	if err := child.CheckSignatureFrom(parent); err != nil {\n		return err\n	}\n	k.mu.Lock()\n	defer k.mu.Unlock()\n", "	if ok {\n		k.mu.Unlock()\n		return nil\n	}\n	defer k.mu.Unlock()\n	defer func() { k.known[id] = struct{}{} }()\n	if err := child.CheckSignatureFrom(parent); err != nil {\n		if k.known == nil {\n			k.known = make(map[[sha256.Size]byte]struct{})\n		}\n		return err\n	}\n"},
		}, ct},
		{"tlog/ct/chain-without-bound", "a chain may be of any length", []edit{
			{chain, "	if len(chain) >= MaxChain {", "	if false {"},
			{chain, "	case len(path) > MaxChain:", "	case false:"},
		}, ct},
		{"tlog/ct/poison-not-checked", "a precertificate is logged as a certificate", []edit{
			{file, "	if hasPoison(path[0]) {", "	if false {"},
		}, ct},
		{"tlog/ct/issuer-of-the-issuer", "the issuer key hash is that of the last certificate of the chain", []edit{
			{file, "sha256.Sum256(path[1].RawSubjectPublicKeyInfo)", "sha256.Sum256(path[len(path)-1].RawSubjectPublicKeyInfo)"},
		}, ct},
	}
}

func fsckMutants() []mutant {
	fsck := []tests{{pkg: "./tlog/fsck"}}
	const rekor, dir, auditFile = "tlog/fsck/rekor.go", "tlog/fsck/dir.go", "tlog/fsck/audit.go"
	audits := []tests{{pkg: "./test/faults", run: "^TestAuditVerify$/^sqlite$"}}
	return []mutant{
		{"tlog/fsck/roots-not-compared", "the checker does not compare roots", []edit{
			{"tlog/fsck/fold.go", "if !bytes.Equal(e.root[:], root) {", "if false && !bytes.Equal(e.root[:], root) {"},
		}, fsck},
		{"tlog/fsck/sets-not-verified", "the checker does not verify SETs", []edit{
			{rekor, "if ecdsa.VerifyASN1(c.key, digest[:], e.Verification.SignedEntryTimestamp) {", "if true {"},
			{rekor, "	digest := sha256.Sum256([]byte(text))\n", "	_ = sha256.Sum256([]byte(text))\n"},
		}, fsck},
		{"tlog/fsck/proofs-not-verified", "the checker does not verify inclusion proofs", []edit{
			{rekor, "		err = proof.VerifyInclusion(rfc6962.DefaultHasher, leaf.index, p.TreeSize, leaf.hash[:], hashes, root)\n", "		_ = hashes\n"},
		}, fsck},
		{"tlog/fsck/other-checkpoint-beside-proof", "the checker does not compare a proof with the checkpoint beside it", []edit{
			{rekor, "if cp.Size != p.TreeSize || !bytes.Equal(cp.Root[:], root) {", "if false {"},
		}, fsck},
		{"tlog/fsck/consistency-not-verified", "the checker does not verify consistency proofs", []edit{
			{rekor, "		err = proof.VerifyConsistency(rfc6962.DefaultHasher, first.Size, last.Size, hashes, first.Root[:], last.Root[:])\n", "		_ = hashes\n"},
		}, fsck},
		{"tlog/fsck/tiles-not-compared", "the checker does not compare tiles", []edit{
			{dir, "		if got[i] != want[i] {", "		if false {"},
		}, fsck},
		{"tlog/fsck/memory-not-compared", "the checker does not compare the second memory", []edit{
			{dir, "	for _, cp := range states {\n", "	for _, cp := range states[:0] {\n"},
		}, fsck},
		{"tlog/fsck/audit-chain-not-compared", "the checker does not compare the hashes of audit rows", []edit{
			{auditFile, "		if !bytes.Equal(hash, c.report.Head[:]) {", "		if false && !bytes.Equal(hash, c.report.Head[:]) {"},
		}, audits},
		{"tlog/fsck/audit-gap", "the checker does not notice that an audit row is missing", []edit{
			{auditFile, "		if seq != last+1 {", "		if false {"},
		}, audits},
		{"tlog/fsck/audit-head-not-compared", "the checker does not look at the head of the audit log", []edit{
			{auditFile, "	if headSeq != last || !bytes.Equal(head, c.report.Head[:]) {", "	if false {"},
		}, audits},
		{"tlog/fsck/audit-noted-head", "the checker does not look for a head that was noted", []edit{
			{auditFile, "		c.heads[h] = true\n", "		_ = h\n"},
		}, audits},
		{"tlog/fsck/audit-issued-not-logged", "the checker does not look for issued certificates in the CT log", []edit{
			{auditFile, "		if s.leaf == nil {", "		if s != nil {"},
		}, audits},
		{"tlog/fsck/audit-signed-not-intended", "the checker does not look for the intent of a precertificate", []edit{
			{auditFile, "		if cert.late || !c.issuers[cert.issuer] {", "		if cert != nil {"},
		}, audits},
		{"tlog/fsck/audit-rows-not-compared", "the checker does not compare what was intended with what was issued", []edit{
			{auditFile, "		if was.what != r.what() {", "		if false {"},
		}, audits},
		{"tlog/fsck/scts-not-verified", "the checker does not verify the SCTs that a CT log has stored", []edit{
			{dir, "if verifySigned(c.key.pub, e.value, e.extra[2:n]) {", "if true {"},
		}, fsck},
		{"tlog/fsck/search-keys-not-compared", "the checker does not see search keys that lead nowhere", []edit{
			{dir, "	func(ctx context.Context) error { return c.tree(ctx, states) },\n		c.strayTiles,\n		c.searchKeys,\n", "	func(ctx context.Context) error { return c.tree(ctx, states) },\n		c.strayTiles,\n"},
		}, fsck},
		{"tlog/fsck/precert-not-compared", "the checker does not compare a logged TBSCertificate with its precertificate", []edit{
			{"tlog/fsck/certs.go", "		case !bytes.Equal(tbs, leaf.signed):", "		case false && !bytes.Equal(tbs, leaf.signed):"},
		}, fsck},
	}
}
