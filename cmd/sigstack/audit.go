package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/sigstack/sigstack/ca"
	"github.com/sigstack/sigstack/storage/audit"
)

// intendedRow is the JSON of a row of the kind "intended". Hashes and the serial
// are lower-case hex, times RFC 3339 in UTC.
type intendedRow struct {
	Serial          string          `json:"serial"`
	SAN             string          `json:"san"`
	SANKind         string          `json:"san_kind"` // "email", "uri" or "username"
	Issuer          string          `json:"issuer"`
	Subject         string          `json:"subject"`
	TokenIssuer     string          `json:"token_issuer"`
	TokenIssuerType string          `json:"token_issuer_type"`
	TokenEmail      string          `json:"token_email,omitempty"`
	TokenID         string          `json:"token_id,omitempty"`
	TokenKeyID      string          `json:"token_key_id,omitempty"`
	TokenIssuedAt   time.Time       `json:"token_issued_at,omitzero"`
	TokenExpiry     time.Time       `json:"token_expiry"`
	TokenSHA256     string          `json:"token_sha256"` // of what is signed of it; a token is not to be found by it
	OneTime         bool            `json:"one_time,omitempty"`
	Claims          json.RawMessage `json:"claims"`
	NotBefore       time.Time       `json:"not_before"`
	NotAfter        time.Time       `json:"not_after"`
	PublicKeySHA256 string          `json:"public_key_sha256"`
	IssuerKeySHA256 string          `json:"issuer_key_sha256"`
	RequestID       string          `json:"request_id,omitempty"`
}

// issuedRow is that of a row of the kind "issued".
type issuedRow struct {
	Serial            string    `json:"serial"`
	SAN               string    `json:"san"`
	NotBefore         time.Time `json:"not_before"`
	NotAfter          time.Time `json:"not_after"`
	SCTTime           time.Time `json:"sct_time"`
	PublicKeySHA256   string    `json:"public_key_sha256"`
	CertificateSHA256 string    `json:"certificate_sha256"`
	PrecertLeafHash   string    `json:"precert_leaf_hash"`
	RequestID         string    `json:"request_id,omitempty"`
}

// failedRow is that of a row of the kind "failed".
type failedRow struct {
	Serial    string     `json:"serial"`
	Failure   ca.Failure `json:"failure"`
	RequestID string     `json:"request_id,omitempty"`
}

// auditor writes the CA's audit rows.
type auditor struct {
	log auditLog
	now func() time.Time
}

// Intend implements ca.Auditor.
func (a auditor) Intend(ctx context.Context, i ca.Intent) (ca.Intended, error) {
	record, err := auditJSON(intendedRow{
		Serial: i.Serial, SAN: i.SAN.Value, SANKind: i.SAN.Kind.String(), Issuer: i.Issuer, Subject: i.Subject,
		TokenIssuer: i.Audit.Issuer, TokenIssuerType: i.Audit.IssuerType, TokenEmail: i.Audit.Email,
		TokenID: i.Audit.TokenID, TokenKeyID: i.Audit.KeyID,
		TokenIssuedAt: i.Audit.IssuedAt.UTC(), TokenExpiry: i.Audit.Expiry.UTC(),
		TokenSHA256: hex.EncodeToString(i.Token.SHA256[:]), OneTime: i.Token.OneTime, Claims: i.Claims,
		NotBefore: i.NotBefore, NotAfter: i.NotAfter,
		PublicKeySHA256: hex.EncodeToString(i.PublicKeySHA256[:]),
		IssuerKeySHA256: hex.EncodeToString(i.IssuerKeySHA256[:]),
		RequestID:       i.RequestID,
	})
	if err != nil {
		return nil, err
	}
	row := audit.Row{At: a.now(), Kind: audit.Intended, Serial: i.Serial, Record: record}
	if i.Token.OneTime {
		row.Claim = &audit.Claim{Token: i.Token.SHA256, Key: i.PublicKeySHA256, Expiry: i.Token.Expiry.Unix()}
	}
	err = a.log.Add(ctx, row)
	if errors.Is(err, audit.ErrTokenUsed) {
		err = fmt.Errorf("%w: %w", ca.ErrTokenUsed, err)
	}
	return intended{a, i.Serial, i.RequestID}, err
}

// intended is a serial number whose intent is written.
type intended struct {
	auditor
	serial, requestID string
}

// Issued implements ca.Intended.
func (i intended) Issued(ctx context.Context, r ca.Record) error {
	record, err := auditJSON(issuedRow{
		Serial: r.Serial, SAN: r.SAN.Value,
		NotBefore: r.NotBefore, NotAfter: r.NotAfter, SCTTime: r.SCTTime,
		PublicKeySHA256:   hex.EncodeToString(r.PublicKeySHA256[:]),
		CertificateSHA256: hex.EncodeToString(r.CertificateSHA256[:]),
		PrecertLeafHash:   hex.EncodeToString(r.PrecertLeafHash[:]),
		RequestID:         r.RequestID,
	})
	if err != nil {
		return err
	}
	return i.log.Add(ctx, audit.Row{At: i.now(), Kind: audit.Issued, Serial: i.serial, Record: record})
}

// Failed implements ca.Intended.
func (i intended) Failed(why ca.Failure) {
	if record, err := auditJSON(failedRow{Serial: i.serial, Failure: why, RequestID: i.requestID}); err == nil {
		i.log.Note(audit.Row{At: i.now(), Kind: audit.Failed, Serial: i.serial, Record: record})
	}
}

// auditJSON leaves the characters of a claim as they are: those that matter in HTML
// would need six bytes each.
func auditJSON(row any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(row); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
