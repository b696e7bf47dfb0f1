package main

func archiveMutants() []mutant {
	pkcs7Tests := []tests{{pkg: "./tlog/entry/sigkey", run: "TestPKCS7"}}
	timestamp := []tests{{pkg: "./tlog/entry", run: "TestTimestamp"}}
	archive := []tests{{pkg: "./tlog/entry", run: "TestJar"}}
	metadata := []tests{{pkg: "./tlog/entry", run: "TestTUF|TestCanonical"}}
	const pkcs7, rfc3161, jar, manifest = "tlog/entry/sigkey/pkcs7.go", "tlog/entry/rfc3161.go", "tlog/entry/jar.go", "tlog/entry/manifest.go"
	const tuf, canonical = "tlog/entry/tuf.go", "tlog/entry/canonical.go"
	return []mutant{
		{"tlog/entry/sigkey/pkcs7-not-verified", "a PKCS #7 signature is taken whoever made it", []edit{
			{pkcs7, "	if err := p.signer.verify(content, p.contentType, p.certs); err != nil {", "	if err := error(nil); err != nil {"},
		}, pkcs7Tests},
		{"tlog/entry/sigkey/pkcs7-another-content", "signed attributes may be for another content", []edit{
			{pkcs7, "!value.ReadASN1(&is, cbasn1.OCTET_STRING) || !bytes.Equal(is, digest) {", "!value.ReadASN1(&is, cbasn1.OCTET_STRING) {"},
		}, pkcs7Tests},
		{"tlog/entry/sigkey/pkcs7-attributes-as-content", "signed attributes can be passed off as a content of another type", []edit{
			{pkcs7, "	} else if !contentType.Equal(oidData) {", "	} else if false {"},
		}, pkcs7Tests},
		{"tlog/entry/sigkey/pkcs7-timestamp-not-verified", "a timestamp of a signature is taken whoever made it", []edit{
			{pkcs7, "			if err := p.verifyTimestamp(value); err != nil {", "			if err := p.verifyTimestamp(value); err != nil && false {"},
		}, pkcs7Tests},
		{"tlog/entry/sigkey/pkcs7-certificates-without-bound", "a PKCS #7 signature may have any number of certificates", []edit{
			{pkcs7, "		if len(p.certs) == maxPKCS7Certificates {", "		if false {"},
		}, pkcs7Tests},
		{"tlog/entry/sigkey/pkcs7-without-bound", "a PKCS #7 signature may be of any size", []edit{
			{pkcs7, "beside > MaxSignatureSize {", "beside < 0 {"},
		}, pkcs7Tests},
		{"tlog/entry/rfc3161-not-verified", "a timestamp is taken whoever signed it", []edit{
			{rfc3161, "	if err := p.Verify(nil); err != nil {", "	if err := error(nil); err != nil {"},
		}, timestamp},
		{"tlog/entry/rfc3161-not-granted", "a timestamp that was refused is taken", []edit{
			{rfc3161, "	if status != 0 && status != 1 {", "	if false {"},
		}, timestamp},
		{"tlog/entry/rfc3161-of-anything", "what is signed need not be a timestamp", []edit{
			{rfc3161, "	if !p.IsTimestamp() {", "	if false {"},
		}, timestamp},
		{"tlog/entry/rfc3161-without-bound", "a timestamp may be of any size", []edit{
			{rfc3161, "	if len(der) > maxTimestamp {", "	if false {"},
		}, timestamp},
		{"tlog/entry/jar-not-verified", "a Java archive is taken whoever signed it", []edit{
			{jar, "	if err := p.Verify(signed); err != nil {", "	if err := error(nil); err != nil {"},
		}, archive},
		{"tlog/entry/jar-manifest-not-signed", "the manifest of an archive need not be the one that was signed", []edit{
			{jar, "	if err := verifySignatureFile(signed, named); err != nil {", "	if err := error(nil); err != nil {"},
		}, archive},
		{"tlog/entry/jar-files-not-compared", "the files of an archive need not be those of its manifest", []edit{
			{jar, "		if err := digests.compare(); err != nil {", "		if err := error(nil); err != nil {"},
		}, archive},
		{"tlog/entry/jar-sections-not-compared", "the sections of a manifest need not be those that were signed", []edit{
			{jar, "		if err := s.verify(\"-Digest\", part); err != nil {", "		if err := error(nil); err != nil {"},
		}, archive},
		{"tlog/entry/jar-without-budget", "an archive may inflate to any size", []edit{
			{jar, "if r.budget -= int64(n * cost); r.budget < 0 {", "if r.budget -= int64(n * cost); false {"},
		}, archive},
		{"tlog/entry/jar-hashes-for-nothing", "what is hashed by several functions counts once", []edit{
			{jar, "r.read(f, len(digests), digests.write)", "r.read(f, 1, digests.write)"},
		}, archive},
		{"tlog/entry/jar-metadata-without-bound", "the metadata of an archive may be of any size", []edit{
			{jar, "		if f.UncompressedSize64 > maxJarMetadata {", "		if false {"},
		}, archive},
		{"tlog/entry/jar-file-twice", "an archive may have two files of one name", []edit{
			{jar, "		if r.files[f.Name] != nil {", "		if false {"},
		}, archive},
		{"tlog/entry/jar-another-block", "a signature that nothing is verified by may be stored", []edit{
			{jar, "	case signatures > 1, blocks > 1:", "	case signatures > 1:"},
		}, archive},
		{"tlog/entry/jar-digest-twice", "a section may have two digests by one function", []edit{
			{manifest, "		case slices.ContainsFunc(all, func(d digester) bool { return d.function == function }):", "		case slices.ContainsFunc(all, func(d digester) bool { return false }):"},
		}, archive},
		{"tlog/entry/tuf-not-verified", "TUF metadata is taken whoever signed it", []edit{
			{tuf, "	signers, err := root.verify(metadata, &budget)\n", "	signers, err := []crypto.PublicKey(nil), error(nil)\n"},
		}, metadata},
		{"tlog/entry/tuf-root-not-verified", "a TUF root need not be signed by itself", []edit{
			{tuf, "	if _, err := root.verify(root.tufMetadata, &budget); err != nil {\n		return nil, nil, fmt.", "	if err := error(nil); err != nil {\n		return nil, nil, fmt."},
		}, metadata},
		{"tlog/entry/tuf-any-key", "a key of another role signs TUF metadata", []edit{
			{tuf, "		if key == nil || !slices.Contains(role.keys, s.key) || len(s.sig) == 0 {", "		if key == nil || len(s.sig) == 0 {"},
		}, metadata},
		{"tlog/entry/tuf-key-counts-twice", "a key counts for the threshold under each of its IDs", []edit{
			{tuf, "func(c crypto.PublicKey) bool { return equalKeys(c, key) }", "func(c crypto.PublicKey) bool { return false }"},
		}, metadata},
		{"tlog/entry/tuf-expired", "TUF metadata that has expired is taken", []edit{
			{tuf, "		if !now.Before(m.expires) {", "		if now.IsZero() {"},
		}, metadata},
		{"tlog/entry/tuf-signatures-without-bound", "TUF metadata may have any number of signatures", []edit{
			{tuf, "		if len(m.sigs) == maxTUFKeys {", "		if false {"},
		}, metadata},
		{"tlog/entry/tuf-ed25519-without-budget", "many Ed25519 keys read large TUF metadata many times", []edit{
			{tuf, "if *budget -= len(message); *budget < 0 {", "if *budget -= len(message); false {"},
		}, metadata},
		{"tlog/entry/canonical-order", "names are stored in the order of their bytes", []edit{
			{canonical, "canonicalForm{compareUTF16, escapeJCS}", "canonicalForm{bytes.Compare, escapeJCS}"},
		}, metadata},
		{"tlog/entry/canonical-name-twice", "an object that is stored may have two members of one name", []edit{
			{canonical, "		if i > 0 && bytes.Equal(all[i-1].name, m.name) {", "		if i < 0 {"},
		}, metadata},
		{"tlog/entry/canonical-any-depth", "an object that is stored may be nested to any depth", []edit{
			{canonical, "	if depth > maxCanonicalDepth {", "	if false {"},
		}, metadata},
	}
}
