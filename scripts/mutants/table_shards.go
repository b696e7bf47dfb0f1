package main

func shardMutants() []mutant {
	one := func(pkg, run string) []tests { return []tests{{pkg: pkg, run: run}} }
	const log, freeze, add, shards = "tlog/rekor/rekor.go", "storage/mysql/freeze.go", "storage/mysql/append.go", "cmd/sigstack/shards.go"
	return []mutant{
		{"storage/sqlite/frozen-store-appends", "a store that is frozen takes a batch", []edit{
			{"storage/sqlite/store.go", "	if t.head.Frozen {", "	if false {"},
		}, suite("Freeze")},
		{"storage/mysql/frozen-not-seen", "a tree that is frozen looks like one that only fails", []edit{
			{"storage/mysql/store.go", "t.root == frozenAt", "false"},
		}, one("./storage/mysql", "TestConformance/Freeze")},
		{"storage/mysql/frozen-with-queue", "a tree is frozen while leaves are queued for it, whose search keys are there", []edit{
			{freeze, "	if queued {", "	if false {"},
		}, one("./storage/mysql", "TestFreezeQueue")},
		{"storage/mysql/queued-for-frozen", "leaves are queued for a tree that is frozen", []edit{
			{add, "	if state == frozenState {", "	if false {"},
		}, one("./storage/mysql", "TestFreezeQueue")},
		{"tlog/rekor/index-of-tree", "the index of an entry does not count the trees before the last", []edit{
			{log, "		s.base = last.base + tree.Size\n", "		s.base = tree.Size\n"},
		}, one("./tlog/rekor", "TestRotate$")},
		{"tlog/rekor/two-trees-in-use", "a tree follows one that still takes entries", []edit{
			{log, "		if !tree.Frozen {\n			return fmt.Errorf", "		if false {\n			return fmt.Errorf"},
		}, one("./tlog/rekor", "TestNewRefuses")},
		{"tlog/rekor/rotation-refused", "who meets a rotation is refused", []edit{
			{"tlog/rekor/entry.go", "		if !errors.Is(err, tlog.ErrFrozen) {\n", "		if true || !errors.Is(err, tlog.ErrFrozen) {\n"},
		}, one("./tlog/rekor", "TestFollow|TestRotateUnderWriters")},
		{"tlog/rekor/one-tree-searched", "a search does not look into frozen trees", []edit{
			{"tlog/rekor/search.go", "	for _, s := range shards {\n", "	for _, s := range shards[len(shards)-1:] {\n"},
		}, one("./tlog/rekor", "TestRotate$")},
		{"tlog/fsck/frozen-trees-unread", "fsck passes over the trees that are frozen", []edit{
			{"tlog/fsck/rekor.go", "			if found && failed == nil && c.begin(tree) {", "			if found && failed == nil && c.begin(tree) && false {"},
		}, one("./tlog/fsck", "TestRotated")},
		{"cmd/rotate-unpublished", "the log is rotated to a key before that is published", []edit{
			{shards, "	s.shards.Store(now)\n	if err := s.publishShards(ctx); err != nil {", "	s.shards.Store(now)\n	if err := error(nil); err != nil {"},
		}, one("./cmd/sigstack", "TestShards$")},
		{"cmd/shard-untrusted", "a tree is opened whose key the trust root does not have", []edit{
			{shards, "i < len(signers) && !s.trust.Contains(signers[i].Public()) {", "i < len(signers) && false {"},
		}, one("./cmd/sigstack", "TestShardUntrusted")},
		{"cmd/rotate-key-replaced", "the key of a tree that is in use may become another", []edit{
			{shards, "|| !samePublic(opened.signers[i].Public(), before.signers[i].Public()) {", "{"},
		}, one("./cmd/sigstack", "TestShards")},
		{"cmd/rotate-same-key", "two trees have one key", []edit{
			{"cmd/sigstack/rotate.go", "		if key.Equal(signer.Public()) {", "		if signer == nil {"},
		}, one("./cmd/sigstack", "TestRotateRefuses")},
		{"storage/transfer/copy-not-frozen", "the copy of a tree that is frozen takes entries", []edit{
			{"storage/transfer/transfer.go", "	if end.Frozen && !head.Frozen {", "	if false {"},
		}, one("./storage/transfer", "TestFrozen")},
		{"migrate/root-not-compared", "an import is believed whatever its entries lead to", []edit{
			{"tlog/migrate/migrate.go", "if head.Size != tree.Size || head.Root != tree.Root {", "if head.Size != tree.Size {"},
		}, one("./tlog/migrate", "TestImportRefuses")},
		{"migrate/head-not-verified", "the size that a server claims needs no signature", []edit{
			{"tlog/migrate/api.go", " || head.Size != i.TreeSize || ", " || "},
		}, one("./tlog/migrate", "TestAPIRefuses")},
		{"migrate/attestation-not-hashed", "any attestation of another server is kept", []edit{
			{"tlog/migrate/migrate.go", "got != sum {", "false && got != sum {"},
		}, one("./tlog/migrate", "TestImportRefuses")},
		{"migrate/uuid-not-compared", "an entry of another server may have another UUID than its body", []edit{
			{"tlog/migrate/api.go", "if leaf := hex.EncodeToString(hash[:]); uuid != leaf && ", "if leaf := hex.EncodeToString(hash[:]); false && "},
		}, one("./tlog/migrate", "TestAPIRefuses")},
		{"migrate/first-tree-again", "entries of the second tree are asked for by the indices of the first", []edit{
			{"tlog/migrate/api.go", "		first += tree.Size\n", ""},
		}, one("./tlog/migrate", "TestAPI$")},
		{"import/half-served", "a server starts on half an import", []edit{
			{shards, "if err == nil && k.importing {", "if false {"},
		}, one("./test/e2e", "TestImport$/sqlite")},
		{"import/source-not-asked-again", "a source that is written to during an import is not noticed", []edit{
			{"cmd/sigstack/import.go", "if now[n].ID != tree.ID || now[n].Size != tree.Size || now[n].Root != tree.Root {", "if now[n].ID != tree.ID {"},
		}, one("./test/e2e", "TestImport$/sqlite")},
		{"import/not-frozen", "an imported tree takes entries", []edit{
			{"cmd/sigstack/import.go", "if err := tree.store.Freeze(ctx); err != nil {", "if err := error(nil); err != nil {"},
		}, one("./test/e2e", "TestImport$/sqlite")},
		{"trust/imported-key-unknown", "the trust root lacks the keys of trees that were imported", []edit{
			{"cmd/sigstack/reload.go", "		RetiredRekorV1: s.retiredTrees,\n", ""},
		}, one("./test/e2e", "TestImport$/sqlite")},
		{"trust/imported-key-late", "the key of an imported tree is valid a moment after its first entry", []edit{
			{"trust/documents.go", "timestamppb.New(l.First.Truncate(time.Second))", "timestamppb.New(l.First)"},
		}, one("./trust", "TestRetiredLog")},
	}
}
