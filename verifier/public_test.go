package verifier

import (
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/bundle"

	"github.com/countersign/countersign/internal/testauthority"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/tlog"
	"github.com/countersign/countersign/trust"
)

// foreignRoot reads a trusted root that Sigstore publishes, as /v1/trust-roots
// would.
func foreignRoot(t *testing.T, name string) (trust.Root, *trusted) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "sigstore", name))
	if err != nil {
		t.Fatal(err)
	}
	root, err := trust.ParseTrustedRoot(raw)
	if err != nil {
		t.Fatal(err)
	}
	prepared, err := prepare("sigstore", root)
	if err != nil {
		t.Fatal(err)
	}
	return root, prepared
}

// material reads a bundle of any version.
func material(t *testing.T, name string) (entry *rekorpb.TransparencyLogEntry, cert []byte) {
	t.Helper()
	b, err := bundle.LoadJSONFromPath(filepath.Join("testdata", "sigstore", name))
	if err != nil {
		t.Fatal(err)
	}
	m := b.GetVerificationMaterial()
	cert = m.GetCertificate().GetRawBytes()
	if chain := m.GetX509CertificateChain().GetCertificates(); len(chain) > 0 {
		cert = chain[0].GetRawBytes()
	}
	return m.GetTlogEntries()[0], cert
}

// The public Sigstore instance, from its file alone: a certificate that it
// issued to a workflow of GitHub's in 2023 is believed at the time that its log
// promised, and at no other.
func TestPublicSigstore(t *testing.T) {
	_, public := foreignRoot(t, "public-good.json")
	entry, der := material(t, "sigstore-js-2.0.0.sigstore.json")
	log, known := public.logs[string(entry.GetLogId().GetKeyId())]
	if !known {
		t.Fatal("the root does not have the entry's log")
	}
	at, f := provePromise(log, entry)
	if f != nil {
		t.Fatalf("promise: %s", f.text)
	}
	s := &signed{}
	var err error
	if s.certificate, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	holder, f := public.issuers.certify(s.certificate, []time.Time{at})
	if f != nil {
		t.Fatalf("certificate: %s, %v", f.text, f.cause)
	}
	const (
		issuer  = "https://token.actions.githubusercontent.com"
		subject = "https://github.com/sigstore/sigstore-js/.github/workflows/release.yml@refs/heads/main"
	)
	if field := policy.ExactIdentity(issuer, subject, "sigstore").Mismatch(holder); field != "" || holder.Claims["repository"] != "sigstore/sigstore-js" || holder.Claims["ref"] != "refs/heads/main" {
		t.Errorf("%s: %+v", field, holder)
	}
	for _, late := range []time.Duration{-time.Hour, time.Hour} { // B6
		if _, f := public.issuers.certify(s.certificate, []time.Time{at, at.Add(late)}); f == nil || f.code != policy.CertificateExpired {
			t.Errorf("%s away: %+v", late, f)
		}
	}
	public.issuers.logs = nil
	if _, f := public.issuers.certify(s.certificate, []time.Time{at}); f == nil || f.code != policy.CertificateInvalid {
		t.Errorf("without its certificate transparency logs: %+v", f)
	}
	entry.IntegratedTime++
	if _, f := provePromise(log, entry); f == nil { // B6
		t.Error("a forged integrated time is believed")
	}
}

// A Rekor v1 log of several trees, and Fulcio's other name.
func TestRekorV1Entry(t *testing.T) {
	root, scaffolding := foreignRoot(t, "scaffolding.json")
	entry, der := material(t, "othername.sigstore.json")
	proven, known, f := scaffolding.proveEntry(tlog.ParseEntry(entry))
	if !known || f != nil || proven.time.IsZero() {
		t.Fatalf("known %v, fault %+v, proven %+v", known, f, proven)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	holder, f := scaffolding.issuers.certify(cert, []time.Time{proven.time})
	if f != nil || holder.Subject == "" || holder.Issuer == "" {
		t.Fatalf("%+v, %+v", holder, f)
	}
	log, _ := root.Log(entry.GetLogId().GetKeyId())
	for name, change := range map[string]func(*rekorpb.TransparencyLogEntry){
		"another tree": func(e *rekorpb.TransparencyLogEntry) { e.InclusionProof.LogIndex++ },
		"another size": func(e *rekorpb.TransparencyLogEntry) { e.InclusionProof.TreeSize++ },
		"another body": func(e *rekorpb.TransparencyLogEntry) { e.CanonicalizedBody = append(e.CanonicalizedBody, ' ') },
		"another kind": func(e *rekorpb.TransparencyLogEntry) { e.KindVersion.Version = "0.0.2" },
		"no tree in origin": func(e *rekorpb.TransparencyLogEntry) {
			e.InclusionProof.Checkpoint.Envelope = "rekor.local\n" + e.InclusionProof.Checkpoint.Envelope
		},
	} {
		changed, _ := material(t, "othername.sigstore.json")
		change(changed)
		if err := tlog.VerifyInclusionV1(changed, log.Origin, log.Public); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if _, _, f := scaffolding.proveEntry(tlog.ParseEntry(changed)); f == nil {
			t.Errorf("%s: proven", name)
		}
	}
	if err := tlog.VerifyInclusionV1(entry, log.Origin, testauthority.NewECDSA(t).Public()); !errors.Is(err, tlog.ErrCheckpoint) {
		t.Errorf("another log's key: %v", err)
	}
}
