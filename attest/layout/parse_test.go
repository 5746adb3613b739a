package layout_test

import (
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"strings"
	"testing"

	"github.com/in-toto/in-toto-golang/in_toto"

	"github.com/countersign/countersign/attest/layout"
)

// A layout that could be satisfied by nothing, or by the wrong thing, is refused
// when it is read.
func TestParseRefuses(t *testing.T) {
	c := newChain(t)
	again := public(c.source)
	again.KeyID = strings.Repeat("ab", 32)
	weak := newKey(t, must(rsa.GenerateKey(rand.Reader, 1024)), nil)
	tests := map[string]func(l *in_toto.Layout){
		"F4 no steps":              func(l *in_toto.Layout) { l.Steps = []in_toto.Step{} },
		"F4 steps null":            func(l *in_toto.Layout) { l.Steps = nil },
		"F4 no keys":               func(l *in_toto.Layout) { l.Keys = nil },
		"F4 step without keys":     func(l *in_toto.Layout) { l.Steps[0].PubKeys = []string{} },
		"E5 keys of a step null":   func(l *in_toto.Layout) { l.Steps[0].PubKeys = nil },
		"threshold 0":              func(l *in_toto.Layout) { l.Steps[0].Threshold = 0 },
		"threshold below 0":        func(l *in_toto.Layout) { l.Steps[0].Threshold = -1 },
		"threshold too high":       func(l *in_toto.Layout) { l.Steps[1].Threshold = 4 },
		"one key id twice":         func(l *in_toto.Layout) { l.Steps[0].PubKeys = []string{c.source.KeyID, c.source.KeyID} },
		"key not in the layout":    func(l *in_toto.Layout) { l.Steps[0].PubKeys = []string{"ab"} },
		"C2 one key under two ids": func(l *in_toto.Layout) { l.Keys[again.KeyID] = again },
		"key under another id":     func(l *in_toto.Layout) { l.Keys["ab"] = public(newECDSA(t)) },
		"private key":              func(l *in_toto.Layout) { l.Keys[c.source.KeyID] = c.source },
		"weak key":                 func(l *in_toto.Layout) { l.Keys[weak.KeyID] = public(weak) },
		"scheme of another key":    func(l *in_toto.Layout) { k := public(c.pack); k.Scheme = "ecdsa-sha2-nistp384"; l.Keys[k.KeyID] = k },
		"type of another key":      func(l *in_toto.Layout) { k := public(c.build3); k.KeyType = "ecdsa"; l.Keys[k.KeyID] = k },
		"short ed25519 key":        func(l *in_toto.Layout) { k := public(c.source); k.KeyVal.Public = "abcd"; l.Keys[k.KeyID] = k },
		"no key at all":            func(l *in_toto.Layout) { k := public(c.pack); k.KeyVal.Public = ""; l.Keys[k.KeyID] = k },
		"inspection":               func(l *in_toto.Layout) { l.Inspect = []in_toto.Inspection{{Type: "inspection", Run: []string{"sh"}}} },
		"root of certificates":     func(l *in_toto.Layout) { l.RootCas = map[string]in_toto.Key{"ab": public(c.source)} },
		"certificates":             func(l *in_toto.Layout) { l.Steps[0].CertificateConstraints = []in_toto.CertificateConstraint{{}} },
		"type":                     func(l *in_toto.Layout) { l.Type = "link" },
		"type of a step":           func(l *in_toto.Layout) { l.Steps[0].Type = "inspection" },
		"time":                     func(l *in_toto.Layout) { l.Expires = "2027-01-01" },
		"no time":                  func(l *in_toto.Layout) { l.Expires = "" },
		"name twice":               func(l *in_toto.Layout) { l.Steps[0].Name = "build" },
		"no name":                  func(l *in_toto.Layout) { l.Steps[0].Name = "" },
		"step of its own":          func(l *in_toto.Layout) { l.Steps[1].ExpectedMaterials = [][]string{{"ALLOW", "*"}} },
		"from nowhere":             func(l *in_toto.Layout) { l.Steps[1].ExpectedMaterials[0][5] = "sources" },
		"with nothing":             func(l *in_toto.Layout) { l.Steps[1].ExpectedMaterials[0][3] = "BYPRODUCTS" },
		"many steps":               func(l *in_toto.Layout) { l.Steps = make([]in_toto.Step, 33) },
		"many rules":               func(l *in_toto.Layout) { l.Steps[0].ExpectedProducts = repeat(300, []string{"ALLOW", "x"}) },
	}
	for _, rule := range [][]string{
		{},
		{"DISALLOW"},
		{"DISALLOW", ""},
		{"FORBID", "*"},
		{"DISALLOW", "*", "x"},
		{"DISALLOW", "[a"},
		{"DISALLOW", "[]"},
		{"DISALLOW", "[z-a]"},
		{"DISALLOW", "[a-]"},
		{"DISALLOW", "[-a]"},
		{"DISALLOW", "[!]"},
		{"DISALLOW", "a\\*"},
		{"DISALLOW", "dir/../foo"},
		{"DISALLOW", "./foo"},
		{"DISALLOW", "dir/"},
		{"DISALLOW", "a//b"},
		{"DISALLOW", "[a/b]"},
		{"DISALLOW", "[[a]"},
		{"DISALLOW", strings.Repeat("a", 2000)},
		{"REQUIRE", "../x/."},
		{"MATCH", "*", "IN", "a/../b", "WITH", "PRODUCTS", "FROM", "source"},
		{"MATCH", "*", "FROM", "source"},
	} {
		tests["E4 rule "+strings.Join(rule, " ")] = func(l *in_toto.Layout) { l.Steps[0].ExpectedProducts = [][]string{rule} }
	}
	for name, change := range tests {
		changed := copyOf(t, c.layout)
		change(&changed)
		if l, err := layout.Parse(marshal(t, changed)); !errors.Is(err, layout.ErrLayout) || l != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	good := string(marshal(t, c.layout))
	for name, text := range map[string]string{
		"empty": "", "null": "null", "list": "[]", "object": "{}", "wrapped": `{"signed":` + good + `,"signatures":[]}`,
		"unknown field": strings.Replace(good, "{", `{"stepz":[],`, 1), "twice": strings.Replace(good, "{", `{"steps":[],`, 1),
		"in another case": strings.Replace(good, `"steps"`, `"Steps"`, 1), "large": good + strings.Repeat(" ", 1<<20),
	} {
		if l, err := layout.Parse([]byte(text)); !errors.Is(err, layout.ErrLayout) || l != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := layout.Parse([]byte(good)); err != nil {
		t.Error(err)
	}
}
