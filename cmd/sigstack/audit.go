package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"time"

	"github.com/sigstack/sigstack/ca"
)

// auditRow is the JSON of one row of the audit log. Hashes and the serial are
// lower-case hex, times RFC 3339 in UTC.
type auditRow struct {
	Serial            string    `json:"serial"`
	SAN               string    `json:"san"`
	Issuer            string    `json:"issuer"`
	Subject           string    `json:"subject"`
	TokenIssuer       string    `json:"token_issuer"`
	TokenIssuerType   string    `json:"token_issuer_type"`
	TokenEmail        string    `json:"token_email,omitempty"`
	TokenID           string    `json:"token_id,omitempty"`
	TokenKeyID        string    `json:"token_key_id,omitempty"`
	TokenIssuedAt     time.Time `json:"token_issued_at,omitzero"`
	TokenExpiry       time.Time `json:"token_expiry"`
	NotBefore         time.Time `json:"not_before"`
	NotAfter          time.Time `json:"not_after"`
	SCTTime           time.Time `json:"sct_time"`
	PublicKeySHA256   string    `json:"public_key_sha256"`
	CertificateSHA256 string    `json:"certificate_sha256"`
	PrecertLeafHash   string    `json:"precert_leaf_hash"`
	RequestID         string    `json:"request_id,omitempty"`
}

// auditor writes the CA's audit rows.
type auditor struct{ log auditLog }

func (a auditor) Record(ctx context.Context, r ca.Record) error {
	row, err := json.Marshal(auditRow{
		Serial: r.Serial, SAN: r.SAN.Value, Issuer: r.Issuer, Subject: r.Subject,
		TokenIssuer: r.Token.Issuer, TokenIssuerType: r.Token.IssuerType, TokenEmail: r.Token.Email,
		TokenID: r.Token.TokenID, TokenKeyID: r.Token.KeyID,
		TokenIssuedAt: r.Token.IssuedAt.UTC(), TokenExpiry: r.Token.Expiry.UTC(),
		NotBefore: r.NotBefore, NotAfter: r.NotAfter, SCTTime: r.SCTTime,
		PublicKeySHA256:   hex.EncodeToString(r.PublicKeySHA256[:]),
		CertificateSHA256: hex.EncodeToString(r.CertificateSHA256[:]),
		PrecertLeafHash:   hex.EncodeToString(r.PrecertLeafHash[:]),
		RequestID:         r.RequestID,
	})
	if err != nil {
		return err
	}
	return a.log.Add(ctx, r.NotBefore, r.Serial, row)
}
