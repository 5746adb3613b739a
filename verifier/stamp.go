package verifier

import (
	"encoding/asn1"
	"time"

	"github.com/digitorus/pkcs7"
	"github.com/digitorus/timestamp"
	"github.com/sigstore/sigstore-go/pkg/root"

	"github.com/countersign/countersign/tlog"
)

// stamp is an RFC 3161 response and what it says, parsed once for all policies
// and roots that ask. The library checks the signature of a token that carries
// its certificate when it parses it.
type stamp struct {
	response []byte
	parsed   *timestamp.Timestamp
	err      error
}

func parseStamp(response []byte) stamp {
	parsed, err := timestamp.ParseResponse(response)
	return stamp{response: response, parsed: parsed, err: err}
}

// stamps are the timestamps, parsed when they are first asked for.
func (s *signed) stamps() []stamp {
	if s.parsedStamps == nil {
		for _, response := range s.timestamps {
			s.parsedStamps = append(s.parsedStamps, parseStamp(response))
		}
	}
	return s.parsedStamps
}

// logEntries are the log entries, parsed when they are first asked for.
func (s *signed) logEntries() []tlog.Entry {
	if s.parsedEntries == nil {
		for _, entry := range s.entries {
			s.parsedEntries = append(s.parsedEntries, tlog.ParseEntry(entry))
		}
	}
	return s.parsedEntries
}

// provenBy is the stamp's time if it is that authority's. message is the stamp's
// token.
//
// The library verifies a token under each certificate that comes with it before
// it verifies it under the authority's own, and reads them again and again. Where
// the one that came is the authority's own, it is left away: the same rules are
// then applied to the same signature, once. What does not verify so is put to the
// library as it came, whose word counts.
func (s stamp) provenBy(authority *root.SigstoreTimestampingAuthority, message *pkcs7.PKCS7, signature []byte) (time.Time, bool) {
	if signer := message.GetOnlySigner(); signer != nil && signer.Equal(authority.Leaf) {
		if bare, ok := withoutCertificates(s.response); ok {
			if proven, err := authority.Verify(bare, signature); err == nil {
				return proven.Time.UTC(), true
			}
		}
	}
	proven, err := authority.Verify(s.response, signature)
	if err != nil {
		return time.Time{}, false
	}
	return proven.Time.UTC(), true
}

// withoutCertificates is a response in DER without the certificates in its
// token, which no signature is over: SignedData.certificates, RFC 5652 section
// 5.1. ok is false for what is no DER of that form.
func withoutCertificates(response []byte) (bare []byte, ok bool) {
	var outer struct {
		Status asn1.RawValue
		Token  struct {
			Type    asn1.ObjectIdentifier
			Content asn1.RawValue
		}
	}
	if rest, err := asn1.Unmarshal(response, &outer); err != nil || len(rest) > 0 {
		return nil, false
	}
	var data asn1.RawValue
	if rest, err := asn1.Unmarshal(outer.Token.Content.Bytes, &data); err != nil || len(rest) > 0 {
		return nil, false
	}
	var kept []byte
	for rest := data.Bytes; len(rest) > 0; {
		var field asn1.RawValue
		var err error
		if rest, err = asn1.Unmarshal(rest, &field); err != nil {
			return nil, false
		}
		if field.Class != asn1.ClassContextSpecific || field.Tag != 0 {
			kept = append(kept, field.FullBytes...)
		}
	}
	data.Bytes, data.FullBytes = kept, nil
	signedData, err := asn1.Marshal(data)
	if err != nil {
		return nil, false
	}
	outer.Token.Content.Bytes, outer.Token.Content.FullBytes = signedData, nil
	bare, err = asn1.Marshal(outer)
	return bare, err == nil
}
