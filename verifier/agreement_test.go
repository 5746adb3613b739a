package verifier

import (
	"crypto"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/signature"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/internal/testauthority"
)

// What passes here passes the stock Sigstore verifier with the same trusted
// root too, neutral mutants included: this verifier is nowhere laxer.
func TestStockVerifierAgrees(t *testing.T) {
	mutants := 600
	if testing.Short() {
		mutants = 100
	}
	c, authority, draft, _ := newCourt(t)
	stock := stockVerifier(t, authority, draft.Key.Public())
	digest := c.bench.artifact.digest
	if err := stock(draft.JSON(), digest); err != nil {
		t.Fatalf("the stock verifier refuses an honest bundle: %v", err)
	}
	if stock(draft.JSON(), attest.DigestOf([]byte("other"))) == nil {
		t.Fatal("the stock verifier accepts another digest: the comparison proves nothing")
	}
	raw, agreed := draft.JSON(), 0
	for i := range mutants {
		m := &mutator{r: rand.New(rand.NewPCG(3, uint64(i)))}
		if err := json.Unmarshal(raw, &m.donor); err != nil {
			t.Fatal(err)
		}
		mutant := m.mutate(raw)
		if fact, _ := c.judge(attachment{format: formatBundle, bundle: mutant}); !fact.Accepted {
			continue
		}
		agreed++
		if err := stock(mutant, digest); err != nil {
			t.Errorf("only this verifier accepts: %v\n%s", err, mutant)
		}
	}
	t.Logf("%d of %d mutants pass both", agreed, mutants)
}

// The same for a signature by certificate: chain, certificate timestamp and
// identity included.
func TestStockVerifierAgreesOnIdentity(t *testing.T) {
	mutants := 600
	if testing.Short() {
		mutants = 100
	}
	c, authority, ca, draft := newIdentityCourt(t)
	material, err := ca.Trust(authority.Root()).Material()
	if err != nil {
		t.Fatal(err)
	}
	v, err := verify.NewVerifier(material, verify.WithTransparencyLog(1), verify.WithSignedTimestamps(1), verify.WithSignedCertificateTimestamps(1))
	if err != nil {
		t.Fatal(err)
	}
	who, err := verify.NewShortCertificateIdentity(courtIssuer, "", courtSubject, "")
	if err != nil {
		t.Fatal(err)
	}
	sum, err := hex.DecodeString(c.bench.artifact.digest.Hex())
	if err != nil {
		t.Fatal(err)
	}
	stock := func(raw []byte) error {
		var b bundle.Bundle
		if err := b.UnmarshalJSON(raw); err != nil {
			return err
		}
		_, err := v.Verify(&b, verify.NewPolicy(verify.WithArtifactDigest("sha256", sum), verify.WithCertificateIdentity(who)))
		return err
	}
	raw, agreed := draft.JSON(), 0
	if err := stock(raw); err != nil {
		t.Fatalf("the stock verifier refuses an honest bundle: %v", err)
	}
	for i := range mutants {
		m := &mutator{r: rand.New(rand.NewPCG(4, uint64(i)))}
		if err := json.Unmarshal(raw, &m.donor); err != nil {
			t.Fatal(err)
		}
		mutant := m.mutate(raw)
		if !c.try(attachment{format: formatBundle, bundle: mutant}) {
			continue
		}
		agreed++
		if err := stock(mutant); err != nil {
			t.Errorf("only this verifier accepts: %v\n%s", err, mutant)
		}
	}
	t.Logf("%d of %d mutants pass both", agreed, mutants)
}

type timeless struct{ signature.Verifier }

func (timeless) ValidAtTime(time.Time) bool { return true }

func stockVerifier(t *testing.T, authority *testauthority.Authority, public crypto.PublicKey) func([]byte, attest.Digest) error {
	t.Helper()
	material, err := authority.Root().Material()
	if err != nil {
		t.Fatal(err)
	}
	key, err := signature.LoadVerifier(public, crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	trusted := root.TrustedMaterialCollection{material, root.NewTrustedPublicKeyMaterial(
		func(string) (root.TimeConstrainedVerifier, error) { return timeless{key}, nil })}
	v, err := verify.NewVerifier(trusted, verify.WithTransparencyLog(1), verify.WithSignedTimestamps(1))
	if err != nil {
		t.Fatal(err)
	}
	return func(raw []byte, digest attest.Digest) error {
		var b bundle.Bundle
		if err := b.UnmarshalJSON(raw); err != nil {
			return err
		}
		sum, err := hex.DecodeString(digest.Hex())
		if err != nil {
			return err
		}
		_, err = v.Verify(&b, verify.NewPolicy(verify.WithArtifactDigest("sha256", sum), verify.WithKey()))
		return err
	}
}
