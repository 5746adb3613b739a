package verifier_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/internal/testauthority"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
)

func policyAttacks() []matrixAttack {
	somebody := func(h *hall) policy.Code {
		if h.form.by == "key" {
			return policy.UntrustedKey
		}
		return policy.IdentityMismatch
	}
	return []matrixAttack{
		{name: "C2 one signer under two names", run: func(_ *testing.T, h *hall) {
			h.require(`{atLeast: {n: 2, of: [` + h.leaf("one") + "," + h.leaf("copy") + "," + h.leaf("two") + `]}}`)
			digest, image := h.image("app")
			h.good(digest, first).attach()
			h.good(digest, first).attach()
			h.wantFailed(image, policy.ThresholdNotMet)
			h.later()
			h.good(digest, second).attach()
			h.wantPassed(image)
		}},
		{name: "C4 bad ones first", run: func(_ *testing.T, h *hall) {
			digest, image := h.image("app")
			for range 3 {
				h.good(digest, stranger).attach()
			}
			h.wantFailed(image, somebody(h))
			h.later()
			h.good(digest, first).attach()
			h.good(digest, stranger).attach()
			h.wantPassed(image)
		}},
		{name: "F1 F3 nothing attached", run: func(_ *testing.T, h *hall) {
			want := policy.NoSignature
			if h.form.attests {
				want = policy.AttestationMissing
			}
			digest, image := h.image("app")
			h.wantFailed(image, want)
			h.later()
			h.good(digest, first).attach()
			h.wantPassed(image)
		}},
		{name: "F1 F2 of another kind", applies: statements, run: func(_ *testing.T, h *hall) {
			digest, image := h.image("app")
			x := h.good(digest, first)
			from, to := testauthority.SignPredicateType, "https://slsa.dev/provenance/v1"
			if h.form.attests {
				from, to = ownType, ownType+"x"
			}
			x.rewrite(replace(from, to))
			x.attach()
			h.wantFailed(image, policy.PredicateTypeMismatch)
			h.later()
			h.good(digest, first).attach()
			h.wantPassed(image)
		}},
		{name: "F2 malformed payload", applies: rewritable, want: policy.SignatureInvalid, spoil: func(_ *hall, x *specimen) {
			x.rewrite(func(s string) string { return s[:len(s)/2] })
		}},
		{name: "F5 second of two missing, then broken", run: func(_ *testing.T, h *hall) {
			h.require(`{all: [` + h.leaf("one") + "," + h.leaf("two") + `]}`)
			digest, image := h.image("app")
			h.good(digest, first).attach()
			h.wantFailed(image, somebody(h))
			h.later()
			x := h.good(digest, second)
			x.unsigned(make([]byte, 64))
			x.attach()
			if r := h.verify(image).Results[0]; r.Verdict != policy.Failed {
				h.t.Fatalf("%+v", r)
			}
			h.later()
			h.good(digest, second).attach()
			h.wantPassed(image)
		}},
		{name: "F7 no policy covers it", run: func(t *testing.T, h *hall) {
			digest, image := h.image("app")
			h.good(digest, first).attach()
			h.wantPassed(image)
			h.wantFailed("other.example.com/team/app@"+digest.String(), policy.NoPolicy)
		}},
		{name: "G3 tag moves between reads", run: func(_ *testing.T, h *hall) {
			good, _ := h.image("good")
			bad, _ := h.image("bad")
			h.good(good, first).attach()
			h.registry.tag("1.4", good)
			h.registry.beforeRead = func(context.Context, registry.Reference) error { h.registry.tag("1.4", bad); return nil }
			if r := h.wantPassed(repository + ":1.4"); r.Digest != good.String() {
				h.t.Errorf("judged %s", r.Digest)
			}
			x := h.good(good, first)
			x.digest = bad
			x.attach()
			h.wantFailed(repository+":1.4", policy.SubjectMismatch)
		}},
		{name: "H11 condition that costs too much", applies: func(f form) bool { return f.attests }, run: func(_ *testing.T, h *hall) {
			for condition, want := range map[string]policy.Code{
				"predicate.n.all(a, a >= 0)": "",
				"predicate.n.all(a, predicate.n.all(b, predicate.n.all(c, predicate.n.all(d, a + b + c + d >= 0))))": policy.ConditionError,
			} {
				h.require(fmt.Sprintf(`{attestation: {predicateType: %q, by: one, condition: %q}}`, ownType, condition))
				digest, image := h.image(condition)
				x := h.good(digest, first)
				x.rewrite(replace(`{"a":1}`, `{"n":[`+strings.Repeat("0,", 4000)+"0]}"))
				x.attach()
				if want == "" {
					h.wantPassed(image)
				} else {
					h.wantFailed(image, want)
				}
			}
		}},
		{name: "J3 policy changes after it is remembered", run: func(_ *testing.T, h *hall) {
			digest, image := h.image("app")
			h.good(digest, first).attach()
			h.wantPassed(image)
			if !h.wantPassed(image).Cached {
				h.t.Error("the control is not remembered")
			}
			h.require("two")
			h.wantFailed(image, somebody(h))
		}},
	}
}

