package main

func reloadMutants() []mutant {
	command := func(run string) []tests { return []tests{{pkg: "./cmd/sigstack", run: run}} }
	const reload, install, file = "cmd/sigstack/reload.go", "cmd/sigstack/install.go", "cmd/sigstack/chainfile.go"
	return []mutant{
		{"ca/trust-root-not-asked", "a certificate is signed with a chain that clients do not know", []edit{
			{"ca/ca.go", "	if !c.trusted(end) {", "	if false {"},
		}, []tests{{pkg: "./ca", run: "TestTrusted"}}},
		{"ca/request-not-verified", "a request for an intermediate need not be signed by its key", []edit{
			{"ca/request.go", "	if err := csr.CheckSignature(); err != nil {\n		return name,", "	if err := error(nil); err != nil {\n		return name,"},
		}, []tests{{pkg: "./ca", run: "TestIntermediateRequestRefused"}}},
		{"ca/identity/changed-issuer-kept", "an issuer that is configured otherwise is the one before", []edit{
			{"ca/identity/verifier.go", "	if !s.Issuer.equal(i) {", "	if false {"},
		}, []tests{{pkg: "./ca/identity", run: "TestBefore"}}},
		{"ca/identity/keys-forgotten", "each reload asks all issuers for their keys again", []edit{
			{"ca/identity/verifier.go", "		s := opts.Before.unchanged(i)", "		s := (*Verifier)(nil).unchanged(i)"},
		}, []tests{{pkg: "./ca/identity", run: "TestBefore"}}},
		{"api/fulcio/parts-of-two-sets", "a token that one configuration accepts is certified by the CA of the next", []edit{
			{"api/fulcio/fulcio.go", "	return parts.CA.Issue(ctx,", "	return s.parts.Load().CA.Issue(ctx,"},
		}, []tests{{pkg: "./api/fulcio", run: "TestReplace"}}},
		{"trust/authority-ends-at-once", "a chain ends in the trust root while what it signed is still used", []edit{
			{"trust/documents.go", "	authorityGrace = 25 * time.Hour", "	authorityGrace = time.Second"},
		}, []tests{{pkg: "./trust", run: "TestAuthorities"}}},
		{"trust/ended-authority-trusted", "a chain counts as trusted after its end", []edit{
			{"trust/repository.go", "	return ok && (valid.GetEnd() == nil || !until.After(valid.GetEnd().AsTime()))", "	return ok && valid != nil"},
		}, []tests{{pkg: "./trust", run: "TestAuthorities"}}},
		{"cmd/reload-not-published", "a new chain signs without being published", []edit{
			{reload, "	if err := s.publish(ctx, next); err != nil {", "	if err := error(nil); err != nil {"},
		}, command("TestReload$")},
		{"cmd/reload-roots", "the CT log does not accept another root", []edit{
			{reload, "		if !slices.ContainsFunc(roots, root.Equal) {", "		if len(roots) == 0 {"},
		}, command("TestReloadPublishes")},
		{"cmd/reload-forgets", "a chain that was replaced by hand is not trusted any more", []edit{
			{reload, "		next.chains.kept = without(kept, []chainFile{next.chains.active}, next.chains.next, next.chains.retired)\n", "		_ = kept\n"},
		}, command("TestReloadPublishes")},
		{"cmd/reload-retired-elsewhere", "a chain that another replica retired signs up to its end, and then nothing does", []edit{
			{reload, "	if s.trust.Trusts(i.chains.active.certs, s.now().Add(i.config.CA.Lifetime+trustAhead)) {", "	if i != nil {"},
		}, command("TestRetiredElsewhere")},
		{"cmd/retired-chain-not-checked", "a retired chain may be anything", []edit{
			{file, "		if err := ca.CheckChain(f.certs); err != nil {", "		if err := error(nil); err != nil {"},
		}, command("TestChainDirectories")},
		{"cmd/key-name-with-directory", "the file of a chain names a key in another directory", []edit{
			{file, "|| name == filepath.Base(name) && name != \".\" && name != \"..\")", "|| name == filepath.Clean(name))"},
		}, command("TestCARefuses")},
		{"cmd/install-not-kept", "the chain before is not kept", []edit{
			{install, "	return writeFile(name, chain.text())\n", "	if filepath.Dir(name) == i.config.retiredDir() {\n		return nil\n	}\n	return writeFile(name, chain.text())\n"},
		}, command("TestCAInstall$")},
		{"cmd/install-expired", "a chain is installed that cannot issue at this moment", []edit{
			{install, "	if err := issuing.Covers(now, now.Add(i.config.CA.Lifetime)); err != nil {", "	if err := error(nil); err != nil && issuing != nil && now.IsZero() {"},
		}, command("TestCARefuses")},
		{"cmd/install-over-damaged", "a chain in use that cannot be read is written over", []edit{
			{install, "	case !errors.Is(err, fs.ErrNotExist):\n		return \"\", fmt.Errorf(\"the chain in use", "	case false:\n		return \"\", fmt.Errorf(\"the chain in use"},
		}, command("TestCARefuses")},
		{"cmd/watch-gives-up", "what could not be used is not tried again", []edit{
			{"cmd/sigstack/watch.go", "	content, err := w.take(ctx, before)\n", "	if w.failed != \"\" {\n		return\n	}\n	content, err := w.take(ctx, before)\n"},
		}, command("TestWatch$")},
	}
}
