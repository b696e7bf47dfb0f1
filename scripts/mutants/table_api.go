package main

func entryMutants() []mutant {
	entry := []tests{{pkg: "./tlog/entry"}}
	envelope := []tests{{pkg: "./tlog/entry", run: "TestDSSE|TestGolden"}}
	statement := []tests{{pkg: "./tlog/entry", run: "TestInToto"}}
	message := []tests{{pkg: "./tlog/entry", run: "TestCOSE"}}
	packages := func(run string) []tests { return []tests{{pkg: "./tlog/entry", run: run}} }
	const dsse, intoto, cose, alpine, rpm, helm = "tlog/entry/dsse.go", "tlog/entry/intoto.go", "tlog/entry/cose.go", "tlog/entry/alpine.go", "tlog/entry/rpm.go", "tlog/entry/helm.go"
	return []mutant{
		{"tlog/entry/signature-not-verified", "a hashedrekord is taken whatever it is signed with", []edit{
			{"tlog/entry/hashedrekord.go", "if err := h.key.VerifyDigest(hash, h.hash.raw(), h.sig); err != nil {", "if err := error(nil); err != nil {"},
		}, entry},
		{"tlog/entry/claim-in-lower-case", "what a certificate claims is found by the search of Rekor, and a statement may claim it, too", []edit{
			{"tlog/entry/search.go", "Claim = \"Issuer:\"", "Claim = \"issuer:\""},
		}, []tests{{pkg: "./tlog/entry", run: "TestClaims"}}},
		{"tlog/entry/any-hash", "a key may be used with any hash", []edit{
			{"tlog/entry/hashedrekord.go", "	if hashNames[hash] != h.hash.algorithm {", "	if hash == 0 {"},
		}, entry},
		{"tlog/entry/dsse-signature-uncovered", "a signature of an envelope that no key verifies is stored", []edit{
			{dsse, "	if uncovered > 0 {", "	if false {"},
		}, envelope},
		{"tlog/entry/dsse-without-bounds", "an envelope may have any number of signatures and verifiers", []edit{
			{dsse, "		if len(list) == maxVerifiers {", "		if false {"},
			{dsse, "	if len(env.sigs) == maxSignatures {", "	if false {"},
		}, envelope},
		{"tlog/entry/dsse-verifiers-without-bound", "an envelope may have any number of verifiers", []edit{
			{dsse, "		if len(list) == maxVerifiers {", "		if false {"},
		}, envelope},
		{"tlog/entry/dsse-ed25519-without-budget", "many Ed25519 keys read a large payload many times", []edit{
			{dsse, "if v.budget -= len(v.pae); v.budget < 0 {", "if v.budget -= len(v.pae); false {"},
		}, entry},
		{"tlog/entry/dsse-type-not-signed", "the payload type of an envelope is not in what is verified", []edit{
			{dsse, "	out = append(out, env.payloadType...)\n", ""},
		}, envelope},
		{"tlog/entry/dsse-unsorted", "the stored form depends on the order of the signatures", []edit{
			{dsse, "	slices.SortFunc(env.sigs, func(a, b dsseSignature) int { return strings.Compare(a.text, b.text) })\n", "	_ = strings.Compare\n"},
		}, entry},
		{"tlog/entry/intoto-001-not-verified", "an intoto 0.0.1 envelope is taken whatever it is signed with", []edit{
			{intoto, "	if err := env.verifyOne(e.key); err != nil {", "	if err := error(nil); err != nil {"},
		}, statement},
		{"tlog/entry/intoto-002-not-verified", "an intoto 0.0.2 envelope is taken whatever it is signed with", []edit{
			{intoto, "		if !ok {", "		if false && !ok {"},
		}, statement},
		{"tlog/entry/intoto-002-without-bound", "an intoto 0.0.2 envelope may have any number of signatures and keys", []edit{
			{intoto, "	if len(e.sigs) == maxSignatures {", "	if false {"},
		}, statement},
		{"tlog/entry/intoto-002-long-text", "the text that an intoto 0.0.2 entry stores unhashed may be of any length", []edit{
			{intoto, "	if err == nil && len(s) > maxLabel {", "	if false {"},
		}, statement},
		{"tlog/entry/intoto-002-claimed-hash", "an intoto 0.0.2 entry is found by a hash that the client claims", []edit{
			{intoto, "	s.add(e.payload.searchKey())\n", "	s.add(e.payload.searchKey(), e.hash.searchKey())\n"},
		}, statement},
		{"tlog/entry/intoto-002-unescaped", "text of an intoto 0.0.2 entry is stored without escapes", []edit{
			{"tlog/entry/canonical.go", "	case '\"', '\\\\':\n		return append(out, '\\\\', c)\n", ""},
		}, statement},
		{"tlog/entry/cose-not-verified", "a cose message is taken whatever it is signed with", []edit{
			{cose, "	if err := verifyCOSE(sign1, aad, c.key); err != nil {", "	if err := error(nil); err != nil || len(aad) > 1<<30 {"},
		}, message},
		{"tlog/entry/cose-chain-not-verified", "a cose message is taken with certificates that do not lead to one another", []edit{
			{cose, "	if err := key.VerifyChain(); err != nil {", "	if err := key.VerifyChain(); false && err != nil {"},
		}, message},
		{"tlog/entry/cose-any-curve", "a cose message may be signed on any curve", []edit{
			{cose, "		if pub.Curve == elliptic.P256() {", "		if pub.Curve == elliptic.P256() || true {"},
		}, message},
		{"tlog/entry/cose-long-headers", "the headers of a cose message may have any length", []edit{
			{cose, "	case size > maxCOSEHeaders:", "	case false:"},
			{cose, "	if len(protected)+len(unprotected)-len(after) > maxCOSEHeaders {", "	if len(after) > len(unprotected) {"},
		}, message},
		{"tlog/entry/cose-many-items", "the headers of a cose message may have any number of items", []edit{
			{cose, "	if w.items--; w.items < 0 {", "	if w.items--; false {"},
		}, message},
		{"tlog/entry/cose-deep-headers", "the headers of a cose message may nest as deep as they like", []edit{
			{cose, "	if depth == 0 {", "	if false {"},
		}, message},
		{"tlog/entry/names-in-order-of-bytes", "members whose names are not ours are sorted by their bytes, not by code units of UTF-16", []edit{
			{"tlog/entry/canonical.go", "	if r > 0xffff {\n		return 0xd800", "	if false {\n		return 0xd800"},
		}, packages("TestAlpineCharacters")},
		{"tlog/entry/string-not-escaped", "a control character in what the maker of a package wrote is stored as it is", []edit{
			{"tlog/entry/canonical.go", "	if c < 0x20 {", "	if false {"},
		}, packages("TestAlpineCharacters")},
		{"tlog/entry/alpine-signature-not-verified", "a package of Alpine Linux is taken whatever it is signed with", []edit{
			{alpine, "pkg.controlHash, pkg.signature); err != nil {", "pkg.controlHash, pkg.signature); false {"},
		}, packages("TestAlpine")},
		{"tlog/entry/alpine-data-not-compared", "the data of a package is not what its signed part says", []edit{
			{alpine, "	if !bytes.Equal(data[:], said) {", "	if len(said) > len(data) {"},
		}, packages("TestAlpine")},
		{"tlog/entry/alpine-segment-without-bound", "a segment of a package is decompressed to any size", []edit{
			{alpine, "N: maxAPKSegment + 1}", "N: 1 << 40}"},
		}, packages("TestAlpineBombs")},
		{"tlog/entry/alpine-file-without-bound", "a file with holes is read to the size that it states", []edit{
			{alpine, "		if h.Size > maxAPKSegment {", "		if false {"},
		}, packages("TestAlpineBombs")},
		{"tlog/entry/alpine-names-without-bound", ".PKGINFO may have any number of names", []edit{
			{alpine, "			if len(info) == maxPkginfoNames {", "			if false {"},
		}, packages("TestParsePkginfo")},
		{"tlog/entry/alpine-pkginfo-without-bound", "a small package makes an entry of a megabyte", []edit{
			{alpine, "size > maxPkginfoSize {", "false {"},
		}, packages("TestParsePkginfo")},
		{"tlog/entry/rpm-signature-not-verified", "an RPM is taken whatever it is signed with", []edit{
			{rpm, "key.Verify(s.over, sig); err != nil {", "key.Verify(s.over, sig); false {"},
		}, packages("TestRPM")},
		{"tlog/entry/rpm-not-signed", "an RPM without a signature is taken", []edit{
			{rpm, "	case signatures == 0:\n		return errors.New(\"no supported PGP signature found in RPM\")\n	case !covered:\n", "	case signatures > 0 && !covered:\n"},
		}, packages("TestRPM")},
		{"tlog/entry/rpm-payload-not-covered", "an RPM is taken whose payload no signature covers", []edit{
			{rpm, "	case !covered:", "	case false:"},
		}, packages("TestRPM")},
		{"tlog/entry/rpm-payload-not-compared", "the payload of an RPM is not what its signed header says", []edit{
			{rpm, "				if hexDigest(h, p.payload) != want {", "				if want == \"\" {"},
		}, packages("TestRPM")},
		{"tlog/entry/rpm-size-believed", "the header of an RPM is read to the size that it states", []edit{
			{rpm, "	if uint64(len(b)-intro) < entries+data {", "	if false {"},
		}, packages("TestRPM")},
		{"tlog/entry/rpm-data-shared", "many entries of an RPM may point to the same strings, which are read for each", []edit{
			{rpm, "		left -= len(content)\n", "		_ = content\n"},
		}, packages("TestRPM")},
		{"tlog/entry/helm-signature-not-verified", "a provenance file is taken whatever it is signed with", []edit{
			{helm, "h.key.Verify(message.Signed, message.Signature); err != nil {", "h.key.Verify(message.Signed, message.Signature); false {"},
		}, packages("TestHelm")},
		{"tlog/entry/helm-one-of-several", "of several files in a provenance file one is stored", []edit{
			{helm, "n != 1 {", "n < 1 {"},
		}, packages("TestHelm")},
		{"tlog/entry/helm-checksums-without-bound", "YAML of any size is read", []edit{
			{helm, "	if len(sums) > maxChartSums {", "	if false {"},
		}, packages("TestHelm")},
		{"tlog/entry/sigkey-packets-without-bound", "a container may hold many signatures, each over all of it", []edit{
			{"tlog/entry/sigkey/pgp.go", "	if n := len(sig.(*pgpSignature).packets); n > 1 {", "	if n := len(sig.(*pgpSignature).packets); n > maxPGPSignatures {"},
		}, []tests{{pkg: "./tlog/entry/sigkey", run: "TestParseClearSigned"}}},
		{"tlog/entry/sigkey-escapes-kept", "the dashes before a line of a signed text are taken for the text", []edit{
			{"tlog/entry/sigkey/clearsign.go", "		l = bytes.TrimPrefix(l, []byte(\"- \"))\n", ""},
		}, []tests{{pkg: "./tlog/entry/sigkey", run: "TestParseClearSigned"}}},
	}
}