func hostileAttacks() []matrixAttack {
	return []matrixAttack{
		{name: "A1 other bytes under the digest", run: func(_ *testing.T, h *hall) {
			digest, image := h.image("app")
			h.good(digest, first).attach()
			h.wantPassed(image)
			digest, image = h.image("lied about")
			h.good(digest, first).attach()
			h.registry.lie[digest] = []byte(`{"schemaVersion":2}`)
			h.wantFailed(image, policy.DigestMismatch)
		}},
		{name: "H1 H3 more than is read", run: func(_ *testing.T, h *hall) {
			digest, image := h.image("app")
			h.registry.change(digest, func(f *registry.Found) { f.Truncated = true })
			h.wantFailed(image, policy.LimitExceeded)
			h.later()
			h.good(digest, first).attach()
			h.wantPassed(image)
		}},
		{name: "H2 more subjects than are read", applies: statements, want: policy.SignatureInvalid, spoil: func(_ *hall, x *specimen) {
			x.rewrite(replace(`"subject":[`, `"subject":[`+strings.Repeat(`{"digest":{"sha256":"`+x.digest.Hex()+`"}},`, 1024)))
		}},
		{name: "H7 null in the place of each part", run: func(t *testing.T, h *hall) {
			digest, image := h.image("control")
			h.good(digest, first).attach()
			h.wantPassed(image)
			digest, image = h.image("spoiled")
			for i := range 200 {
				x, more, neutral := h.good(digest, first), false, false
				x.raw = func(s string) (out string) {
					out, more = nullAt(s, i)
					neutral = out == s || strings.Contains(out, `"hint":null`) // a hint is only a hint
					return out
				}
				h.registry.detach(digest)
				x.attach()
				if !more {
					return
				}
				h.later()
				r := h.verify(image).Results[0]
				if !neutral && (r.Verdict != policy.Failed || len(r.Reasons) == 0) {
					t.Errorf("null %d: %+v", i, r)
				} else if !neutral {
					t.Attr("verdict", "FAILED "+string(r.Reasons[0].Code))
				}
			}
			t.Error("more nulls than the test tries")
		}, applies: func(f form) bool { return f.by != "x509" || f.name == "jws" }},
		{name: "H9 deep nesting", want: policy.SignatureInvalid, spoil: func(h *hall, x *specimen) {
			x.raw = func(string) string {
				if h.form.name == "cose" {
					return strings.Repeat("\x81", 100_000)
				}
				return `{"a":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + "}"
			}
		}},
		{name: "H10 deep ASN.1 in the place of a certificate", applies: func(f form) bool { return f.by == "x509" }, want: policy.SignatureInvalid, spoil: func(_ *hall, x *specimen) {
			x.notary.Chain = append(x.notary.Chain, &x509.Certificate{Raw: bytes.Repeat([]byte{0x30, 0x80}, 50_000)})
		}},
		{name: "H10 more certificates than are read", applies: func(f form) bool { return f.by == "x509" }, want: policy.SignatureInvalid, spoil: func(_ *hall, x *specimen) {
			for range 1000 {
				x.notary.Chain = append(x.notary.Chain, x.notary.Chain[1])
			}
		}},
	}
}

// later is past the time for which a refusal is remembered.
func (h *hall) later() { h.setNow(h.now.Load().Add(2 * time.Minute)) }

// certify changes the certificate that the specimen's key is of.
func (x *specimen) certify(c *x509.Certificate) {
	switch {
	case x.bundle != nil:
		x.bundle.Certificate = c
	case x.legacy != nil:
		x.legacy.Certificate = c
	case x.att != nil:
		x.att.Certificate = c
	}
}

// at signs again at another time.
func (x *specimen) at(t time.Time) {
	switch {
	case x.bundle != nil:
		x.bundle.At = t
	case x.legacy != nil:
		x.legacy.At = t
	case x.att != nil:
		x.att.At = t
	}
	x.resign()
}

// nulled puts null in the place of a member, which must be an object.
func nulled(s, name string) string {
	i := strings.Index(s, fmt.Sprintf("%q:", name))
	if i < 0 {
		return s
	}
	start := i + len(name) + 3
	end := start + strings.Index(s[start:], "}") + 1
	return s[:start] + "null" + s[end:]
}

// nullAt puts null in the place of the member or element number n of a JSON
// document, in the order of names; more reports whether there is one.
func nullAt(s string, n int) (out string, more bool) {
	var tree any
	if err := json.Unmarshal([]byte(s), &tree); err != nil {
		return s, false
	}
	var visit func(node any)
	visit = func(node any) {
		switch node := node.(type) {
		case map[string]any:
			for _, name := range slices.Sorted(maps.Keys(node)) {
				if n--; n == -1 {
					node[name], more = nil, true
					return
				}
				visit(node[name])
			}
		case []any:
			for i := range node {
				if n--; n == -1 {
					node[i], more = nil, true
					return
				}
				visit(node[i])
			}
		}
	}
	visit(tree)
	raw, err := json.Marshal(tree)
	if err != nil {
		return s, false
	}
	return string(raw), more
}
