package server

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/countersign/countersign/signer"
)

var update = flag.Bool("update", false, "write the generated files")

// lower are the packages below the server whose errors can reach it.
func lower() []string {
	return []string{
		"store", "attest", "tlog", "trust", "identity", "identity/token", "identity/oidc", "keys", "tlog/sequencer",
		"authority", "archive", "registry", "audit", "policy", "catalog", "signer", "verifier",
		"internal/strictjson", "internal/glob", "trust/tuf", "tlog/search", "server/admission",
	}
}

// TestEverySentinelHasARow requires that each exported sentinel of each lower
// package stands in the table, by reading the sources of both.
func TestEverySentinelHasARow(t *testing.T) {
	inTable := map[string]bool{}
	for _, file := range parseFolder(t, ".") {
		ast.Inspect(file, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && strings.HasPrefix(sel.Sel.Name, "Err") {
				if pkg, ok := sel.X.(*ast.Ident); ok {
					inTable[pkg.Name+"."+sel.Sel.Name] = true
				}
			}
			return true
		})
	}
	found := 0
	for _, folder := range lower() {
		for _, name := range sentinels(t, filepath.Join("..", folder)) {
			found++
			if qualified := filepath.Base(folder) + "." + name; !inTable[qualified] {
				t.Errorf("%s has no row in problems.go", qualified)
			}
		}
	}
	if found < 50 {
		t.Fatalf("only %d sentinels found: the test does not look at the tree", found)
	}
}

func sentinels(t *testing.T, folder string) []string {
	t.Helper()
	var names []string
	for _, file := range parseFolder(t, folder) {
		for _, decl := range file.Decls {
			gen, ok := decl.(*ast.GenDecl)
			if !ok || gen.Tok != token.VAR {
				continue
			}
			for _, spec := range gen.Specs {
				for _, name := range spec.(*ast.ValueSpec).Names {
					if strings.HasPrefix(name.Name, "Err") {
						names = append(names, name.Name)
					}
				}
			}
		}
	}
	return names
}

func parseFolder(t *testing.T, folder string) []*ast.File {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var files []*ast.File
	for _, e := range entries {
		if !goSource(e) {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(folder, e.Name()), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	return files
}

func goSource(e fs.DirEntry) bool {
	return strings.HasSuffix(e.Name(), ".go") && !strings.HasSuffix(e.Name(), "_test.go")
}

func TestTableIsSound(t *testing.T) {
	allowed := []int{400, 401, 403, 404, 405, 406, 408, 409, 412, 413, 415, 422, 428, 429, 500, 503}
	codes := map[string]bool{}
	for _, r := range problemTable() {
		switch {
		case codes[r.code]:
			t.Errorf("code %s stands twice", r.code)
		case !slices.Contains(allowed, r.status):
			t.Errorf("%s: status %d is not one of this API", r.code, r.status)
		case r.title == "" || !strings.HasSuffix(r.detail, "."):
			t.Errorf("%s: title and detail must be sentences", r.code)
		case len(r.causes) == 0:
			t.Errorf("%s has no cause", r.code)
		case (r.status == 503 || r.status == 429) != (r.retry > 0):
			t.Errorf("%s: Retry-After goes with 429 and 503 and no other", r.code)
		}
		codes[r.code] = true
		for _, cause := range r.causes {
			if got := find(problemTable(), fmt.Errorf("wrapped: %w", cause)).code; got != r.code {
				t.Errorf("%v stands in row %s and finds row %s", cause, r.code, got)
			}
		}
	}
}

// TestKeptFailuresHaveARow: an operation keeps the signer's code of its
// failure, and the answer is made of the row of that code.
func TestKeptFailuresHaveARow(t *testing.T) {
	s := &Server{problems: problemTable()}
	checked := 0
	for _, r := range problemTable() {
		for _, cause := range r.causes {
			if code := signer.Code(cause); code != "internal" {
				checked++
				if got := s.rowByCode(code); got.code != code || got.code != r.code {
					t.Errorf("%v: the signer's code is %s, the row %s", cause, code, r.code)
				}
			}
		}
	}
	if checked < 20 {
		t.Fatalf("only %d codes of the signer were checked", checked)
	}
}

// TestProblemsDocument keeps docs/problems.md equal to the table.
func TestProblemsDocument(t *testing.T) {
	path := filepath.Join("..", "docs", "problems.md")
	want := problemsDocument()
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("docs/problems.md differs from the table; run: go test ./server -run TestProblemsDocument -update")
	}
}

func problemsDocument() []byte {
	var b bytes.Buffer
	b.WriteString("# Problems\n\nEvery refusal is `application/problem+json` (RFC 9457) with a stable `code`. Scripts match the code; people read `detail`; `instance` is the request id that the operator finds in the log. `errors` names faulty places of the request and never repeats what stood there. Answers with status 503 carry `Retry-After`.\n\nGenerated from the table in `server/problems.go` by `go test ./server -run TestProblemsDocument -update`.\n\n| code | status | what to do |\n|---|---|---|\n")
	rows := problemTable()
	slices.SortFunc(rows, func(a, b row) int { return strings.Compare(a.code, b.code) })
	for _, r := range rows {
		fmt.Fprintf(&b, "| <a id=\"%s\"></a>`%s` | %d | %s. %s |\n", r.code, r.code, r.status, r.title, r.detail)
	}
	return b.Bytes()
}
