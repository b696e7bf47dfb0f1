package main

func writesMutants() []mutant {
	const file, tokens = "api/writes/writes.go", "api/writes/tokens.go"
	in := []tests{{pkg: "./api/writes", run: "^Test"}}
	served := []tests{{pkg: "./api/rekorv1", run: "TestWrites|TestAlgorithms"}}
	client := []tests{{pkg: "./api", run: "TestClient"}}
	return []mutant{
		{"api/writes/any-token", "any bearer token may write", []edit{
			{file, "subtle.ConstantTimeCompare(t.Digest[:], digest[:]) == 1", "subtle.ConstantTimeCompare(t.Digest[:], digest[:]) >= 0"},
		}, in},
		{"api/writes/any-certificate", "a client certificate of anybody may write", []edit{
			{file, "	case err != nil:\n		return \"\", errors.New(\"it does not come", "	case false:\n		return \"\", errors.New(\"it does not come"},
		}, in},
		{"api/writes/certificate-of-a-server", "a certificate for servers may write", []edit{
			{file, "x509.ExtKeyUsageClientAuth", "x509.ExtKeyUsageAny"},
		}, in},
		{"api/writes/forged-identity", "a forged certificate takes from the identity that it names", []edit{
			{file, "	if c.issued(cert) {", "	if true {"},
		}, in},
		{"api/writes/not-put-back", "a duplicate counts for the identity", []edit{
			{file, "		if !added {", "		if false {"},
		}, in},
		{"api/writes/address-of-ipv6", "each address of a network of IPv6 has a limit of its own", []edit{
			{file, "Prefix(64)", "Prefix(128)"},
		}, in},
		{"api/writes/token-in-an-error", "an error repeats a line that may be a token", []edit{
			{tokens, "line %d has %d words; a name", "line %[1]d has %[2]d words: %[3]q; a name"},
			{tokens, "n, len(fields))\n		}\n		if !plainName", "n, len(fields), line)\n		}\n		if !plainName"},
		}, in},
		{"api/rekorv1/token-not-asked", "entries are added without asking who writes", []edit{
			{"api/rekorv1/entries.go", "	writer, err := h.cfg.Writes.Authenticate(r.Header, r.TLS)\n	if err != nil {\n		return err\n	}\n", "	writer, _ := h.cfg.Writes.Authenticate(r.Header, r.TLS)\n"},
		}, served},
		{"api/rekorv1/unknown-put-back", "an entry that may have been added does not count", []edit{
			{"api/rekorv1/entries.go", "done(err == nil || errors.Is(err, tlog.ErrUnknown))", "done(err == nil)"},
		}, served},
		{"api/rekorv1/algorithms-not-asked", "an entry is taken by whatever algorithm it is signed", []edit{
			{"api/rekorv1/entries.go", "	for _, s := range signers {", "	for _, s := range signers[:0] {"},
		}, served},
		{"api/proxy-of-anybody", "whoever sends X-Forwarded-For is believed", []edit{
			{"api/client.go", "hop < maxHops && p.trusts(addr)", "hop < maxHops && (hop == 0 || p.trusts(addr))"},
		}, client},
		{"api/first-hop-believed", "what stands first in X-Forwarded-For is believed", []edit{
			{"api/client.go", "	for i := len(list) - 1; i >= 0; i-- {", "	for i := range list {"},
		}, client},
		{"cmd/client-ca-not-asked", "clients are not asked for a certificate", []edit{
			{"cmd/sigstack/serve.go", "		s.askForCertificates(clients.TLSConfig)\n", ""},
		}, []tests{{pkg: "./test/e2e", run: "TestWriteCertificates"}}},
	}
}
