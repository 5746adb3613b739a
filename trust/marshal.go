package trust

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"
	commonpb "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	trustpb "github.com/sigstore/protobuf-specs/gen/pb-go/trustroot/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// MarshalTrustedRoot is trusted_root.json. Equal roots give equal bytes
// (RFC 8785).
func (r Root) MarshalTrustedRoot() ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	doc := &trustpb.TrustedRoot{MediaType: root.TrustedRootMediaType01}
	var err error
	if doc.Tlogs, err = logInstances(r.Logs, false); err != nil {
		return nil, err
	}
	if doc.Ctlogs, err = logInstances(r.CTLogs, true); err != nil {
		return nil, err
	}
	for _, a := range r.TimestampAuthorities {
		doc.TimestampAuthorities = append(doc.TimestampAuthorities, authority(a.URI, a.Chain, a.Start, a.End))
	}
	for _, a := range r.CertificateAuthorities {
		doc.CertificateAuthorities = append(doc.CertificateAuthorities, authority(a.URI, a.Chain, a.Start, a.End))
	}
	return canonical(doc)
}

// MarshalSigningConfig is signing_config.json: where stock clients sign. It
// names the newest open log, as Rekor API version 2, and the newest open
// timestamp authority, one of each, because a client writes to every service
// of a list whose operator differs. Certificate authorities are left out until
// one is open.
func (r Root) MarshalSigningConfig() ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	doc := &trustpb.SigningConfig{MediaType: root.SigningConfigMediaType02}
	if l, ok := newest(r.Logs, func(l Log) (time.Time, *time.Time) { return l.Start, l.End }); ok {
		doc.RekorTlogUrls = []*trustpb.Service{service(cmp.Or(l.WriteURL, l.BaseURL), 2, l.Start)}
		doc.RekorTlogConfig = &trustpb.ServiceConfiguration{Selector: trustpb.ServiceSelector_ANY}
	}
	if a, ok := newest(r.TimestampAuthorities, func(a TimestampAuthority) (time.Time, *time.Time) { return a.Start, a.End }); ok {
		doc.TsaUrls = []*trustpb.Service{service(a.URI, 1, a.Start)}
		doc.TsaConfig = &trustpb.ServiceConfiguration{Selector: trustpb.ServiceSelector_ANY}
	}
	if a, ok := newest(r.CertificateAuthorities, func(a CertificateAuthority) (time.Time, *time.Time) { return a.Start, a.End }); ok {
		doc.CaUrls = []*trustpb.Service{service(a.URI, 1, a.Start)}
	}
	return canonical(doc)
}

// newest is the element without an end that started last; of those that started
// in the same second, the last one.
func newest[T any](all []T, window func(T) (time.Time, *time.Time)) (T, bool) {
	open := slices.DeleteFunc(slices.Clone(all), func(v T) bool { _, end := window(v); return end != nil })
	slices.Reverse(open)
	if len(open) == 0 {
		var none T
		return none, false
	}
	return slices.MaxFunc(open, func(a, b T) int {
		startA, _ := window(a)
		startB, _ := window(b)
		return startA.Compare(startB)
	}), true
}

func service(address string, version uint32, start time.Time) *trustpb.Service {
	operator, err := hostname(address)
	if err != nil {
		operator = address
	}
	return &trustpb.Service{
		Url: address, MajorApiVersion: version, Operator: operator,
		ValidFor: &commonpb.TimeRange{Start: timestamppb.New(start)},
	}
}

func logInstances(logs []Log, ct bool) ([]*trustpb.TransparencyLogInstance, error) {
	out := make([]*trustpb.TransparencyLogInstance, 0, len(logs))
	for _, l := range logs {
		instance, err := logInstance(l, ct)
		if err != nil {
			return nil, err
		}
		out = append(out, instance)
	}
	return out, nil
}

func logInstance(l Log, ct bool) (*trustpb.TransparencyLogInstance, error) {
	id, err := l.id(ct)
	if err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(l.Public)
	if err != nil {
		return nil, fmt.Errorf("%w: key of log %s: %w", ErrRoot, l.BaseURL, err)
	}
	details, err := keyDetails(l.Public)
	if err != nil {
		return nil, fmt.Errorf("%w: log %s: %w", ErrRoot, l.BaseURL, err)
	}
	return &trustpb.TransparencyLogInstance{
		BaseUrl:       l.BaseURL,
		HashAlgorithm: commonpb.HashAlgorithm_SHA2_256,
		PublicKey:     &commonpb.PublicKey{RawBytes: spki, KeyDetails: details, ValidFor: window(l.Start, l.End)},
		LogId:         &commonpb.LogId{KeyId: id},
	}, nil
}

func authority(uri string, chain []*x509.Certificate, start time.Time, end *time.Time) *trustpb.CertificateAuthority {
	certificates := make([]*commonpb.X509Certificate, 0, len(chain))
	for _, c := range chain {
		certificates = append(certificates, &commonpb.X509Certificate{RawBytes: c.Raw})
	}
	subject := chain[len(chain)-1].Subject
	name := &commonpb.DistinguishedName{CommonName: subject.CommonName}
	if len(subject.Organization) > 0 {
		name.Organization = subject.Organization[0]
	}
	return &trustpb.CertificateAuthority{
		Uri: uri, Subject: name, ValidFor: window(start, end),
		CertChain: &commonpb.X509CertificateChain{Certificates: certificates},
	}
}

func window(start time.Time, end *time.Time) *commonpb.TimeRange {
	out := &commonpb.TimeRange{Start: timestamppb.New(start)}
	if end != nil {
		out.End = timestamppb.New(*end)
	}
	return out
}

func keyDetails(pub crypto.PublicKey) (commonpb.PublicKeyDetails, error) {
	switch key := pub.(type) {
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256():
			return commonpb.PublicKeyDetails_PKIX_ECDSA_P256_SHA_256, nil
		case elliptic.P384():
			return commonpb.PublicKeyDetails_PKIX_ECDSA_P384_SHA_384, nil
		case elliptic.P521():
			return commonpb.PublicKeyDetails_PKIX_ECDSA_P521_SHA_512, nil
		}
	case ed25519.PublicKey:
		return commonpb.PublicKeyDetails_PKIX_ED25519, nil
	case *rsa.PublicKey:
		switch key.Size() {
		case 256:
			return commonpb.PublicKeyDetails_PKIX_RSA_PKCS1V15_2048_SHA256, nil
		case 384:
			return commonpb.PublicKeyDetails_PKIX_RSA_PKCS1V15_3072_SHA256, nil
		case 512:
			return commonpb.PublicKeyDetails_PKIX_RSA_PKCS1V15_4096_SHA256, nil
		}
	}
	return 0, fmt.Errorf("%T is not a key that clients know", pub)
}

func canonical(doc proto.Message) ([]byte, error) {
	b, err := protojson.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRoot, err)
	}
	out, err := jsoncanonicalizer.Transform(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRoot, err)
	}
	return out, nil
}