func apiMutants() []mutant {
	status := []tests{{pkg: "./api"}}
	rekor := []tests{{pkg: "./api/rekorv1"}}
	fulcio := []tests{{pkg: "./api/fulcio"}}
	ctlog := []tests{{pkg: "./api/ctlog"}}
	tuf := []tests{{pkg: "./api/tuf"}}
	issuer := []tests{{pkg: "./api/devoidc"}}
	const entries, http = "api/rekorv1/entries.go", "api/fulcio/http.go"
	return []mutant{
		{"api/unavailable-is-400", "trouble of ours is answered as the client's", []edit{
			{"api/status.go", "		return http.StatusServiceUnavailable\n", "		return http.StatusBadRequest\n"},
		}, status},
		{"api/integrity-is-503", "a contradiction in a log is answered as trouble that passes", []edit{
			{"api/status.go", "	case errors.Is(err, tlog.ErrIntegrity):\n		return http.StatusInternalServerError\n", "	case errors.Is(err, tlog.ErrIntegrity):\n		return http.StatusServiceUnavailable\n"},
		}, status},
		{"api/cors-without-origin", "a page of another origin cannot read an answer", []edit{
			{"api/cors.go", "	h.Set(\"Access-Control-Allow-Origin\", \"*\")\n", ""},
		}, []tests{{pkg: "./api/rekorv1", run: "TestPathsAndCORS"}}},
		{"api/grpc-code-lost", "a gRPC call that failed is counted as none", []edit{
			{"api/server.go", "	if err != nil || n > uint64(codes.Unauthenticated) {", "	if err != nil || n > 0 {"},
		}, status},
		{"api/panic-ends-server", "a panic in a handler is not recovered", []edit{
			{"api/server.go", "			if p := recover(); p != nil && p != http.ErrAbortHandler {", "			if p := any(nil); p != nil {"},
		}, status},
		{"api/idle-not-reclaimed", "idle connections are kept when there is no descriptor for the next one", []edit{
			{"api/reclaim.go", "		r.closeSome()\n", ""},
		}, status},
		{"api/busy-reclaimed", "a connection with a request under way is closed to make room", []edit{
			{"api/reclaim.go", "	} else {\n		delete(r.idle, c)\n", "	} else {\n"},
		}, status},
		{"api/paths-not-clean", "a path with dot segments reaches the handlers", []edit{
			{"api/server.go", "		if !clean(r.URL.Path) {", "		if false {"},
		}, status},

		{"api/rekorv1/body-without-bound", "a submission may be of any size", []edit{
			{"api/rekorv1/negotiate.go", "	if r.ContentLength > limit {", "	if false {"},
			{"api/rekorv1/negotiate.go", "b.ReadFrom(http.MaxBytesReader(w, r.Body, limit))", "b.ReadFrom(r.Body)"},
		}, rekor},
		{"api/rekorv1/post-refused-for-accept", "an entry is refused for the media types that its sender accepts", []edit{
			{"api/rekorv1/negotiate.go", "		return nil\n	}\n	accepts :=", "	}\n	accepts :="},
		}, []tests{{pkg: "./api/rekorv1", run: "TestNegotiation"}}},
		{"api/rekorv1/unreadable-proposal-is-shape", "a retrieval that cannot be read because a proposal has no kind is answered as one of a wrong shape", []edit{
			{entries, "			return malformed(\"entry\", err)\n", "			return err\n"},
		}, []tests{{pkg: "./api/rekorv1", run: "TestBadInput"}}},
		{"api/rekorv1/etag-quoted", "the ETag of a new entry has quotes", []edit{
			{entries, "header.Set(\"ETag\", e.UUID)", "header.Set(\"ETag\", `\"`+e.UUID+`\"`)"},
		}, rekor},
		{"api/rekorv1/409-without-location", "a duplicate is answered without the place of the entry", []edit{
			{entries, "			w.Header().Set(\"Location\", location(r, exists.UUID))\n", "			_ = exists.UUID\n"},
		}, rekor},
		{"api/rekorv1/503-without-retry-after", "a client is not told to try again", []edit{
			{"api/rekorv1/fail.go", "		w.Header().Set(\"Retry-After\", \"1\")\n", ""},
		}, rekor},
		{"api/rekorv1/cause-told", "a client is told the inside of a failure", []edit{
			{"api/rekorv1/fail.go", "		message = \"the transparency log is temporarily unavailable, try again\"\n", ""},
		}, rekor},
		{"api/rekorv1/get-may-be-stored", "a cache may keep answers", []edit{
			{"api/rekorv1/rekorv1.go", "		neverStore(w.Header())\n", ""},
		}, rekor},
		{"api/rekorv1/disabled-operation-served", "an operation that the operator has disabled is served", []edit{
			{"api/rekorv1/rekorv1.go", "!slices.Contains(cfg.Operations, op.name)", "slices.Contains(cfg.Operations, op.name)"},
		}, []tests{{pkg: "./api/rekorv1", run: "TestEnabled"}}},
		{"api/rekorv1/disabled-kind-taken", "an entry of a kind that is not enabled is added", []edit{
			{"api/rekorv1/entries.go", "	return kind, slices.Contains(h.cfg.Kinds, kind)\n", "	return kind, true\n"},
		}, []tests{{pkg: "./api/rekorv1", run: "TestEnabled"}}},
		{"api/rekorv1/retrieve-without-bound", "one request may ask for any number of entries", []edit{
			{entries, "	if len(req.entries)+len(req.uuids)+len(req.indexes) > maxItems {", "	if false {"},
		}, rekor},
		{"api/rekorv1/member-twice", "of a member that stands twice the last counts", []edit{
			{"api/rekorv1/json.go", "		case slices.Contains(seen, name):", "		case false:"},
		}, rekor},

		{"api/fulcio/body-without-bound", "a request for a certificate may be of any size", []edit{
			{http, "io.ReadAll(http.MaxBytesReader(w, r.Body, s.cfg.MaxBody))", "io.ReadAll(r.Body)"},
		}, fulcio},
		{"api/fulcio/message-without-bound", "a gRPC message may be of any size", []edit{
			{"api/fulcio/fulcio.go", "grpc.NewServer(grpc.MaxRecvMsgSize(int(cfg.MaxBody)))", "grpc.NewServer(grpc.MaxRecvMsgSize(1 << 30))"},
		}, fulcio},
		{"api/fulcio/cause-told", "a client is told the inside of a failure", []edit{
			{"api/fulcio/fulcio.go", "		return issuing.Public()\n", "		return issuing.Error()\n"},
		}, fulcio},
		{"api/fulcio/second-value-passed-over", "what follows the first JSON value is passed over", []edit{
			{http, "	case len(body) > 0 && !json.Valid(body):", "	case len(body) > 0 && !json.Valid(body) && body[0] != '{':"},
		}, fulcio},
		{"api/fulcio/panic-ends-server", "a panic in a gRPC method ends the process", []edit{
			{"api/fulcio/fulcio.go", "	if p := recover(); p != nil {\n		s.panicked(ctx, method, p)", "	if p := any(nil); p != nil {\n		s.panicked(ctx, method, p)"},
		}, fulcio},

		{"api/ctlog/body-without-bound", "a submission to the CT log may be of any size", []edit{
			{"api/ctlog/ctlog.go", "	if r.ContentLength > MaxBody {\n		return nil, tooLarge\n	}\n", ""},
			{"api/ctlog/ctlog.go", "io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))", "io.ReadAll(r.Body)"},
		}, ctlog},
		{"api/ctlog/chain-without-bound", "a submitted chain may have any number of certificates", []edit{
			{"api/ctlog/ctlog.go", "		if len(*c) == ct.MaxChain {", "		if false {"},
		}, ctlog},
		{"api/ctlog/entries-without-bound", "get-entries gives any number of entries", []edit{
			{"api/ctlog/ctlog.go", "end := min(last+1, (start/MaxEntries+1)*MaxEntries)", "end := last + 1"},
		}, ctlog},
		{"api/ctlog/cut-range-cached", "a range that was cut is cached for a day", []edit{
			{"api/ctlog/ctlog.go", "	if start+uint64(len(entries)) == last+1 {", "	if true {"},
		}, ctlog},

		{"api/tuf/next-root-403", "the root after the newest is 403 instead of 404", []edit{
			{"api/tuf/tuf.go", "	data, ok := files.File(name)\n	if !ok {\n		fail(w, http.StatusNotFound,", "	data, ok := files.File(name)\n	if !ok {\n		fail(w, http.StatusForbidden,"},
		}, tuf},
		{"api/tuf/404-cached", "a cache may keep the answer that there is no next root", []edit{
			{"api/tuf/tuf.go", "	h.Set(\"Cache-Control\", \"no-store\")\n", ""},
		}, tuf},
		{"api/tuf/timestamp-cached", "a cache may keep timestamp.json for ever", []edit{
			{"api/tuf/tuf.go", "	if trust.Immutable(name) {", "	if trust.Immutable(name) || strings.HasSuffix(name, \".json\") {"},
		}, tuf},

		{"api/devoidc/redirect-anywhere", "a browser is sent with its code to any host", []edit{
			{"api/devoidc/authorize.go", "	switch host {\n	case \"localhost\", \"127.0.0.1\", \"[::1]\":\n		return u, nil\n	}\n	return nil, bad\n", "	_ = host\n	return u, nil\n"},
		}, issuer},
		{"api/devoidc/verifier-not-compared", "a code is redeemed without its PKCE verifier", []edit{
			{"api/devoidc/exchange.go", "	if e := matchVerifier(g.challenge, v.Get(\"code_verifier\")); e != nil {", "	if e := (*oauthError)(nil); e != nil {"},
		}, issuer},
		{"api/devoidc/any-host", "the issuer answers under any host name", []edit{
			{"api/devoidc/issuer.go", "	if !s.ownHost(r.Host) {", "	if false {"},
		}, issuer},
		{"api/devoidc/form-mints", "a form of a foreign page gets a token", []edit{
			{"api/devoidc/exchange.go", "	if r.Header.Get(\"X-Sigstack-Dev\") != \"1\" {", "	if false {"},
		}, issuer},
		{"api/devoidc/body-without-bound", "a form may be of any size", []edit{
			{"api/devoidc/form.go", "io.ReadAll(http.MaxBytesReader(w, r.Body, maxForm))", "io.ReadAll(r.Body)"},
			{"api/devoidc/form.go", "	if len(raw) > maxForm {", "	if false {"},
		}, issuer},
	}
}

