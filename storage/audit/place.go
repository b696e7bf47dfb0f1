package audit

// A Ledger is what a transaction has to know to place rows. A storage reads it
// under a lock that every writer takes, that on the head, so that nothing of it
// changes before the commit.
type Ledger struct {
	Seq  int64 // of the last row
	Head Hash  // its hash

	Rows   map[string][]*Row     // by serial, those that are there of the rows to be placed
	Claims map[[32]byte][32]byte // by token, the key that it was used for

	// Unknown says that a commit of the same rows was tried, and that nobody
	// knows what became of it: a row that is there word for word is ours.
	Unknown bool
}

// Place decides about rows in their order. It returns those that have to be
// written, the first behind the row Seq, with their hashes, and the claims that
// are new; Seq and Head are then those of the last one. A row that cannot be
// placed has an Err of its own.
func (l *Ledger) Place(rows []*Row) (placed []*Row, claims []*Claim) {
	for _, row := range rows {
		if l.Unknown && l.there(row) {
			continue
		}
		if row.Err = l.check(row); row.Err != nil {
			continue
		}
		if c := row.Claim; c != nil {
			if _, ok := l.Claims[c.Token]; !ok {
				l.Claims[c.Token] = c.Key
				claims = append(claims, c)
			}
		}
		row.Hash = row.Chain(l.Head)
		l.Seq, l.Head = l.Seq+1, row.Hash
		l.Rows[row.Serial] = append(l.Rows[row.Serial], row)
		placed = append(placed, row)
	}
	return placed, claims
}

func (l *Ledger) there(row *Row) bool {
	for _, r := range l.Rows[row.Serial] {
		if r.same(row) {
			return true
		}
	}
	return false
}

// check says why a row cannot be placed.
func (l *Ledger) check(row *Row) error {
	there := l.Rows[row.Serial]
	switch row.Kind {
	case Issued, Failed:
		switch {
		case len(there) == 0 || there[0].Kind != Intended:
			return ErrNotIntended
		case len(there) > 1:
			return ErrSerial
		}
		return nil
	}
	if len(there) > 0 {
		return ErrSerial
	}
	if c := row.Claim; c != nil {
		if key, ok := l.Claims[c.Token]; ok && key != c.Key {
			return ErrTokenUsed
		}
	}
	return nil
}
