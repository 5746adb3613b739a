package verifier_test

import (
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/in-toto/in-toto-golang/in_toto"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/attest/predicate"
	"github.com/countersign/countersign/internal/testauthority"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/verifier"
)

// supply is a layout of two steps by two keys, and a world whose one policy
// demands it.
type supply struct {
	*world
	build, pack *ecdsa.PrivateKey
}

func functionary(t testing.TB, key *ecdsa.PrivateKey) in_toto.Key {
	t.Helper()
	var k in_toto.Key
	if err := k.LoadKeyReaderDefaults(strings.NewReader(string(testauthority.PublicPEM(t, key.Public())))); err != nil {
		t.Fatal(err)
	}
	return k
}

func newSupply(t testing.TB, change ...func(*verifier.Config)) supply {
	t.Helper()
	s := supply{newWorld(t, change...), testauthority.NewECDSA(t), testauthority.NewECDSA(t)}
	document := in_toto.Layout{Type: "layout", Expires: "2027-01-01T00:00:00Z", Inspect: []in_toto.Inspection{}, Keys: map[string]in_toto.Key{}}
	for _, step := range []struct {
		name                string
		key                 *ecdsa.PrivateKey
		materials, products [][]string
	}{
		{"build", s.build, [][]string{{"DISALLOW", "*"}}, [][]string{{"CREATE", "app"}, {"DISALLOW", "*"}}},
		{"pack", s.pack, [][]string{{"MATCH", "app", "WITH", "PRODUCTS", "FROM", "build"}, {"DISALLOW", "*"}}, [][]string{{"CREATE", "image"}, {"DISALLOW", "*"}}},
	} {
		key := functionary(t, step.key)
		document.Keys[key.KeyID] = key
		document.Steps = append(document.Steps, in_toto.Step{
			Type: "step", Threshold: 1, ExpectedCommand: []string{}, PubKeys: []string{key.KeyID},
			SupplyChainItem: in_toto.SupplyChainItem{Name: step.name, ExpectedMaterials: step.materials, ExpectedProducts: step.products},
		})
	}
	raw, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	s.policies.put(t, `{"apiVersion":"countersign.dev/v1","kind":"TrustPolicy","metadata":{"name":"production"},
		"spec":{"match":{"images":["registry.example.com/**"]},"authorities":{},"require":{"all":[{"layout":{"document":`+string(raw)+`}}]}}}`)
	return s
}

// link is a link/v0.3 of one step.
func link(step, material, product string, made attest.Digest) []byte {
	materials := "[]"
	if material != "" {
		materials = fmt.Sprintf(`[{"name":"app","digest":{"sha256":%q}}]`, material)
	}
	return fmt.Appendf(nil, `{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":%q,"digest":{"sha256":%q}}],
		"predicateType":%q,"predicate":{"name":%q,"materials":%s}}`, product, made.Hex(), predicate.LinkV03, step, materials)
}

// A layout is satisfied by links of its own keys that hang together and end in
// this image (rows A1, A4, F4, F6).
func TestLayout(t *testing.T) {
	app := attest.DigestOf([]byte("app"))
	for name, c := range map[string]struct {
		attach func(s supply, image attest.Digest, add func([]byte, *ecdsa.PrivateKey))
		passes bool
	}{
		"good": {func(s supply, image attest.Digest, add func([]byte, *ecdsa.PrivateKey)) {
			add(link("build", "", "app", app), s.build)
			add(link("pack", app.Hex(), "image", image), s.pack)
		}, true},
		"good among others": {func(s supply, image attest.Digest, add func([]byte, *ecdsa.PrivateKey)) {
			add(testauthority.Attested(image, predicate.CosignCustom, `{}`), s.pack)
			add(link("pack", app.Hex(), "image", attest.DigestOf([]byte("other"))), s.pack)
			add(link("pack", app.Hex(), "image", image), s.pack)
			add(link("build", "", "app", app), s.build)
		}, true},
		"nothing": {func(supply, attest.Digest, func([]byte, *ecdsa.PrivateKey)) {}, false},
		"only the end": {func(s supply, image attest.Digest, add func([]byte, *ecdsa.PrivateKey)) {
			add(link("pack", app.Hex(), "image", image), s.pack)
		}, false},
		"A1 another image": {func(s supply, _ attest.Digest, add func([]byte, *ecdsa.PrivateKey)) {
			add(link("build", "", "app", app), s.build)
			add(link("pack", app.Hex(), "image", attest.DigestOf([]byte("other"))), s.pack)
		}, false},
		"A4 steps without a common artifact": {func(s supply, image attest.Digest, add func([]byte, *ecdsa.PrivateKey)) {
			add(link("build", "", "app", attest.DigestOf([]byte("another app"))), s.build)
			add(link("pack", app.Hex(), "image", image), s.pack)
		}, false},
		"A4 no materials": {func(s supply, image attest.Digest, add func([]byte, *ecdsa.PrivateKey)) {
			add(link("build", "", "app", app), s.build)
			add(link("pack", "", "image", image), s.pack)
		}, false},
		"F6 key of another step": {func(s supply, image attest.Digest, add func([]byte, *ecdsa.PrivateKey)) {
			add(link("build", "", "app", app), s.pack)
			add(link("pack", app.Hex(), "image", image), s.pack)
		}, false},
		"stranger": {func(s supply, image attest.Digest, add func([]byte, *ecdsa.PrivateKey)) {
			add(link("build", "", "app", app), s.build)
			add(link("pack", app.Hex(), "image", image), testauthority.NewECDSA(s.t))
		}, false},
	} {
		for _, format := range formats() {
			t.Run(name+" "+format, func(t *testing.T) {
				t.Attr("format", map[string]string{"bundle": "attested", "att": "att"}[format])
				s := newSupply(t)
				digest, image := s.image(name)
				c.attach(s, digest, func(statement []byte, key *ecdsa.PrivateKey) {
					if format == "bundle" {
						s.attachBundle(digest, s.authority.BundleOf(statement, key, s.signedAt).JSON())
					} else {
						s.attachAttestation(digest, s.authority.LegacyAttestation(statement, key, s.signedAt))
					}
				})
				if !c.passes {
					s.wantFailed(image, policy.LayoutNotSatisfied)
					return
				}
				if e := s.wantPassed(image).Policies[0].Requirements[0].Evidence; len(e) != 1 || e[0].Format != policy.FormatLayout {
					t.Errorf("%+v", e)
				}
			})
		}
	}
	// A changed link is nobody's.
	s := newSupply(t)
	digest, image := s.image("spoiled")
	s.attachBundle(digest, s.authority.BundleOf(link("build", "", "app", app), s.build, s.signedAt).JSON())
	spoiled := s.authority.BundleOf(link("pack", app.Hex(), "image", attest.DigestOf([]byte("other"))), s.pack, s.signedAt)
	spoiled.Payload = link("pack", app.Hex(), "image", digest)
	s.attachBundle(digest, spoiled.JSON())
	s.wantFailed(image, policy.LayoutNotSatisfied)
}
