package layout_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/in-toto/in-toto-golang/in_toto"
	"github.com/secure-systems-lab/go-securesystemslib/signerverifier"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/attest/layout"
	"github.com/countersign/countersign/attest/predicate"
)

var (
	now   = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	image = attest.DigestOf([]byte("image"))
)

func newKey(t testing.TB, private any, err error) in_toto.Key {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	var k in_toto.Key
	if err := k.LoadKeyReaderDefaults(bytes.NewReader(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))); err != nil {
		t.Fatal(err)
	}
	return k
}

func newECDSA(t testing.TB) in_toto.Key {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	return newKey(t, private, err)
}

func newEd25519(t testing.TB) in_toto.Key {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	return newKey(t, private, err)
}

func newRSA(t testing.TB) in_toto.Key {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	return newKey(t, private, err)
}

func public(k in_toto.Key) in_toto.Key {
	k.KeyVal.Private = ""
	return k
}

type artifacts = map[string]in_toto.HashObj

func file(content string) in_toto.HashObj {
	return in_toto.HashObj{"sha256": attest.DigestOf([]byte(content)).Hex()}
}

// chain is a layout of three steps, of which the second needs two of three
// keys, and links that satisfy it.
type chain struct {
	source, build1, build2, build3, pack in_toto.Key
	layout                               in_toto.Layout
	links                                map[string]in_toto.Link
}

func newChain(t testing.TB) *chain {
	t.Helper()
	c := &chain{source: newEd25519(t), build1: newECDSA(t), build2: newECDSA(t), build3: newRSA(t), pack: newECDSA(t)}
	step := func(name string, threshold int, materials, products [][]string, keys ...in_toto.Key) in_toto.Step {
		s := in_toto.Step{
			Type: "step", Threshold: threshold, ExpectedCommand: []string{},
			SupplyChainItem: in_toto.SupplyChainItem{Name: name, ExpectedMaterials: materials, ExpectedProducts: products},
		}
		for _, k := range keys {
			s.PubKeys = append(s.PubKeys, k.KeyID)
		}
		return s
	}
	c.layout = in_toto.Layout{
		Type: "layout", Expires: "2027-01-01T00:00:00Z", Inspect: []in_toto.Inspection{}, Keys: map[string]in_toto.Key{},
		Steps: []in_toto.Step{
			step("source", 1, [][]string{{"DISALLOW", "*"}}, [][]string{{"CREATE", "src/*"}, {"DISALLOW", "*"}}, c.source),
			step("build", 2, [][]string{{"MATCH", "src/*", "WITH", "PRODUCTS", "FROM", "source"}, {"DISALLOW", "*"}},
				[][]string{{"CREATE", "bin/app"}, {"ALLOW", "src/*"}, {"DISALLOW", "*"}}, c.build1, c.build2, c.build3),
			step("pack", 1, [][]string{{"MATCH", "app", "IN", "in", "WITH", "PRODUCTS", "IN", "bin", "FROM", "build"}, {"DISALLOW", "*"}},
				[][]string{{"CREATE", "image"}, {"DISALLOW", "[!i]*"}}, c.pack),
		},
	}
	for _, k := range []in_toto.Key{c.source, c.build1, c.build2, c.build3, c.pack} {
		c.layout.Keys[k.KeyID] = public(k)
	}
	sources := artifacts{"src/main.c": file("main"), "src/lib/util.c": file("util")}
	c.links = map[string]in_toto.Link{
		"source": newLink("source", artifacts{}, sources),
		"build":  newLink("build", sources, artifacts{"src/main.c": file("main"), "src/lib/util.c": file("util"), "bin/app": file("app")}),
		"pack":   newLink("pack", artifacts{"in/app": file("app")}, artifacts{"image": {"sha256": image.Hex()}, "in/app": file("app")}),
	}
	return c
}