func trustMutants() []mutant {
	keys := []tests{{pkg: "./trust/keys"}}
	const repo, docs = "trust/repository.go", "trust/documents.go"
	const putSnapshot = "		if err := r.put(next, versioned(signed.Signed.Version, Snapshot), data); err != nil {\n			return err\n		}\n"
	const putTimestamp = "		if err := r.put(next, \"timestamp.json\", data); err != nil {\n			return err\n		}\n"
	return []mutant{
		{"trust/timestamp-first", "timestamp.json is written before the snapshot that it names", []edit{
			{repo, putSnapshot, "		name := versioned(signed.Signed.Version, Snapshot)\n		next.own[name] = data\n		late = func() error { return r.put(next, name, data) }\n"},
			{repo, putTimestamp, putTimestamp + "		if err := late(); err != nil {\n			return err\n		}\n"},
			{repo, "	next := &generation{own: map[string][]byte{}}\n	if base == nil {", "	late := func() error { return nil }\n	next := &generation{own: map[string][]byte{}}\n	if base == nil {"},
		}, []tests{{pkg: "./trust", run: "TestInterruptedAnywhere"}}},
		{"trust/replica-shows-unstored", "a replica shows TUF metadata that could not be stored for the others", []edit{
			{"trust/shared.go", "			if version, err = s.place.Replace(ctx, after, version); err != nil {", "			if _, err := s.place.Replace(ctx, after, version); err != nil && false {"},
		}, []tests{{pkg: "./trust", run: "TestShared$"}}},
		{"trust/retired-dropped", "a log that is not in use any more is not trusted any more", []edit{
			{docs, "	return append(out, inUse...), nil\n", "	return inUse, nil\n"},
		}, []tests{{pkg: "./trust", run: "TestKeyChange|TestDocuments|TestManyChanges|TestSameMaterial"}}},
		{"trust/retired-ca-dropped", "a certificate authority that is not in use any more is not trusted any more", []edit{
			{docs, "	return append(out, inUse...)\n}\n\n// instance is", "	return inUse\n}\n\n// instance is"},
		}, []tests{{pkg: "./trust", run: "TestKeyChange|TestDocuments|TestManyChanges|TestSameMaterial"}}},
		{"trust/retired-without-end", "a retired log is trusted without an end", []edit{
			{docs, "			retire(p.PublicKey.ValidFor, now.Add(logGrace))\n", ""},
		}, []tests{{pkg: "./trust", run: "TestKeyChange|TestDocuments|TestManyChanges|TestSameMaterial"}}},
		{"trust/start-moves", "a log that is known begins to be valid anew with each publication", []edit{
			{docs, "			start = p.GetPublicKey().GetValidFor().GetStart()\n", ""},
		}, []tests{{pkg: "./trust", run: "TestKeyChange|TestDocuments|TestManyChanges|TestSameMaterial"}}},
		{"trust/version-reused", "a version is used again after a publication that failed", []edit{
			{repo, "	r.highest[role]++\n	return r.highest[role]\n", "	if g := r.current.Load(); g != nil {\n		r.highest[Targets], r.highest[Snapshot], r.highest[Timestamp] = g.targets.Signed.Version, g.snapshot.Signed.Version, g.timestamp.Signed.Version\n	}\n	r.highest[role]++\n	return r.highest[role]\n"},
		}, []tests{{pkg: "./trust", run: "TestFailedWrite|TestVersionsAreUsedOnce"}}},
		{"trust/root-chain-not-verified", "a root is taken that the root before it did not sign", []edit{
			{repo, "		for _, by := range []*metadata.Metadata[metadata.RootType]{r.root, root} {", "		for _, by := range []*metadata.Metadata[metadata.RootType]{root} {"},
		}, []tests{{pkg: "./trust", run: "TestForeignRoot"}}},
		{"trust/never-renewed", "the timestamp is not signed again in time", []edit{
			{repo, "	return left <= life-age || left > life+time.Hour\n", "	return left <= 0 && age > 0 || left > life+time.Hour\n"},
		}, []tests{{pkg: "./trust", run: "TestTwoYears|TestOpenAfterLongPause"}}},
		{"trust/old-files-gone", "a client in the middle of an update does not find the files of the generation before", []edit{
			{repo, "	if before != nil {\n		for name", "	if false {\n		for name"},
		}, []tests{{pkg: "./trust", run: "TestClientInTheMiddle"}}},
		{"trust/any-log-key", "a log key is published that half of the clients cannot use", []edit{
			{"trust/material.go", "if !ok || key == nil || key.Curve != elliptic.P256() {", "if !ok || key == nil || key.Curve == elliptic.P521() {"},
		}, []tests{{pkg: "./trust", run: "TestRefusedMaterial"}}},
		{"trust/keys/mode-not-checked", "a key file that others can read is opened", []edit{
			{"trust/keys/file.go", "mode&0o077 != 0 {", "mode&0o077 > 0o777 {"},
		}, keys},
		{"trust/keys/overwritten", "a new key replaces the one that is there", []edit{
			{"trust/keys/file.go", "	if err := os.Link(tmp.Name(), path); errors.Is(err, fs.ErrExist) {", "	if err := os.Rename(tmp.Name(), path); errors.Is(err, fs.ErrExist) {"},
		}, keys},
		{"trust/keys/key-store-waited-for", "a caller waits for a key store as long as its driver does", []edit{
			{"trust/keys/remote.go", "	case <-ctx.Done():\n		var none T\n		return none, ctx.Err()\n	}\n", "	}\n"},
		}, []tests{{pkg: "./trust/keys", run: "TestRemoteKeepsDigest"}}},
		{"trust/keys/panic-of-driver", "a driver that panics ends the server", []edit{
			{"trust/keys/remote.go", "			if p := recover(); p != nil {", "			if p := error(nil); p != nil {"},
		}, []tests{{pkg: "./trust/keys", run: "TestRemoteOutlivesPanics"}}},
		{"trust/keys/secret-in-error", "an error repeats a secret that a key service has quoted", []edit{
			{"trust/keys/remote.go", "		if secret != \"\" {", "		if false {"},
		}, []tests{{pkg: "./trust/keys", run: "TestPlain"}}},
		{"trust/keys/any-kind-elsewhere", "a key of any kind is opened at a key service", []edit{
			{"trust/keys/remote.go", "	if kind != \"\" {", "	if false {"},
		}, []tests{{pkg: "./trust/keys", run: "TestRemoteKinds"}}},
		{"trust/keys/pin-in-uri", "a PIN may stand in a URI", []edit{
			{"trust/keys/pkcs11.go", "	case \"pin-value\":\n", "	case \"pin-value\":\n		k.pin = \"/\"\n		return nil\n	case \"\":\n"},
		}, []tests{{pkg: "./trust/keys", run: "TestCheck"}}},
		{"trust/keys/kdf-without-bound", "a key file may ask for any amount of memory", []edit{
			{"trust/keys/encrypted.go", " || k.n > maxScrypt/128 || k.r > maxScrypt/128/k.n", ""},
		}, []tests{{pkg: "./trust/keys", run: "TestEncryptedBounds"}}},
		{"trust/keys/weak-rsa", "an RSA key of 1024 bits is opened", []edit{
			{"trust/keys/keys.go", "	minRSABits = 2048\n", "	minRSABits = 512\n"},
		}, keys},
	}
}

