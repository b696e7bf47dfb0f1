package main

func identityMutants() []mutant {
	token := []tests{{pkg: "./ca/identity", run: "^TestTokens$"}}
	request := []tests{{pkg: "./ca/identity", run: "^TestNoRequestForBadClaims$"}}
	issuers := []tests{{pkg: "./ca/identity", run: "Issuer|Pattern|Discovery|Down|TLS"}}
	kinds := []tests{{pkg: "./ca/identity", run: "^TestTokens$|Email|URI|GitHub|IssuerClaim|Template|Kubernetes|SPIFFE|Username"}}
	const claims, verifier, provider, tok, templates = "ca/identity/claims.go", "ca/identity/verifier.go", "ca/identity/provider.go", "ca/identity/token.go", "ca/identity/templates.go"
	const times = "		Now:                  s.now,\n"
	return []mutant{
		{"ca/identity/aud-not-checked", "a token for another audience is accepted", []edit{
			{claims, "if !slices.Contains(audience, clientID) {", "if false && !slices.Contains(audience, clientID) {"},
			{verifier, times, times + "		SkipClientIDCheck:    true,\n"},
		}, token},
		{"ca/identity/exp-not-checked", "an expired token is accepted", []edit{
			{claims, "	case !now.Before(expiry):", "	case false:"},
			{verifier, times, times + "		SkipExpiryCheck:      true,\n"},
		}, token},
		{"ca/identity/exp-left-to-library", "an issuer is asked for its keys by a token that has expired", []edit{
			{claims, "	case !now.Before(expiry):", "	case false:"},
		}, request},
		{"ca/identity/exp-may-be-missing", "a token without an expiry is accepted", []edit{
			{claims, "	case !ok:\n		return fail(errors.New(`the claim \"exp\" is missing`))\n	case !now.Before(expiry):", "	case ok && !now.Before(expiry):"},
			{verifier, times, times + "		SkipExpiryCheck:      true,\n"},
		}, token},
		{"ca/identity/nbf-not-checked", "a token that is not valid yet is accepted", []edit{
			{claims, "case ok && now.Add(leeway).Before(notBefore):", "case false && notBefore.IsZero():"},
			{verifier, times, times + "		SkipExpiryCheck:      true,\n"},
		}, token},
		{"ca/identity/iat-not-checked", "a token from the future is accepted", []edit{
			{claims, "case ok && now.Add(leeway).Before(issuedAt):", "case false:"},
		}, token},
		{"ca/identity/signature-not-checked", "the signature of a token is not checked", []edit{
			{provider, "if payload, err := jws.Verify(key.Key); err == nil {\n			return payload, nil\n		}", "return jws.UnsafePayloadWithoutVerification(), nil"},
		}, token},
		{"ca/identity/algorithm-not-advertised", "a token may use an algorithm that its issuer does not advertise", []edit{
			{provider, "	if !slices.Contains(s.algorithms, t.alg) {", "	if false {"},
		}, token},
		{"ca/identity/any-algorithm", "a token may use any algorithm: none, or HMAC with the public key", []edit{
			{tok, "	if !slices.Contains(algorithms[:], t.alg) {", "	if false && !slices.Contains(algorithms[:], t.alg) {"},
		}, token},
		{"ca/identity/key-in-header", "a token may bring its key, or say where it is", []edit{
			{tok, "		if _, ok := header[name]; ok {", "		if _, ok := header[name]; ok && false {"},
		}, token},
		{"ca/identity/key-of-another-use", "a key for encryption verifies tokens", []edit{
			{provider, "	if key.Use != \"\" && key.Use != \"sig\" {", "	if false {"},
		}, issuers},
		{"ca/identity/claim-twice", "of a claim that stands twice the last counts", []edit{
			{claims, "		if _, ok := c[name]; ok {", "		if false {"},
		}, token},
		{"ca/identity/claim-in-another-case", "a claim in another case is accepted", []edit{
			{tok, "if err = t.claims.checkNames(); err != nil {", "if err = error(nil); err != nil {"},
		}, token},
		{"ca/identity/token-without-bound", "a token may be of any size", []edit{
			{tok, "	case len(raw) > maxToken:", "	case false:"},
		}, token},
		{"ca/identity/issuer-not-exact", "an issuer with a slash more is the same issuer", []edit{
			{verifier, "if s := v.exact[issuer]; s != nil {", "if s := v.exact[strings.TrimSuffix(issuer, \"/\")]; s != nil {"},
		}, issuers},
		{"ca/identity/pattern-not-anchored", "a pattern matches issuers that go on behind it", []edit{
			{"ca/identity/config.go", "	return ok && rest == \"\"\n", "	return ok\n"},
		}, issuers},
		{"ca/identity/pattern-wildcard-dots", "the wildcard of a pattern matches dots", []edit{
			{"ca/identity/config.go", "|| c == '-' || c == '_'\n}", "|| c == '-' || c == '_' || c == '.'\n}"},
		}, issuers},
		{"ca/identity/pattern-for-everybody", "a pattern may leave the registered domain open", []edit{
			{"ca/identity/config.go", "if suffix, _ := publicsuffix.PublicSuffix(literal); suffix == literal {", "if suffix, _ := publicsuffix.PublicSuffix(literal); suffix == \"\" {"},
		}, []tests{{pkg: "./ca/identity", run: "TestConfig"}}},
		{"ca/identity/keys-from-another-host", "an issuer that a pattern let in may name keys on another host", []edit{
			{provider, "	case p.source.IsPattern() && (u.Host != issuer.Host || u.Scheme != issuer.Scheme):", "	case false:"},
		}, issuers},
		{"ca/identity/redirect-followed", "discovery follows a redirect to another host", []edit{
			{"ca/identity/client.go", "if next.URL.Scheme != first.Scheme || next.URL.Host != first.Host {", "if false {"},
		}, issuers},
		{"ca/identity/answer-without-bound", "the answer of an issuer may be of any size", []edit{
			{"ca/identity/client.go", "	if n > b.left {", "	if false {"},
			{"ca/identity/client.go", "	if len(p) > b.left+1 {", "	if false {"},
		}, issuers},
		{"ca/identity/request-for-bad-claims", "an issuer is asked for its keys by a token that cannot be accepted", []edit{
			{claims, "if !slices.Contains(audience, clientID) {", "if false && !slices.Contains(audience, clientID) {"},
		}, request},
		{"ca/identity/email-not-verified", "an unverified mail address is accepted", []edit{
			{"ca/identity/email.go", "	case !verified && !i.SkipEmailVerification:", "	case false && !verified:"},
		}, kinds},
		{"ca/identity/email-false-is-true", "email_verified \"false\" counts as true", []edit{
			{claims, "	case `false`, `\"false\"`, `\"False\"`:\n		return false, true, nil", "	case `false`, `\"false\"`, `\"False\"`:\n		return string(raw) != `false`, true, nil"},
		}, kinds},
		{"ca/identity/uri-of-another-host", "a workload may be named on another host than its issuer's", []edit{
			{"ca/identity/uri.go", "if u.Scheme+\"://\"+u.Host != i.SubjectDomain || u.User != nil {", "if !strings.HasPrefix(subject, i.SubjectDomain) {"},
		}, kinds},
		{"ca/identity/dot-segments", "a repository claim may climb out of its path", []edit{
			{templates, "text != value && !plainPath(text):", "false:"},
		}, kinds},
		{"ca/identity/age-not-checked", "a token may be as old as its issuer lets it live", []edit{
			{claims, "	case maxAge > 0 && now.Sub(issuedAt) > maxAge:\n", "	case false:\n"},
		}, []tests{{pkg: "./ca/identity", run: "TestMaxTokenAge"}}},
		{"ca/identity/empty-segment", "a claim of GitHub may have an empty segment", []edit{
			{"ca/identity/fixed.go", "err != nil || strings.Contains(text, \"//\") {", "err != nil || strings.Contains(text, \"///\") {"},
		}, kinds},
		{"ca/identity/constant-overridden", "a claim replaces a constant of the configuration", []edit{
			{templates, "		case ok && value != \"\" && text != value && !slices.Contains(p.overridable, r.name):\n", "		case false:\n"},
		}, kinds},
		{"ca/identity/token-with-signature", "a token with another signature is another token", []edit{
			{verifier, "sha256.Sum256([]byte(t.signed()))", "sha256.Sum256([]byte(t.raw))"},
		}, []tests{{pkg: "./ca/identity", run: "TestTokenIsOne"}}},
		{"ca/identity/one-time-not-handed-on", "the tokens of an issuer with one-time tokens are like others", []edit{
			{verifier, "Expiry: expiry, OneTime: s.OneTime}", "Expiry: expiry}"},
		}, []tests{{pkg: "./ca/identity", run: "TestTokenIsOne"}}},
		{"ca/identity/name-around-nothing", "an empty claim becomes part of a name", []edit{
			{templates, "		case text == \"\" && (san || !v.alone && !standsIn):\n", "		case false:\n"},
		}, kinds},
		{"ca/identity/index-of-nothing", "an absent claim that index asks for becomes part of a text", []edit{
			{templates, "!(r.optional && v.alone && !san):", "!r.optional:"},
		}, kinds},
		{"ca/identity/percent-not-encoded", "two refs share a name", []edit{
			{templates, "		if san && !v.alone {\n", "		if false {\n"},
		}, kinds},
		{"ca/identity/empty-namespace", "a service account may be without a name", []edit{
			{"ca/identity/kubernetes.go", "		if !objectName(name) {\n", "		if false {\n"},
		}, kinds},
		{"ca/identity/other-trust-domain", "a workload may be of another trust domain", []edit{
			{"ca/identity/spiffe.go", "		if !id.MemberOf(domain) {\n", "		if false {\n"},
		}, kinds},
		{"ca/identity/user-of-another-domain", "a user name may bring its domain", []edit{
			{"ca/identity/username.go", "		if strings.Contains(subject, \"!\") {\n", "		if false {\n"},
		}, kinds},
	}
}

