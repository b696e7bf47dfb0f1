package main

func attestationMutants() []mutant {
	rekor := []tests{{pkg: "./tlog/rekor", run: "TestAttestation"}}
	const file = "tlog/rekor/attestation.go"
	return []mutant{
		{"tlog/rekor/attestation-not-compared", "an attestation is shown whatever it hashes to", []edit{
			{file, "Bytes: b}).Check(); err != nil {", "Bytes: b}).Check(); false && err != nil {"},
		}, rekor},
		{"tlog/rekor/attestation-not-kept", "an entry is added although its attestation could not be kept", []edit{
			{file, "			return nil, l.troubled(ctx, fmt.Errorf(\"%w: keeping", "			l.troubled(ctx, fmt.Errorf(\"%w: keeping"},
		}, rekor},
		{"tlog/rekor/attestation-away", "an entry is shown without an attestation that cannot be read", []edit{
			{file, "		return nil, l.troubled(ctx, fmt.Errorf(\"%w: reading the attestation of entry %d: %w\", tlog.ErrUnavailable, e.LogIndex, err))\n",
				"		l.troubled(ctx, fmt.Errorf(\"%w: %w\", tlog.ErrUnavailable, err))\n		return nil, nil\n"},
		}, rekor},
		{"storage/sqlite/attestation-of-duplicate", "a duplicate adds an attestation", []edit{
			{"storage/sqlite/store.go", "			placed[i].Time, placed[i].Dup = time.Unix(0, was).UTC(), true\n",
				"			placed[i].Time, placed[i].Dup = time.Unix(0, was).UTC(), true\n			if len(leaf.Attestation) > 0 {\n				sum := sha256.Sum256(leaf.Attestation)\n				tx.Stmt(s.attest).Exec(sum[:], leaf.Attestation)\n			}\n"},
		}, []tests{{pkg: "./storage/sqlite", run: "^TestConformance$/^Attestations$"}}},
		{"storage/transfer/attestation-not-compared", "a copy is equal whatever the bytes of its attestations", []edit{
			{"storage/transfer/transfer.go", "		case !bytes.Equal(their.Bytes, our.Bytes):\n", "		case false:\n"},
		}, []tests{{pkg: "./storage/transfer", run: "TestDifferences"}}},
	}
}