func cmdMutants() []mutant {
	config := []tests{{pkg: "./cmd/sigstack"}}
	const acme = "cmd/sigstack/acme.go"
	const file = "cmd/sigstack/config.go"
	return []mutant{
		{"cmd/sigstack/acme-any-host", "a challenge is answered for hosts that are not configured", []edit{
			{acme, "	if !slices.Contains(a.domains, strings.ToLower(host)) {", "	if host == \"\" {"},
		}, []tests{{pkg: "./cmd/sigstack", run: "TestACME"}}},
		{"cmd/sigstack/acme-open-key", "the key of a certificate is used although others may read it", []edit{
			{acme, "err == nil && info.Mode().Perm()&0o077 != 0 {", "err == nil && info.Mode().Perm() == 0 {"},
		}, []tests{{pkg: "./cmd/sigstack", run: "TestACME"}}},
		{"cmd/sigstack/acme-asked-always", "an ACME server that refuses is asked again at once", []edit{
			{acme, "	if now.Before(tries.next) {", "	if false {"},
		}, []tests{{pkg: "./cmd/sigstack", run: "TestACME"}}},
		{"cmd/sigstack/acme-renewal-unsaid", "nobody is told that a renewal is overdue", []edit{
			{acme, "!tries.stale && now.Add(left).After(leaf.NotAfter) {", "false && now.Add(left).After(leaf.NotAfter) {"},
		}, []tests{{pkg: "./cmd/sigstack", run: "TestACME"}}},
		{"cmd/sigstack/acme-terms-not-accepted", "an ACME server is asked without its terms being accepted", []edit{
			{"cmd/sigstack/config.go", "	if !a.AcceptTerms {\n", "	if false {\n"},
		}, []tests{{pkg: "./cmd/sigstack", run: "TestACME"}}},
		{"cmd/sigstack/token-not-claimed", "a token that is good for one key is not claimed for it", []edit{
			{"cmd/sigstack/audit.go", "	if i.Token.OneTime {", "	if false {"},
		}, []tests{{pkg: "./cmd/sigstack", run: "TestOneTimeTokens"}}},
		{"cmd/sigstack/claims-not-kept", "the claims of a token are not in the audit log", []edit{
			{"cmd/sigstack/audit.go", "OneTime: i.Token.OneTime, Claims: i.Claims,", "OneTime: i.Token.OneTime, Claims: []byte(`{}`),"},
		}, []tests{{pkg: "./cmd/sigstack", run: "TestAuditRows"}}},
		{"ca/ready-without-lifetime", "the server is ready although the chain ends before a certificate would", []edit{
			{"ca/ca.go", "	return c.usable(c.chain.begin(now, c.backdate), now.Add(c.lifetime))", "	return c.usable(c.chain.begin(now, c.backdate), now.Add(DefaultLifetime))"},
		}, []tests{{pkg: "./ca", run: "TestReady"}}},
		{"cmd/sigstack/lifetime-without-bound", "certificates may live for years", []edit{
			{file, "|| c.CA.Lifetime > ca.MaxLifetime ||", "||"},
		}, config},
		{"cmd/sigstack/dev-issuer-for-everybody", "the development issuer listens on any address", []edit{
			{file, "	if c.Dev && !c.DevAllowRemote && !loopback(c.Listen) {", "	if false {"},
		}, config},
		{"cmd/sigstack/unknown-key-ignored", "an unknown key of the configuration is passed over", []edit{
			{"cmd/sigstack/configfile.go", "		default:\n			f.unknown(here, m.key, known)\n", "		default:\n"},
		}, config},
		{"cmd/sigstack/empty-number", "an empty number of the configuration is zero", []edit{
			{"cmd/sigstack/configfile.go", "	case n.Value == \"\" && !isText:\n", "	case false && isText:\n"},
		}, []tests{{pkg: "./cmd/sigstack", run: "TestMistakes"}}},
		{"cmd/sigstack/line-not-told", "a mistake in a configuration has the line after its own", []edit{
			{"cmd/sigstack/configfile.go", "f.add(mistake{file: f.name, line: at.line, ", "f.add(mistake{file: f.name, line: at.line + 1, "},
		}, []tests{{pkg: "./cmd/sigstack", run: "TestMistakes"}}},
		{"cmd/sigstack/merge-overrides", "a merge key replaces a key that stands beside it", []edit{
			{"cmd/sigstack/configfile.go", "			if seen[m.key] == 0 { // the first", "			if members = slices.DeleteFunc(members, func(o member) bool { return o.key == m.key }); true { // the first"},
		}, []tests{{pkg: "./cmd/sigstack", run: "TestIssuers"}}},
		{"cmd/sigstack/pod-token-elsewhere", "the pod's token is sent to any host", []edit{
			{"cmd/sigstack/cluster.go", "	if r.URL.Scheme != \"https\" || r.URL.Host != c.host {\n", "	if false {\n"},
		}, []tests{{pkg: "./cmd/sigstack", run: "TestCluster"}}},
		{"cmd/sigstack/keys-made-in-production", "the server makes keys although it is not a development server", []edit{
			{"cmd/sigstack/serve.go", "	if s.config.Dev {\n		if _, err := makeKeys(", "	if true {\n		if _, err := makeKeys("},
		}, config},
	}
}
