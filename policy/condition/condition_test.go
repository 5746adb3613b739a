package condition_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/policy/condition"
)

func compiler(t testing.TB) *condition.Compiler {
	t.Helper()
	c, err := condition.NewCompiler()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const scan = `{"scanner":{"uri":"https://scanner.example","version":"0.58.1","result":{"critical":0,"high":2.0,"medium":1e1,
  "fixed":null,"big":9007199254740993,"nanos":1.5e300,"vulnerabilities":[{"id":"CVE-1","severity":"HIGH"},{"id":"CVE-2","severity":"LOW"}]}},
  "metadata":{"scanFinishedOn":"2026-03-01T10:00:00Z","héllo":"w\u00f6rld","a.b/c":true},"empty":{},"none":[],"yes":true}`

func input(predicate string) condition.Input {
	statement := `{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"app","digest":{"sha256":"aa"}}],"predicateType":"t","predicate":` + predicate + `}`
	return condition.Input{
		Predicate: condition.NewDocument([]byte(predicate)), Statement: condition.NewDocument([]byte(statement)),
		Image: condition.Image{
			Reference: "r.example/team/app@sha256:aa", Name: "r.example/team/app", Registry: "r.example", Repository: "team/app", Digest: "sha256:aa",
		},
		Context: map[string]string{"cluster": "prod-1"},
	}
}

func TestHolds(t *testing.T) {
	const pass, fail, fault = "true", "false", "error"
	tests := []struct{ expression, want string }{
		{"predicate.scanner.result.critical == 0", pass},
		{"predicate.scanner.result.critical == 0.0", pass},
		{"predicate.scanner.result.high == 2", pass}, // written 2.0
		{"predicate.scanner.result.medium == 10", pass},
		{"predicate.scanner.result.critical + predicate.scanner.result.high <= 2", pass},
		{"predicate.scanner.result.high * 2.0 == 4.0", pass},
		{"predicate.scanner.result.high * 2 < 5", fault}, // an int literal
		{"predicate.scanner.result.critical > 0", fail},
		{"predicate.scanner.result.critical < 1 && predicate.scanner.result.high < 3", pass},
		{"predicate.scanner.result.missing == 0", fault},
		{"predicate.scanner.result.missing != 0", fault},
		{"!(predicate.scanner.result.missing == 0)", fault},
		{"has(predicate.scanner.result.missing)", fail},
		{"has(predicate.scanner.result.critical)", pass},
		{"has(predicate.missing.deeper)", fault},
		{"!has(predicate.scanner.result.missing) || predicate.scanner.result.missing == 0", pass},
		{"predicate.missing == 0 || true", pass}, // CEL's or: one side decides
		{"predicate.missing == 0 && false", fail},
		{"predicate.scanner.result.fixed == null", pass},
		{"predicate.scanner.result.big > 0", fault}, // 2^53 + 1
		{"predicate.scanner.result.nanos > 0", pass},
		{"size(predicate.scanner.result.vulnerabilities) == 2", pass},
		{"predicate.scanner.result.vulnerabilities.all(v, v.severity != 'CRITICAL')", pass},
		{"predicate.scanner.result.vulnerabilities.exists(v, v.id == 'CVE-2')", pass},
		{"predicate.scanner.result.vulnerabilities.exists_one(v, v.severity == 'HIGH')", pass},
		{"predicate.scanner.result.vulnerabilities.filter(v, v.severity == 'HIGH').map(v, v.id) == ['CVE-1']", pass},
		{"predicate.scanner.result.vulnerabilities[0].id == 'CVE-1'", pass},
		{"predicate.scanner.result.vulnerabilities[predicate.scanner.result.critical].id == 'CVE-1'", pass},
		{"predicate.scanner.result.vulnerabilities[2].id == 'CVE-1'", fault},
		{"predicate.scanner.result.vulnerabilities[-1].id == 'CVE-1'", fault},
		{"predicate.scanner.result.vulnerabilities[0.5].id == 'CVE-1'", fault},
		{"predicate.scanner.result.vulnerabilities['0'].id == 'CVE-1'", fault},
		{"{'id':'CVE-1','severity':'HIGH'} in predicate.scanner.result.vulnerabilities", pass},
		{"predicate.scanner.result.vulnerabilities[0] == {'id':'CVE-1','severity':'HIGH'}", pass},
		{"predicate.scanner.result.vulnerabilities == predicate.scanner.result.vulnerabilities", pass},
		{"size(predicate.scanner.result.vulnerabilities + [1]) == 3", pass},
		{"size([1] + predicate.scanner.result.vulnerabilities) == 3", pass},
		{"'critical' in predicate.scanner.result", pass},
		{"'missing' in predicate.scanner.result", fail},
		{"1 in predicate.scanner.result", fault},
		{"predicate.scanner.result.all(k, k != 'unknown')", pass},
		{"predicate.metadata['a.b/c']", pass},
		{"predicate.metadata['héllo'] == 'wörld'", pass},
		{"predicate.yes", pass},
		{"predicate.empty == {} && predicate.none == [] && size(predicate.empty) == 0", pass},
		{"predicate.empty.all(k, false) && predicate.none.all(v, false)", pass},
		{"predicate", fault}, // no boolean
		{"predicate.scanner.version", fault},
		{"type(predicate) == map && type(predicate.none) == list && type(predicate.scanner.result.critical) == double", pass},
		{"predicate.scanner.version.startsWith('0.') && predicate.scanner.version.matches('^0[.]58[.][0-9]+$')", pass},
		{"predicate.scanner.version.split('.')[1] == '58'", pass},
		{"predicate.scanner.uri.lowerAscii().substring(8) == 'scanner.example'", pass},
		{"timestamp(predicate.metadata.scanFinishedOn) > timestamp('2026-01-01T00:00:00Z')", pass},
		{"statement.subject[0].name == 'app' && statement.predicateType == 't' && statement._type.endsWith('/v1')", pass},
		{"statement.predicate.yes", pass},
		{"image.reference == 'r.example/team/app@sha256:aa' && image.registry == 'r.example' && image.repository == 'team/app'", pass},
		{"image.name == image.registry + '/' + image.repository && image.digest == 'sha256:aa'", pass},
		{"context.cluster.startsWith('prod-')", pass},
		{"context.namespace == ''", fault},
		{"'namespace' in context", fail},
		{"1/0 == 1", fault},
	}
	c := compiler(t)
	for _, tt := range tests {
		compiled, err := c.Compile(tt.expression)
		if err != nil {
			t.Errorf("%s: %v", tt.expression, err)
			continue
		}
		for range 2 { // the second uses what the first indexed
			holds, err := compiled.Holds(t.Context(), input(scan))
			got := fmt.Sprint(holds)
			if err != nil {
				got = fault
			}
			if got != tt.want || err != nil && (!errors.Is(err, condition.ErrEvaluation) || holds) {
				t.Errorf("%s: %s (%v), want %s", tt.expression, got, err, tt.want)
			}
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	c := compiler(t)
	for name, expression := range map[string]string{
		"empty": "", "blank": " \n", "no boolean": "1 + 1", "text": "'true'", "list": "[true]",
		"undeclared variable": "predicates.x == 0", "undeclared field of image": "image.tag == 'x'", "image itself": "image == 'x'",
		"undeclared function": "now() > timestamp('2026-01-01T00:00:00Z')", "wrong types": "image.name == 1",
		"context of another type": "context.cluster == 1", "syntax": "predicate.x ==", "two": "true; true",
		"bad regular expression": "image.name.matches('(')", "large regular expression": "image.name.matches('(a{100}){100}')",
		"bad time": "timestamp('yesterday') < timestamp('2026-01-01T00:00:00Z')",
		"too long": "image.name == '" + strings.Repeat("a", limits.Condition) + "'",
		"replace":  "image.name.replace('a', 'b') == ''", "join": "['a'].join('') == ''", "format": "'%s'.format([1]) == ''",
		"too deep":       strings.Repeat("(", 1000) + "true" + strings.Repeat(")", 1000),
		"loops in loops": "predicate.all(a, predicate.all(b, predicate.all(c, predicate.all(d, predicate.all(e, true)))))",
	} {
		if _, err := c.Compile(expression); !errors.Is(err, condition.ErrExpression) {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %q", name, err)
		}
	}
}

// H11: what an expression may cost is bounded, whether by its loops, by text
// that grows, or by a document that is large.
func TestCostIsBounded(t *testing.T) {
	c := compiler(t)
	var large bytes.Buffer
	large.WriteString(`{"text":"` + strings.Repeat("a", limits.ConditionText-2) + `","n":[`)
	for i := range 5000 {
		fmt.Fprintf(&large, "%d,", i)
	}
	large.WriteString(`0]}`)
	for name, expression := range map[string]string{
		"loop in a loop":     "predicate.n.all(a, predicate.n.all(b, a >= 0 && b >= 0))",
		"three loops":        "predicate.n.all(a, predicate.n.all(b, predicate.n.all(c, true)))",
		"comparisons":        "predicate.n.all(a, predicate.n == predicate.n && predicate.n == statement.predicate.n)",
		"text that grows":    "predicate.n.map(a, predicate.text + predicate.text).size() > 0",
		"text in pieces":     "predicate.n.map(a, predicate.text.split('')).size() > 0",
		"regular expression": "predicate.n.all(a, !predicate.text.matches('(a|aa|aaa)*b'))",
	} {
		compiled, err := c.Compile(expression)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		in := input("{}")
		in.Predicate = condition.NewDocument(large.Bytes())
		in.Statement = condition.NewDocument([]byte(`{"predicate":` + large.String() + `}`))
		if holds, err := compiled.Holds(t.Context(), in); holds || err == nil {
			t.Errorf("%s: %t, %v", name, holds, err)
		}
	}
	compiled, err := c.Compile("predicate.n.all(a, a >= 0) && predicate.text.startsWith('aa')") // control
	if err != nil {
		t.Fatal(err)
	}
	in := input("{}")
	in.Predicate = condition.NewDocument(large.Bytes())
	if holds, err := compiled.Holds(t.Context(), in); !holds || err != nil {
		t.Errorf("control: %t, %v", holds, err)
	}
}

func TestInterrupted(t *testing.T) {
	compiled, err := compiler(t).Compile("predicate.all(a, predicate.all(b, a >= 0 && b >= 0))")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	in := input("[" + strings.Repeat("1,", 300) + "1]")
	if holds, err := compiled.Holds(ctx, in); holds || err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("%t, %v", holds, err)
	}
}

// A document may be read by many at once, and by none.
func TestDocuments(t *testing.T) {
	compiled, err := compiler(t).Compile("predicate.scanner.result.vulnerabilities.all(v, v.id.startsWith('CVE'))")
	if err != nil {
		t.Fatal(err)
	}
	shared := input(scan)
	done := make(chan error)
	for range 8 {
		go func() {
			holds, err := compiled.Holds(context.Background(), shared)
			if err == nil && !holds {
				err = errors.New("false")
			}
			done <- err
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if holds, err := compiled.Holds(t.Context(), condition.Input{}); holds || err == nil {
		t.Errorf("%t, %v", holds, err)
	}
	crowd := input("[" + strings.Repeat("1,", limits.ConditionMembers) + "1]")
	exists, err := compiler(t).Compile("predicate.exists(a, a == 1)")
	if err != nil {
		t.Fatal(err)
	}
	if holds, err := exists.Holds(t.Context(), crowd); holds || err == nil {
		t.Errorf("%t, %v", holds, err)
	}
}

// bill is an SPDX document of about 5 MB.
func bill() []byte {
	var b bytes.Buffer
	b.WriteString(`{"spdxVersion":"SPDX-2.3","creationInfo":{"created":"2026-03-01T10:00:00Z"},"packages":[`)
	for i := 0; b.Len() < 5<<20; i++ {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"SPDXID":"SPDXRef-%d","name":"package-%d","versionInfo":"1.%d.0","licenseConcluded":"Apache-2.0","externalRefs":[{"referenceCategory":"PACKAGE-MANAGER","referenceType":"purl","referenceLocator":"pkg:deb/debian/package-%d@1.%d.0?arch=amd64"}],"copyrightText":"%s"}`,
			i, i, i, i, i, strings.Repeat("c", 200))
	}
	b.WriteString(`]}`)
	return b.Bytes()
}

// The largest bill of materials of a real image is judged within the cost.
func TestLargeDocument(t *testing.T) {
	c := compiler(t)
	document := condition.NewDocument(bill())
	for _, expression := range []string{
		"predicate.spdxVersion == 'SPDX-2.3'",
		"!predicate.packages.exists(p, p.name == 'log4j-core' && p.versionInfo.startsWith('2.14'))",
		"predicate.packages.all(p, p.licenseConcluded in ['Apache-2.0', 'MIT'])",
		"predicate.packages.size() > 1000 && size(predicate) == 3 && 'packages' in predicate",
		"predicate.packages.all(p, p.externalRefs.exists(r, r.referenceType == 'purl'))",
	} {
		compiled, err := c.Compile(expression)
		if err != nil {
			t.Fatal(err)
		}
		if holds, err := compiled.Holds(t.Context(), condition.Input{Predicate: document}); !holds || err != nil {
			t.Errorf("%s: %t, %v", expression, holds, err)
		}
	}
}

func BenchmarkHolds(b *testing.B) {
	for name, expression := range map[string]string{
		"first member": "predicate.spdxVersion == 'SPDX-2.3'",
		"every member": "predicate.packages.all(p, p.licenseConcluded == 'Apache-2.0')",
		"all the cost": "predicate.packages.all(p, predicate.packages.all(q, p.name != q.name))",
	} {
		b.Run(name, func(b *testing.B) {
			compiled, err := compiler(b).Compile(expression)
			if err != nil {
				b.Fatal(err)
			}
			raw := bill()
			b.ReportAllocs()
			for b.Loop() {
				_, _ = compiled.Holds(b.Context(), condition.Input{Predicate: condition.NewDocument(raw)})
			}
		})
	}
	b.Run("compile", func(b *testing.B) {
		c := compiler(b)
		for b.Loop() {
			_, _ = c.Compile("predicate.scanner.result.critical == 0")
		}
	})
	b.Run("compiler", func(b *testing.B) {
		for b.Loop() {
			compiler(b)
		}
	})
}

// Whatever the expression and the document: no panic, no hang, and no answer
// beside an error.
func FuzzCondition(f *testing.F) {
	c := compiler(f)
	for _, expression := range []string{
		"predicate.scanner.result.critical == 0", "predicate.all(k, has(predicate.x) || k in predicate)", "image.name.matches('a*')",
		"predicate.n.map(a, predicate.n + [a]).size() > 0", "statement.subject[0].name.split('a') != []",
		"predicate == statement.predicate", "timestamp(predicate.t).getHours('Europe/Berlin') == 1",
	} {
		f.Add(expression, scan)
	}
	f.Fuzz(func(t *testing.T, expression, predicate string) {
		compiled, err := c.Compile(expression)
		if err != nil {
			return
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		holds, err := compiled.Holds(ctx, input(predicate))
		if ctx.Err() != nil {
			t.Fatalf("%q over %q hangs", expression, predicate)
		}
		if err != nil && (holds || !errors.Is(err, condition.ErrEvaluation)) {
			t.Fatalf("%t, %v", holds, err)
		}
	})
}