func newLink(name string, materials, products artifacts) in_toto.Link {
	return in_toto.Link{
		Type: "link", Name: name, Materials: materials, Products: products,
		ByProducts: map[string]any{"return-value": 0, "stdout": "a \"b\"\n\\"}, Command: []string{"make"}, Environment: map[string]any{},
	}
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func metablock(t testing.TB, l in_toto.Link, keys ...in_toto.Key) []byte {
	t.Helper()
	mb := &in_toto.Metablock{Signed: l, Signatures: []in_toto.Signature{}}
	for _, k := range keys {
		if err := mb.Sign(k); err != nil {
			t.Fatal(err)
		}
	}
	return marshal(t, mb)
}

// envelope is the DSSE form in in-toto-golang's own bytes. Its payload is
// canonical JSON, which is no JSON where a text has a line break.
func envelope(t testing.TB, l in_toto.Link, k in_toto.Key) []byte {
	t.Helper()
	l.ByProducts = map[string]any{"return-value": 0, "stdout": "a \"b\" \\"}
	e := &in_toto.Envelope{}
	if err := e.SetPayload(l); err != nil {
		t.Fatal(err)
	}
	if err := e.Sign(k); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "link")
	if err := e.Dump(name); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// statement is a link as cosign attests it, or with the type link/v0.3.
func statement(t testing.TB, l in_toto.Link, k in_toto.Key, predicateType string) []byte {
	t.Helper()
	s := attest.Statement{Type: attest.StatementType, PredicateType: predicateType}
	if predicateType == predicate.LinkV03 {
		type material struct {
			Name   string          `json:"name"`
			Digest in_toto.HashObj `json:"digest"`
		}
		var materials []material
		for name, digest := range l.Materials {
			materials = append(materials, material{name, digest})
		}
		for name, digest := range l.Products {
			s.Subjects = append(s.Subjects, attest.Subject{Name: name, Digest: digest})
		}
		s.Predicate = marshal(t, map[string]any{"name": l.Name, "materials": materials, "command": l.Command})
	} else {
		s.Subjects = []attest.Subject{{Name: "registry.example.com/app", Digest: in_toto.HashObj{"sha256": image.Hex()}}}
		s.Predicate = marshal(t, l)
	}
	payload, err := s.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return sealed(t, payload, k)
}

// sealed is an envelope around a payload, signed with the library's signer.
func sealed(t testing.TB, payload []byte, k in_toto.Key) []byte {
	t.Helper()
	lib := &signerverifier.SSLibKey{KeyType: k.KeyType, Scheme: k.Scheme, KeyID: k.KeyID, KeyVal: signerverifier.KeyVal{Public: k.KeyVal.Public, Private: k.KeyVal.Private}}
	var signer interface {
		Sign(ctx context.Context, data []byte) ([]byte, error)
	}
	var err error
	if k.KeyType == signerverifier.ED25519KeyType {
		signer, err = signerverifier.NewED25519SignerVerifierFromSSLibKey(lib)
	} else {
		signer, err = signerverifier.NewECDSASignerVerifierFromSSLibKey(lib)
	}
	if err != nil {
		t.Fatal(err)
	}
	signature, err := signer.Sign(t.Context(), attest.PAE(attest.PayloadTypeInToto, payload))
	if err != nil {
		t.Fatal(err)
	}
	e := attest.Envelope{PayloadType: attest.PayloadTypeInToto, Payload: payload, Signatures: []attest.EnvelopeSignature{{KeyID: k.KeyID, Signature: signature}}}
	b, err := e.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func parse(t testing.TB, l in_toto.Layout) *layout.Layout {
	t.Helper()
	parsed, err := layout.Parse(marshal(t, l))
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// evidence is the links of the chain as files.
func (c *chain) evidence(t testing.TB) map[string][]byte {
	t.Helper()
	return map[string][]byte{
		"source": metablock(t, c.links["source"], c.source),
		"build1": envelope(t, c.links["build"], c.build1),
		"build3": metablock(t, c.links["build"], c.build3),
		"pack":   statement(t, c.links["pack"], c.pack, predicate.CosignLink),
	}
}

func values(m map[string][]byte) [][]byte {
	var out [][]byte
	for _, b := range m {
		out = append(out, b)
	}
	return out
}

func passes(t testing.TB, l *layout.Layout, links [][]byte) bool {
	t.Helper()
	reason, ok := l.Judge(links, image, now)
	if ok != (reason == "") {
		t.Fatalf("%q, %v", reason, ok)
	}
	return ok
}

func TestJudge(t *testing.T) {
	c := newChain(t)
	l := parse(t, c.layout)
	if reason, ok := l.Judge(values(c.evidence(t)), image, now); !ok {
		t.Fatal(reason)
	}
	// Each form of a link, in each step.
	for name, k := range map[string]in_toto.Key{"source": c.source, "pack": c.pack} {
		for form, b := range map[string][]byte{
			"metablock": metablock(t, c.links[name], k),
			"envelope":  envelope(t, c.links[name], k),
			"Link/v1":   statement(t, c.links[name], k, predicate.CosignLink),
			"link/v0.3": statement(t, c.links[name], k, predicate.LinkV03),
		} {
			evidence := c.evidence(t)
			evidence[name] = b
			if reason, ok := l.Judge(values(evidence), image, now); !ok {
				t.Errorf("%s as %s: %s", name, form, reason)
			}
		}
	}
	// One file with both signatures, and one in two files.
	evidence := c.evidence(t)
	delete(evidence, "build3")
	if passes(t, l, values(evidence)) {
		t.Error("one of two signers")
	}
	evidence["build1"] = metablock(t, c.links["build"], c.build2, c.build3)
	if !passes(t, l, values(evidence)) {
		t.Error("two signatures in one file")
	}
}

// Default deny: without any one link, for another artifact, after the layout's
// time, it does not pass.
func TestJudgeDenies(t *testing.T) {
	c := newChain(t)
	l := parse(t, c.layout)
	for name := range c.evidence(t) {
		evidence := c.evidence(t)
		delete(evidence, name)
		if reason, ok := l.Judge(values(evidence), image, now); ok || reason == "" {
			t.Errorf("without %s: %q", name, reason)
		}
	}
	links := values(c.evidence(t))
	expires := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		links   [][]byte
		subject attest.Digest
		at      time.Time
		want    bool
	}{
		{links, image, now, true},
		{links, image, expires.Add(-time.Second), true},
		{links, image, expires, false},
		{links, attest.DigestOf([]byte("another image")), now, false},
		{links, attest.DigestOf([]byte("app")), now, true}, // pack lists it among its products too
		{links, attest.DigestOf([]byte("main")), now, false},
		{links, attest.Digest{}, now, false},
		{nil, image, now, false},
	} {
		if reason, ok := l.Judge(tt.links, tt.subject, tt.at); ok != tt.want {
			t.Errorf("%v, %v: %q", tt.subject, tt.at, reason)
		}
	}
}

// Row A4: steps that share no artifact are not one chain, even when the rules
// have nothing left to disallow.
func TestJudgeRefusesUnjoinedSteps(t *testing.T) {
	c := newChain(t)
	l := parse(t, c.layout)
	empty := c.links["build"]
	empty.Materials = artifacts{}
	empty.Products = artifacts{"bin/app": file("app")}
	evidence := c.evidence(t)
	evidence["build1"], evidence["build3"] = metablock(t, empty, c.build1), metablock(t, empty, c.build3)
	reason, ok := l.Judge(values(evidence), image, now)
	if ok || !strings.Contains(reason, "share no artifact") {
		t.Errorf("A4 no materials: %q", reason)
	}
	other := c.links["pack"]
	other.Materials = artifacts{"in/app": file("another app")}
	evidence = c.evidence(t)
	evidence["pack"] = metablock(t, other, c.pack)
	if passes(t, l, values(evidence)) {
		t.Error("A4 other material")
	}
	// The same path under two algorithms, which no rule can compare.
	sources := c.links["build"]
	sources.Materials = artifacts{"src/main.c": {"sha512": strings.Repeat("ab", 64)}}
	evidence = c.evidence(t)
	evidence["build1"], evidence["build3"] = metablock(t, sources, c.build1), metablock(t, sources, c.build3)
	if passes(t, l, values(evidence)) {
		t.Error("A4 other algorithm")
	}
	// Digests that are no digests: {} equals {}.
	for name, digests := range map[string]in_toto.HashObj{
		"none": {}, "weak": {"md5": strings.Repeat("ab", 16)}, "empty": {"sha256": ""}, "short": {"sha256": "ab"},
		"upper case": {"sha256": strings.ToUpper(strings.Repeat("ab", 32))}, "with another that is none": {"sha256": strings.Repeat("ab", 32), "x": "y"},
	} {
		c := newChain(t)
		for _, step := range []string{"source", "build"} {
			link := c.links[step]
			link.Products["src/main.c"] = digests
			c.links["build"].Materials["src/main.c"] = digests
		}
		if passes(t, parse(t, c.layout), values(c.evidence(t))) {
			t.Errorf("A4 digest %s", name)
		}
	}
}

// Row C4: every signature and every link is tried; which comes first or last
// does not matter, and one key counts once.
func TestJudgeTriesEverySignature(t *testing.T) {
	c := newChain(t)
	l := parse(t, c.layout)
	relabel := func(b []byte, from, to string) []byte { return bytes.ReplaceAll(b, []byte(from), []byte(to)) }
	good := metablock(t, c.links["source"], c.source)
	var mb struct {
		Signed     json.RawMessage     `json:"signed"`
		Signatures []in_toto.Signature `json:"signatures"`
	}
	if err := json.Unmarshal(good, &mb); err != nil {
		t.Fatal(err)
	}
	bad := mb.Signatures[0]
	bad.Sig = strings.Repeat("00", 64)
	with := func(signatures ...in_toto.Signature) []byte {
		m := mb
		m.Signatures = signatures
		return marshal(t, m)
	}
	foreign := newECDSA(t)
	for name, tt := range map[string]struct {
		replace string
		links   [][]byte
		want    bool
	}{
		"bad then good":            {"source", [][]byte{with(bad, mb.Signatures[0])}, true},
		"good then bad":            {"source", [][]byte{with(mb.Signatures[0], bad)}, true},
		"only bad":                 {"source", [][]byte{with(bad, bad)}, false},
		"none":                     {"source", [][]byte{with()}, false},
		"no key id":                {"source", [][]byte{relabel(good, c.source.KeyID, "")}, true},
		"key id of nobody":         {"source", [][]byte{relabel(good, c.source.KeyID, "ffff")}, true},
		"of another step's key":    {"source", [][]byte{metablock(t, c.links["source"], c.pack)}, false},
		"of nobody's key":          {"source", [][]byte{metablock(t, c.links["source"], foreign)}, false},
		"of nobody, under a name":  {"source", [][]byte{relabel(metablock(t, c.links["source"], foreign), foreign.KeyID, c.source.KeyID)}, false},
		"one key twice":            {"build3", [][]byte{metablock(t, c.links["build"], c.build1), metablock(t, c.links["build"], c.build1, c.build1)}, false},
		"changed after signing":    {"source", [][]byte{relabel(good, "make", "fake")}, false},
		"name of the step changed": {"source", [][]byte{relabel(good, `"source"`, `"source "`)}, false},
		"E5 prefix of the name":    {"source", [][]byte{metablock(t, newLink("sourc", artifacts{}, c.links["source"].Products), c.source)}, false},
		"E5 longer name":           {"source", [][]byte{metablock(t, newLink("source2", artifacts{}, c.links["source"].Products), c.source)}, false},
	} {
		evidence := c.evidence(t)
		delete(evidence, tt.replace)
		if got := passes(t, l, append(values(evidence), tt.links...)); got != tt.want {
			t.Errorf("C4 %s: %v", name, got)
		}
	}
	// Links of another run, by the same keys, before and after.
	other := c.links["source"]
	other.Products = artifacts{"src/main.c": file("older main")}
	stale := metablock(t, other, c.source)
	for _, links := range [][][]byte{append(values(c.evidence(t)), stale), append([][]byte{stale}, values(c.evidence(t))...)} {
		if !passes(t, l, links) {
			t.Error("C4 a link of another run hides the one of this run")
		}
	}
	// Two signers who say different things are not two who say the same.
	evidence := c.evidence(t)
	different := c.links["build"]
	different.Products = artifacts{"bin/app": file("app"), "src/x": file("x")}
	evidence["build3"] = metablock(t, different, c.build3)
	if passes(t, l, values(evidence)) {
		t.Error("C4 signers of different links were added up")
	}
}

// What is not a link is passed over, and never helps.
func TestJudgePassesOverOtherThings(t *testing.T) {
	c := newChain(t)
	l := parse(t, c.layout)
	sublayout := in_toto.Metablock{Signed: c.layout}
	if err := sublayout.Sign(c.source); err != nil {
		t.Fatal(err)
	}
	tooMany := newLink("source", artifacts{}, artifacts{})
	for i := range 5000 {
		tooMany.Products[strings.Repeat("x", i)+"y"] = file("main")
	}
	float := c.links["source"]
	float.ByProducts = map[string]any{"x": 1.5}
	for name, b := range map[string][]byte{
		"nothing": nil, "null": []byte("null"), "text": []byte("link"), "deep": []byte(strings.Repeat("[", 100_000)),
		"sublayout":       marshal(t, sublayout),
		"sublayout, DSSE": sealed(t, marshal(t, c.layout), c.source),
		"many artifacts":  metablock(t, tooMany, c.source),
		"other predicate": statement(t, c.links["source"], c.source, predicate.SLSAProvenanceV1),
		"no type":         sealed(t, []byte(`{"name":"source","materials":{},"products":{}}`), c.source),
		"fraction":        []byte(`{"signed":` + string(marshal(t, float)) + `,"signatures":[{"keyid":"","sig":"00"}]}`),
		"null signed":     []byte(`{"signed":null,"signatures":[]}`),
		"duplicate name":  bytes.Replace(metablock(t, c.links["source"], c.source), []byte(`{"signed"`), []byte(`{"signatures":[],"signed"`), 1),
		"two names of a file": metablock(t, newLink("source", artifacts{}, artifacts{
			"src/main.c": file("main"), "src/lib/../main.c": file("evil"), "src/lib/util.c": file("util"),
		}), c.source),
	} {
		if !passes(t, l, append(values(c.evidence(t)), b)) {
			t.Errorf("%s beside good links", name)
		}
		evidence := c.evidence(t)
		evidence["source"] = b
		if passes(t, l, values(evidence)) {
			t.Errorf("%s in place of a link", name)
		}
	}
	many := values(c.evidence(t))
	for len(many) <= 256 {
		many = append(many, []byte("{}"))
	}
	if !passes(t, l, many[:256]) || passes(t, l, many) {
		t.Error("the bound of links is not exact")
	}
}
