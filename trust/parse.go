package trust

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"net/url"
	"time"

	commonpb "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	trustpb "github.com/sigstore/protobuf-specs/gen/pb-go/trustroot/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/countersign/countersign/internal/strictjson"
)

// Bounds of a trusted root document; the public Sigstore instance's is below
// 16 KiB.
const (
	documentBytes = 1 << 20
	instances     = 256
)

// ParseTrustedRoot reads trusted_root.json, ours or somebody else's, of at most
// 1 MiB. Unknown and duplicate fields are refused, and everything that
// sigstore-go refuses. Marshal accepts the result unless it breaks one of the
// package's rules, which foreign documents may.
func ParseTrustedRoot(b []byte) (Root, error) {
	if len(b) > documentBytes {
		return Root{}, fmt.Errorf("%w: larger than %d bytes", ErrRoot, documentBytes)
	}
	if err := strictjson.Check(b); err != nil {
		return Root{}, fmt.Errorf("%w: %w", ErrRoot, err)
	}
	var doc trustpb.TrustedRoot
	if err := protojson.Unmarshal(b, &doc); err != nil {
		return Root{}, fmt.Errorf("%w: %w", ErrRoot, err)
	}
	if len(doc.GetTlogs())+len(doc.GetCtlogs())+len(doc.GetTimestampAuthorities())+len(doc.GetCertificateAuthorities()) > instances {
		return Root{}, fmt.Errorf("%w: more than %d instances", ErrRoot, instances)
	}
	if _, err := root.NewTrustedRootFromProtobuf(&doc); err != nil {
		return Root{}, fmt.Errorf("%w: %w", ErrRoot, err)
	}
	return fromProto(&doc)
}

// Material is the root as sigstore-go takes it.
func (r Root) Material() (root.TrustedMaterial, error) {
	doc, err := r.MarshalTrustedRoot()
	if err != nil {
		return nil, err
	}
	material, err := root.NewTrustedRootFromJSON(doc)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRoot, err)
	}
	return material, nil
}

func fromProto(doc *trustpb.TrustedRoot) (Root, error) {
	var out Root
	for _, instance := range doc.GetTlogs() {
		l, err := parseLog(instance)
		if err != nil {
			return Root{}, err
		}
		if u, err := url.Parse(l.BaseURL); err == nil {
			l.Origin = u.Hostname()
		}
		if other, ok := out.Log(l.ID); ok && !sameKey(other.Public, l.Public) {
			return Root{}, fmt.Errorf("%w: log %s has the id of another log", ErrRoot, l.BaseURL)
		}
		out.Logs = append(out.Logs, l)
	}
	for _, instance := range doc.GetCtlogs() {
		l, err := parseLog(instance)
		if err != nil {
			return Root{}, err
		}
		out.CTLogs = append(out.CTLogs, l)
	}
	for _, instance := range doc.GetTimestampAuthorities() {
		a, err := parseAuthority(instance)
		if err != nil {
			return Root{}, err
		}
		out.TimestampAuthorities = append(out.TimestampAuthorities, TimestampAuthority(a))
	}
	for _, instance := range doc.GetCertificateAuthorities() {
		a, err := parseAuthority(instance)
		if err != nil {
			return Root{}, err
		}
		out.CertificateAuthorities = append(out.CertificateAuthorities, a)
	}
	return out, nil
}

func parseLog(instance *trustpb.TransparencyLogInstance) (Log, error) {
	raw := instance.GetPublicKey().GetRawBytes()
	pub, err := x509.ParsePKIXPublicKey(raw)
	if err != nil && instance.GetPublicKey().GetKeyDetails() == commonpb.PublicKeyDetails_PKCS1_RSA_PKCS1V5 { //nolint:staticcheck // the public staging log still uses it
		pub, err = x509.ParsePKCS1PublicKey(raw)
	}
	if err != nil {
		return Log{}, fmt.Errorf("%w: key of log %s: %w", ErrRoot, instance.GetBaseUrl(), err)
	}
	// An empty id would be that of every entry which names no log.
	if len(instance.GetLogId().GetKeyId()) == 0 {
		return Log{}, fmt.Errorf("%w: log %s has an empty id", ErrRoot, instance.GetBaseUrl())
	}
	start, end, err := parseWindow(instance.GetPublicKey().GetValidFor())
	if err != nil {
		return Log{}, err
	}
	return Log{BaseURL: instance.GetBaseUrl(), ID: instance.GetLogId().GetKeyId(), Public: pub, Start: start, End: end}, nil
}

func sameKey(a, b crypto.PublicKey) bool {
	key, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(b)
}

func parseAuthority(instance *trustpb.CertificateAuthority) (CertificateAuthority, error) {
	out := CertificateAuthority{URI: instance.GetUri()}
	for _, c := range instance.GetCertChain().GetCertificates() {
		certificate, err := x509.ParseCertificate(c.GetRawBytes())
		if err != nil {
			return out, fmt.Errorf("%w: certificate of %s: %w", ErrRoot, out.URI, err)
		}
		out.Chain = append(out.Chain, certificate)
	}
	var err error
	out.Start, out.End, err = parseWindow(instance.GetValidFor())
	return out, err
}

func parseWindow(w *commonpb.TimeRange) (start time.Time, end *time.Time, err error) {
	if w.GetStart() != nil {
		if err := w.GetStart().CheckValid(); err != nil {
			return start, nil, fmt.Errorf("%w: %w", ErrRoot, err)
		}
		start = w.GetStart().AsTime()
	}
	if w.GetEnd() != nil {
		if err := w.GetEnd().CheckValid(); err != nil {
			return start, nil, fmt.Errorf("%w: %w", ErrRoot, err)
		}
		t := w.GetEnd().AsTime()
		end = &t
	}
	return start, end, nil
}