func caMutants() []mutant {
	issue := []tests{{pkg: "./ca", run: "TestIssue|TestTrouble|TestProfile|TestChanged|TestAudit|TestCancel"}}
	lint := []tests{{pkg: "./ca", run: "TestLints|TestCorrespond"}}
	key := []tests{{pkg: "./ca", run: "TestVerifyProof|TestParseCSR|TestParsePublicKey|TestWeakKeys|TestCSRBound"}}
	encoding := []tests{{pkg: "./ca/ext"}}
	const ext, file, keyFile, lintFile, auditFile = "ca/ext/ext.go", "ca/issue.go", "ca/key.go", "ca/lint.go", "ca/audit.go"
	return []mutant{
		{"ca/ext/dropped", "the extension with the token's subject (.24) is missing", []edit{
			{ext, "		{24, false, \"token subject\", \"\", &v.Subject},\n", ""},
		}, encoding},
		{"ca/ext/encoded-otherwise", "the issuer (.8) is bare bytes instead of a UTF8String", []edit{
			{ext, "{8, false, \"issuer\", \"\", &v.Issuer}", "{8, true, \"issuer\", \"\", &v.Issuer}"},
		}, encoding},
		{"ca/ext/swapped", "build signer URI and digest have each other's number", []edit{
			{ext, "{9, false, \"build signer URI\"", "{10, false, \"build signer URI\""},
			{ext, "{10, false, \"build signer digest\"", "{9, false, \"build signer digest\""},
		}, encoding},
		{"ca/ext/issuers-not-compared", "two issuers in one certificate are accepted", []edit{
			{ext, "if *r.field != \"\" && *r.field != value {", "if false {"},
		}, encoding},
		{"ca/ext/san-not-critical", "the subject alternative name is not critical", []edit{
			{"ca/ext/san.go", "Critical: true, Value: der}", "Critical: false, Value: der}"},
		}, encoding},
		{"ca/extension-order", "key usage and extended key usage change places", []edit{
			{"ca/profile.go", "		{Id: oidKeyUsage(), Critical: true, Value: keyUsageDER()},\n		{Id: oidExtKeyUsage(), Value: extKeyUsageDER()},\n", "		{Id: oidExtKeyUsage(), Value: extKeyUsageDER()},\n		{Id: oidKeyUsage(), Critical: true, Value: keyUsageDER()},\n"},
		}, []tests{{pkg: "./ca", run: "TestProfileBytes|TestIssue"}}},
		{"ca/lint-removed", "no rule is held against a certificate", []edit{
			{lintFile, "	for _, rule := range lintRules() {", "	for _, rule := range lintRules()[:0] {"},
		}, lint},
		{"ca/lint-san-removed", "the rule for the subject alternative name is gone", []edit{
			{lintFile, "		{\"subject alternative name\", lintSAN},\n", ""},
		}, lint},
		{"ca/lint-key-removed", "the rule that the key is the proven one is gone", []edit{
			{lintFile, "		return errors.New(\"not the key that was proven\")\n", ""},
		}, lint},
		{"ca/correspondence-not-checked", "a certificate is signed that is not what its precertificate announced", []edit{
			{file, "if err := correspond(precertTBS, finalTBS); err != nil {", "if err := error(nil); err != nil {"},
		}, []tests{{pkg: "./ca", run: "TestChangedInBetween"}}},
		{"ca/correspondence-always", "the comparison of certificate and precertificate finds nothing", []edit{
			{"ca/tbs.go", "if bytes.Equal(preRest, finalRest) && preAt == finalAt {", "if bytes.Equal(preRest, preRest) && preAt == finalAt && len(finalRest) > 0 {"},
		}, lint},
		{"ca/sct-not-verified", "the SCT in a certificate is not verified", []edit{
			{"ca/sct.go", "	if !valid {\n", "	if false && !valid {\n"},
		}, issue},
		{"ca/sct-of-another-log", "the SCT may be of another log", []edit{
			{"ca/sct.go", "	if f.logID != k.id {", "	if false {"},
		}, issue},
		{"ca/audit-failure-ignored", "a certificate is handed out although its audit row was not written", []edit{
			{file, "		return nil, FailedAudit, unavailable(msgAudit, err)\n", "		_ = msgAudit\n"},
		}, issue},
		{"ca/signed-before-recorded", "a precertificate is signed that no row intends", []edit{
			{auditFile, "	case r.err != nil:\n", "	case false:\n"},
		}, issue},
		{"ca/signed-while-recording", "a precertificate is signed while the row that intends it is being written", []edit{
			{auditFile, "	<-r.done\n	switch {", "	r.row = lateRow{r}\n	switch {"},
			{auditFile, "// serialText is", "type lateRow struct{ r *recording }\n\nfunc (l lateRow) Issued(ctx context.Context, rec Record) error {\n	<-l.r.done\n	return l.r.row.Issued(ctx, rec)\n}\nfunc (l lateRow) Failed(f Failure) {}\n\n// serialText is"},
		}, []tests{{pkg: "./ca", run: "TestRecordedBeforeSigned|TestTrouble"}}},
		{"ca/any-serial-signed", "a TBSCertificate is signed although another serial number is recorded", []edit{
			{file, "	if r == nil || r.serial.Cmp(t.serial) != 0 {", "	if r == nil {"},
		}, []tests{{pkg: "./ca", run: "TestLintedSignsOnce"}}},
		{"ca/other-bytes-signed", "what is signed are not the bytes that were linted", []edit{
			{file, "	if !bytes.Equal(digest, t.digest) {", "	if false && !bytes.Equal(digest, t.digest) {"},
		}, []tests{{pkg: "./ca", run: "TestLintedSignsOnce"}}},
		{"ca/used-token-is-unavailable", "a token that was used is answered as trouble of ours", []edit{
			{auditFile, "	case errors.Is(r.err, ErrTokenUsed):", "	case false:"},
		}, []tests{{pkg: "./ca", run: "TestTokenUsed"}}},
		{"ca/lint-encoding-removed", "the rule for the encodings of .1 to .24 is gone", []edit{
			{lintFile, "		{\"identity encoding\", lintEncodings},\n", ""},
		}, lint},
		{"ca/lint-times-removed", "the rule for the encoding of times is gone", []edit{
			{lintFile, "		{\"time encoding\", lintTimes},\n", ""},
		}, lint},
		{"ca/lint-signature-removed", "the throw-away key's signature is not verified", []edit{
			{lintFile, "		{\"signature\", lintSignature},\n", ""},
		}, lint},
		{"ca/lint-lifetime-removed", "the rule that bounds the lifetime is gone", []edit{
			{lintFile, "		{\"lifetime\", lintLifetime},\n", ""},
		}, lint},
		{"ca/backdated-before-issuer", "a certificate begins before its issuer", []edit{
			{"ca/chain.go", "	if begin.Before(c.notBefore) && !now.Before(c.notBefore) {", "	if false {"},
		}, []tests{{pkg: "./ca", run: "TestValidity"}}},
		{"ca/published-key-accepted", "a key whose private half is published is certified", []edit{
			{"ca/weakkey.go", "source != \"\" {", "source != \"\" && false {"},
		}, []tests{{pkg: "./ca", run: "TestSharedKeys"}}},
		{"ca/blocked-key-accepted", "a key on the block list is certified", []edit{
			{file, "	if why, ok := c.blocked[keyHash]; ok {", "	if why, ok := c.blocked[keyHash]; ok && false {"},
		}, []tests{{pkg: "./ca", run: "TestBlockedKeys"}}},
		{"ca/own-key-accepted", "a key of the CA itself is certified", []edit{
			{"ca/ca.go", "	for _, chain := range c.bundle {\n		for _, cert := range chain {\n			c.blocked", "	for _, chain := range c.bundle[:0] {\n		for _, cert := range chain {\n			c.blocked"},
		}, []tests{{pkg: "./ca", run: "TestBlockedKeys"}}},
		{"ca/signature-not-verified", "the signature of a certificate is not verified before it is handed out", []edit{
			{file, "		err = c.chain.signed(finalTBS, signature)\n", "		_ = signature\n"},
		}, issue},
		{"ca/lifetime", "a certificate lives an hour longer", []edit{
			{file, "		notAfter:  now.Add(c.lifetime),", "		notAfter:  now.Add(c.lifetime + time.Hour),"},
		}, issue},
		{"ca/default-lifetime", "a certificate lives twenty minutes", []edit{
			{"ca/ca.go", "	DefaultLifetime = 10 * time.Minute", "	DefaultLifetime = 20 * time.Minute"},
		}, issue},
		{"ca/issuer-expiry-not-checked", "a certificate may outlive its issuer", []edit{
			{"ca/chain.go", "	if end.After(c.notAfter) {", "	if false {"},
		}, issue},
		{"ca/serial-too-short", "a serial number has 64 random bits", []edit{
			{file, "	b[0] = b[0]&0x3f | 0x40\n", "	clear(b[:12])\n	b[0] = 0x40\n"},
		}, []tests{{pkg: "./ca", run: "TestSerial"}}},
		{"ca/serial-repeats", "two certificates may have one serial number", []edit{
			{file, "	b[0] = b[0]&0x3f | 0x40\n", "	clear(b[1:])\n	b[0], b[1] = 0x40, 1\n"},
		}, []tests{{pkg: "./ca", run: "TestSerial"}}},
		{"ca/possession-not-checked", "a key is certified without proof of possession", []edit{
			{keyFile, "if subject != \"\" && verify(key, []byte(subject), proof) {", "if subject != \"\" {"},
		}, key},
		{"ca/proof-of-another-subject", "a key that was proven for one identity is certified for another", []edit{
			{keyFile, "(k.subject == \"\" || slices.Contains(id.ProofSubjects(), k.subject))", "(k.subject == \"\" || len(id.ProofSubjects()) > 0)"},
		}, []tests{{pkg: "./ca", run: "TestIssueNeedsVerifiedInput"}}},
		{"ca/csr-signature-not-checked", "a certificate request counts as signed", []edit{
			{keyFile, "	if err := csr.CheckSignature(); err != nil {", "	if err := error(nil); err != nil {"},
		}, key},
		{"ca/csr-any-algorithm", "a certificate request may be signed with any hash", []edit{
			{keyFile, "	if err := checkCSRAlgorithm(csr); err != nil {", "	if err := error(nil); err != nil {"},
		}, key},
		{"ca/weak-key-accepted", "RSA keys with small factors, close primes or the fingerprint of ROCA are certified", []edit{
			{"ca/weakkey.go", "	if p := smallFactor(k.N); p != 0 {", "	if true {\n		return nil\n	}\n	if p := smallFactor(k.N); p != 0 {"},
		}, key},
		{"ca/two-keys-in-one", "what follows the first PEM block is passed over", []edit{
			{keyFile, "|| bytes.Count(trimmed, []byte(\"-----BEGIN \")) != 1 {", "{"},
			{keyFile, "if block == nil || len(rest) != 0 || len(block.Headers) != 0 {", "if block == nil || len(rest) < 0 || len(block.Headers) != 0 {"},
		}, key},
		{"ca/csr-without-bound", "a certificate request may be of any size", []edit{
			{keyFile, "	if len(data) > maxCSR {", "	if false {"},
		}, key},
		{"ca/chain-order-not-checked", "the CA's chain may be in any order", []edit{
			{"ca/chain.go", "if parent == nil || !bytes.Equal(cert.RawIssuer, parent.RawSubject) {", "if parent == nil || bytes.Equal(cert.RawIssuer, nil) {"},
		}, []tests{{pkg: "./ca", run: "TestNewChainRefuses"}}},
	}
}
