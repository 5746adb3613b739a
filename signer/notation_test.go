package signer_test

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"testing"

	"github.com/countersign/countersign/attest/notary"
	"github.com/countersign/countersign/authority"
	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
	"github.com/countersign/countersign/signer"
)

// notaryParts are the real authorities.
type notaryParts struct {
	*authority.Notary
	stamper *authority.Timestamper
}

func (n notaryParts) Stamp(ctx context.Context, message []byte) ([]byte, error) {
	return n.stamper.StampCertified(ctx, message)
}

func notaryOf(t *testing.T, w *world) notaryParts {
	t.Helper()
	must[keys.Key](t)(w.ring.Ensure(t.Context(), keys.Spec{Name: "notary", Purposes: []string{"notary"}}))
	n := must[*authority.Notary](t)(authority.OpenNotary(t.Context(), authority.NotaryConfig{
		Key: must[crypto.Signer](t)(w.ring.Signer(t.Context(), "notary")), Objects: w.db.Objects(), Clock: clock.System{},
	}))
	return notaryParts{n, w.tsa}
}

func TestSignNotation(t *testing.T) {
	t.Parallel()
	for name, options := range map[string][]worldOption{"referrers": nil, "fallback tag": {withoutReferrers}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, options...)
			s := newSite(t, w)
			config := s.config()
			config.Notary = notaryOf(t, w)
			_, image := s.push(t, name)
			result, _, err := start(t, config).Sign(t.Context(), ci(), signer.Request{
				Image: image, Key: "release", Formats: []string{"notation", "bundle"}, Annotations: map[string]string{"git.sha": "<abc>"},
			})
			if err != nil {
				t.Fatal(err)
			}
			made := result.Signatures[1]
			if made.Format != "notation" || made.Notation == nil || made.Referrer == "" || made.LogEntry.LogID == "" {
				t.Fatalf("made %+v", made)
			}
			e, err := notary.Parse(notary.MediaTypeJWS, made.Notation.Envelope)
			if err != nil || e.Target.Annotations["git.sha"] != "<abc>" || len(e.Timestamp) == 0 || e.Chain[0].Subject.CommonName != "release" {
				t.Fatalf("envelope %+v, %v", e, err)
			}
			if entry, err := made.LoggedEntry(); err != nil || len(entry.Body) == 0 || len(entry.Proof) == 0 {
				t.Errorf("logged entry %+v, %v", entry, err)
			}
			var attached []byte
			for _, a := range s.found(t, image) {
				if a.Format == registry.FormatNotation {
					attached = a.Envelope.Content
				}
			}
			if !bytes.Equal(attached, made.Notation.Envelope) {
				t.Error("the registry has another envelope")
			}
			if answer := s.verdict(t, image); answer.Verdict != policy.Passed {
				t.Errorf("the verifier says %+v", answer)
			}
		})
	}
}

// TestNotationRefuses: what the format cannot say is refused before anything is
// contacted.
func TestNotationRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newSite(t, w)
	config := s.config()
	config.Notary = notaryOf(t, w)
	_, image := s.push(t, "refused")
	for name, algorithm := range map[string]keys.Algorithm{"ed25519": keys.Ed25519, "p384": keys.RSA3072} {
		must[keys.Key](t)(w.ring.Create(t.Context(), keys.Spec{Name: name, Algorithm: algorithm}))
	}
	before := w.requests.Load()
	for name, r := range map[string]signer.Request{
		"ed25519":     {Image: image, Key: "ed25519", Formats: []string{"notation"}},
		"rsa":         {Image: image, Key: "p384", Formats: []string{"notation"}},
		"identity":    {Image: image, Key: "identity", Formats: []string{"notation"}},
		"attestation": {Image: image, Key: "release", Action: policy.ActionAttest, PredicateType: "https://example.com/p", Predicate: []byte(`{}`), Formats: []string{"notation"}},
	} {
		caller := ci()
		if r.Key == signer.IdentityKey {
			caller = identity.Identity{Issuer: "https://issuer.example.com", Subject: "job", Claims: map[string]string{"sub": "job"}}
		}
		_, _, err := start(t, config).Sign(t.Context(), caller, r)
		var request *signer.RequestError
		if !errors.As(err, &request) || request.Field != "/formats/0" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if w.requests.Load() != before {
		t.Error("the registry was contacted")
	}
	_, _, err := start(t, s.config()).Sign(t.Context(), ci(), signer.Request{Image: image, Key: "release", Formats: []string{"notation"}})
	var request *signer.RequestError
	if !errors.As(err, &request) {
		t.Errorf("without an authority: %v", err)
	}
	if _, _, err := start(t, config).Sign(t.Context(), ci(), signer.Request{Image: image, Key: "release", Formats: []string{"notation"}}); err != nil {
		t.Errorf("the control: %v", err)
	}
}
