package verifier

import (
	"bytes"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"

	"github.com/digitorus/pkcs7"
	"github.com/digitorus/timestamp"
	"github.com/sigstore/sigstore-go/pkg/root"

	"github.com/countersign/countersign/tlog"
)

// stamp is an RFC 3161 response and what it says, parsed once for all policies
// and roots that ask.
//
// A token may carry certificates, which its signature is not over. The library
// verifies such a token under what came with it whenever it reads it, and again
// under the authority's own certificate. So the token is read without them, and
// verified under the authority's own, once, with all the library's rules. A
// token of nobody known is still read as it came: what is no stamp at all is a
// fault whoever made it.
type stamp struct {
	response []byte
	// bare is the response without certificates, or the response itself where
	// that cannot be made of it; carried are the certificates' encodings.
	bare    []byte
	carried [][]byte
	parsed  *timestamp.Timestamp
	err     error
}

func parseStamp(response []byte) stamp {
	s := stamp{response: response, bare: response}
	if bare, carried, ok := withoutCertificates(response); ok {
		s.bare, s.carried = bare, carried
	}
	s.parsed, s.err = timestamp.ParseResponse(s.bare)
	return s
}

// whole is the stamp as it came, verified under the certificate that it carries.
func (s stamp) whole() (*timestamp.Timestamp, error) {
	if s.err != nil || len(s.carried) == 0 {
		return s.parsed, s.err
	}
	return timestamp.ParseResponse(s.response)
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

// namedBy are the trusted authorities whose leaf the stamp's signer info names
// by issuer and serial number. None is an error where the stamp is not good in
// itself.
func (t *trusted) namedBy(s stamp) (out []*root.SigstoreTimestampingAuthority, err error) {
	if s.err != nil {
		return nil, fmt.Errorf("parsing timestamp: %w", s.err)
	}
	message, err := pkcs7.Parse(s.parsed.RawToken)
	if err != nil {
		return nil, fmt.Errorf("parsing timestamp token: %w", err)
	}
	if len(message.Signers) != 1 {
		return nil, errors.New("a timestamp token has one signer")
	}
	name := message.Signers[0].IssuerAndSerialNumber
	for _, stamper := range t.stampers {
		if name.SerialNumber != nil && stamper.Leaf.SerialNumber.Cmp(name.SerialNumber) == 0 &&
			string(stamper.Leaf.RawIssuer) == string(name.IssuerName.FullBytes) {
			out = append(out, stamper)
		}
	}
	if len(out) == 0 {
		_, err = s.whole()
	}
	return out, err
}

// provenBy is the stamp's time if it is that authority's. Certificates are left
// away only where all of them are the authority's, so that it makes no
// difference; any other stamp is put to the library as it came.
func (s stamp) provenBy(authority *root.SigstoreTimestampingAuthority, signature []byte) (time.Time, bool) {
	response := s.response
	if ofAuthority(s.carried, authority) {
		response = s.bare
	}
	proven, err := authority.Verify(response, signature)
	if err != nil {
		return time.Time{}, false
	}
	return proven.Time.UTC(), true
}

// ofAuthority reports whether certificates are among the authority's, the leaf
// with them.
func ofAuthority(carried [][]byte, authority *root.SigstoreTimestampingAuthority) bool {
	leaf := false
	for _, raw := range carried {
		isLeaf := bytes.Equal(raw, authority.Leaf.Raw)
		if leaf = leaf || isLeaf; isLeaf || bytes.Equal(raw, authority.Root.Raw) {
			continue
		}
		known := false
		for _, c := range authority.Intermediates {
			known = known || bytes.Equal(c.Raw, raw)
		}
		if !known {
			return false
		}
	}
	return leaf
}

// withoutCertificates is a response in DER without the certificates in its
// token: SignedData.certificates, RFC 5652 section 5.1. ok is false for what is
// no DER of that form.
func withoutCertificates(response []byte) (bare []byte, carried [][]byte, ok bool) {
	var outer struct {
		Status asn1.RawValue
		Token  struct {
			Type    asn1.ObjectIdentifier
			Content asn1.RawValue
		}
	}
	if rest, err := asn1.Unmarshal(response, &outer); err != nil || len(rest) > 0 {
		return nil, nil, false
	}
	var data asn1.RawValue
	if rest, err := asn1.Unmarshal(outer.Token.Content.Bytes, &data); err != nil || len(rest) > 0 {
		return nil, nil, false
	}
	fields, ok := elements(data.Bytes)
	if !ok {
		return nil, nil, false
	}
	data.Bytes, data.FullBytes = nil, nil
	for _, field := range fields {
		if field.Class != asn1.ClassContextSpecific || field.Tag != 0 {
			data.Bytes = append(data.Bytes, field.FullBytes...)
			continue
		}
		certificates, ok := elements(field.Bytes)
		if !ok {
			return nil, nil, false
		}
		for _, c := range certificates {
			carried = append(carried, c.FullBytes)
		}
	}
	signedData, err := asn1.Marshal(data)
	if err != nil {
		return nil, nil, false
	}
	outer.Token.Content.Bytes, outer.Token.Content.FullBytes = signedData, nil
	bare, err = asn1.Marshal(outer)
	return bare, carried, err == nil
}

// elements are the values that follow each other in b.
func elements(b []byte) (out []asn1.RawValue, ok bool) {
	for len(b) > 0 {
		var next asn1.RawValue
		var err error
		if b, err = asn1.Unmarshal(b, &next); err != nil {
			return nil, false
		}
		out = append(out, next)
	}
	return out, true
}
