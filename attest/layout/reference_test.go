package layout_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/in-toto/in-toto-golang/in_toto"
	"pgregory.net/rapid"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/attest/layout"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func repeat(n int, rule []string) [][]string {
	out := make([][]string, n)
	for i := range out {
		out[i] = rule
	}
	return out
}

func copyOf(t testing.TB, l in_toto.Layout) in_toto.Layout {
	t.Helper()
	var out in_toto.Layout
	if err := json.Unmarshal(marshal(t, l), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// reference is the verdict of in-toto-golang's whole verification, of files.
func reference(t testing.TB, owner in_toto.Key, l in_toto.Layout, links map[string]in_toto.Link, keys map[string]in_toto.Key) error {
	t.Helper()
	dir, err := os.MkdirTemp("", "links")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for name, link := range links {
		file := filepath.Join(dir, fmt.Sprintf(in_toto.LinkNameFormat, name, keys[name].KeyID))
		if err := os.WriteFile(file, metablock(t, link, keys[name]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l.Expires = time.Now().Add(time.Hour).UTC().Format(in_toto.ISO8601DateSchema)
	signed := &in_toto.Metablock{Signed: l}
	if err := signed.Sign(owner); err != nil {
		t.Fatal(err)
	}
	_, err = in_toto.InTotoVerify(signed, map[string]in_toto.Key{owner.KeyID: public(owner)}, dir, "", nil, nil, false)
	return err
}

// Row E4 (CVE-2021-41087, GHSA-pmwq-pjrm-6p5r): for rules and names in every
// odd spelling the verdict is the reference's, but that what we refuse beyond it
// (at load, and steps without a shared artifact) stays refused.
func TestRulesAsTheReference(t *testing.T) {
	owner, first, second := newECDSA(t), newECDSA(t), newECDSA(t)
	names := rapid.SampledFrom([]string{"foo", "bar", "dir/foo", "dir/../foo", "./foo", "dir//foo", "../foo", "dir/sub/foo", "a", "b", "^", "!", "-", "é", "a]"})
	patterns := rapid.SampledFrom([]string{"*", "foo", "dir/*", "dir/../foo", "[!a]", "[^a]", "[ab]", "[a-f]*", "?", "??", "f*o", "*/foo", "../*", "dir", "[!a-c]*", "é", "*]"})
	agreed, passed := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		hashes := rapid.SampledFrom([]in_toto.HashObj{file("1"), file("2")})
		draw := func(label string) artifacts { return rapid.MapOfN(names, hashes, 0, 4).Draw(rt, label) }
		rules := func(label string) [][]string {
			kinds := rapid.SampledFrom([]string{"ALLOW", "DISALLOW", "CREATE", "DELETE", "MODIFY", "REQUIRE", "match"})
			var out [][]string
			for range rapid.IntRange(0, 3).Draw(rt, label) {
				if kind := kinds.Draw(rt, "kind"); kind == "match" {
					out = append(out, []string{"MATCH", patterns.Draw(rt, "pattern"), "WITH", "PRODUCTS", "FROM", "first"})
				} else {
					out = append(out, []string{kind, patterns.Draw(rt, "pattern")})
				}
			}
			return out
		}
		item := func(name string, materials, products [][]string) in_toto.SupplyChainItem {
			return in_toto.SupplyChainItem{Name: name, ExpectedMaterials: materials, ExpectedProducts: products}
		}
		l := in_toto.Layout{
			Type: "layout", Expires: "2027-01-01T00:00:00Z", Inspect: []in_toto.Inspection{},
			Keys: map[string]in_toto.Key{first.KeyID: public(first), second.KeyID: public(second)},
			Steps: []in_toto.Step{
				{Type: "step", PubKeys: []string{first.KeyID}, Threshold: 1, SupplyChainItem: item("first", [][]string{}, rules("rules of first"))},
				{Type: "step", PubKeys: []string{second.KeyID}, Threshold: 1, SupplyChainItem: item("second", append([][]string{{"MATCH", "shared", "WITH", "PRODUCTS", "FROM", "first"}}, rules("rules of second")...), rules("products of second"))},
			},
		}
		one, two := newLink("first", draw("materials of first"), draw("products of first")), newLink("second", draw("materials of second"), draw("products of second"))
		one.Products["shared"], two.Materials["shared"] = file("shared"), file("shared")
		two.Products["image"] = in_toto.HashObj{"sha256": image.Hex()}
		theirs := reference(t, owner, l, map[string]in_toto.Link{"first": one, "second": two}, map[string]in_toto.Key{"first": first, "second": second})
		ours, err := layout.Parse(marshal(t, l))
		if err != nil {
			return // refused at load, see TestParseRefuses
		}
		reason, ok := ours.Judge([][]byte{metablock(t, one, first), metablock(t, two, second)}, image, now)
		if ok && theirs != nil {
			rt.Fatalf("only the reference refuses: %v", theirs)
		}
		if !ok && theirs == nil && !stricter(reason, one, two) {
			rt.Fatalf("only we refuse: %s", reason)
		}
		if ok {
			passed++
		}
		agreed++
	})
	t.Logf("%d compared, %d passed", agreed, passed)
	if !testing.Short() && (agreed < 20 || passed == 0) { // a short run draws a fifth
		t.Errorf("%d compared, %d passed: the comparison shows nothing", agreed, passed)
	}
}

// Row E4, case by case: whether a product of this name passes these rules.
func TestRulesDisallowOddNames(t *testing.T) {
	for _, tt := range []struct {
		name, pattern string
		want          bool // the rule DISALLOW pattern lets name pass
	}{
		{"foo", "foo", false},
		{"dir/../foo", "foo", false},
		{"./foo", "foo", false},
		{"dir//../foo", "foo", false},
		{"bar", "foo", true},
		{"dir/foo", "*", false},
		{"dir/foo", "dir/*", false},
		{"dir/sub/foo", "dir/*", false},
		{"other/../dir/foo", "dir/*", false},
		{"b", "[!a]", false},
		{"a", "[!a]", true},
		{"b", "[^a]", true},
		{"a", "[^a]", false},
		{"^", "[^a]", false},
		{"^", "[!a]", false},
	} {
		owner, k := newECDSA(t), newECDSA(t)
		l := in_toto.Layout{
			Type: "layout", Expires: "2027-01-01T00:00:00Z", Inspect: []in_toto.Inspection{}, Keys: map[string]in_toto.Key{k.KeyID: public(k)},
			Steps: []in_toto.Step{{Type: "step", PubKeys: []string{k.KeyID}, Threshold: 1, SupplyChainItem: in_toto.SupplyChainItem{
				Name: "only", ExpectedMaterials: [][]string{}, ExpectedProducts: [][]string{{"DISALLOW", tt.pattern}},
			}}},
		}
		link := newLink("only", artifacts{}, artifacts{tt.name: {"sha256": image.Hex()}})
		if got := passes(t, parse(t, l), [][]byte{metablock(t, link, k)}); got != tt.want {
			t.Errorf("%s under DISALLOW %s: %v", tt.name, tt.pattern, got)
		}
		theirs := reference(t, owner, l, map[string]in_toto.Link{"only": link}, map[string]in_toto.Key{"only": k})
		if (theirs == nil) != tt.want {
			t.Errorf("%s under DISALLOW %s: the reference says %v", tt.name, tt.pattern, theirs)
		}
	}
}

// stricter reports whether we refuse by our own law: two names of one path in a
// link (which the reference merges in an order of chance), or steps that share
// no artifact.
func stricter(reason string, links ...in_toto.Link) bool {
	if strings.Contains(reason, "share no artifact") {
		return true
	}
	for _, l := range links {
		for _, side := range []artifacts{l.Materials, l.Products} {
			seen := map[string]bool{}
			for name := range side {
				clean := filepath.Clean(name)
				if seen[clean] {
					return true
				}
				seen[clean] = true
			}
		}
	}
	return false
}

// A reader of layouts takes any bytes; what it takes, it can judge by, and
// nothing passes without links.
func FuzzParse(f *testing.F) {
	c := newChain(f)
	f.Add(marshal(f, c.layout))
	f.Add([]byte(`{"_type":"layout","steps":[{"expected_products":[[]]}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := layout.Parse(b)
		if err != nil {
			return
		}
		if reason, ok := l.Judge(nil, image, time.Time{}); ok || reason == "" {
			t.Fatal("passed without links")
		}
	})
}

// A link that was changed in what it says never helps.
func FuzzJudge(f *testing.F) {
	c := newChain(f)
	l := parse(f, c.layout)
	evidence := c.evidence(f)
	for _, b := range evidence {
		f.Add(b)
	}
	packless := [][]byte{evidence["source"], evidence["build1"], evidence["build3"]}
	f.Fuzz(func(t *testing.T, b []byte) {
		if reason, ok := l.Judge(append(packless[:3:3], b), image, now); ok {
			other, fits := l.Judge(append(packless[:3:3], b), attestOther(), now)
			if fits || other == "" {
				t.Fatalf("passed for two images: %s", reason)
			}
		}
	})
}

func attestOther() attest.Digest { return attest.DigestOf([]byte("other")) }
