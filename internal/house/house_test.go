// Package house holds the rules of the house as tests: imports go down only,
// and members of one layer do not know each other unless an arrow says so;
// every dependency has a reason; every known attack has a test.
//
// It parses the sources in-process; a test that asked `go list` would be
// answered from the test cache after a rule is broken.
package house

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/countersign/countersign/"

// layers is the table of the house, lowest first. A folder that is not listed
// fails the test: a new room needs a place.
var layers = map[string]int{
	"internal/limits": 0, "internal/clock": 0, "internal/strictjson": 0, "internal/glob": 0, "internal/house": 0,
	"internal/attacktable": 0, "internal/localregistry": 0, "internal/netguard": 0, "store": 0, "store/storetest": 0,
	"attest": 1, "tlog": 1, "trust": 1, "identity": 1, "internal/localissuer": 1,
	"attest/predicate": 1, "attest/scan": 1, "attest/provenance": 1, "attest/layout": 1, "attest/notary": 1,
	"keys": 2, "tlog/sequencer": 2, "tlog/witness": 2, "tlog/monitor": 2, "authority": 2,
	"archive": 2, "registry": 2, "trust/tuf": 2, "identity/oidc": 2, "identity/token": 2,
	"audit": 2, "policy/condition": 2, "policy/slsa": 2, "identity/mtls": 2, "tlog/search": 2,
	"audit/anchor": 2, "revocation": 2, "cluster": 2,
	"backup": 3, "policy": 3, "catalog": 3, "keys/kms": 3, "keys/pkcs11": 3,
	"policy/convert": 3,
	"signer":         4, "verifier": 4,
	"examiner": 5, "server": 5, "server/admission": 5, "server/api": 5, "server/console": 5,
	"daemon":          6,
	"cmd/countersign": 7,
}

// arrows are the imports allowed within one layer.
var arrows = map[string][]string{
	"store":               {"internal/limits", "internal/clock", "internal/strictjson"},
	"store/storetest":     {"store", "internal/limits", "internal/clock"},
	"internal/strictjson": {"internal/limits"},
	"internal/glob":       {"internal/limits"},
	"internal/netguard":   {"internal/limits"},
	"attest":              {"tlog"},
	"attest/scan":         {"attest/predicate"},
	"attest/provenance":   {"identity"},
	"attest/layout":       {"attest", "attest/predicate"},
	"attest/notary":       {"attest"},
	"audit/anchor":        {"audit"},
	"cluster":             {"registry"},
	"catalog":             {"policy"},
	"policy/convert":      {"policy"},
	"tlog/search":         {"tlog/sequencer"},
	"server":              {"server/admission", "server/api", "server/console"},
	"server/console":      {"server/api"},
}

// testOnly are packages that only tests and the demo may import; they may
// import anything below the layer named.
var testOnly = map[string]int{
	"internal/testissuer":    1,
	"internal/testcluster":   0,
	"internal/faultinject":   0,
	"keys/keystest":          3,
	"internal/testauthority": 4,
	"server/servertest":      5,
}

// confined names third-party imports that may appear only below the folders
// listed.
var confined = map[string][]string{
	"github.com/gin-gonic/gin":                             {"server"},
	"github.com/danielgtaylor/huma":                        {"server"},
	"github.com/transparency-dev/tessera":                  {"tlog/sequencer"},
	"github.com/google/go-containerregistry/pkg/v1/remote": {"registry"},
	"github.com/jackc/pgx":                                 {"store"},
	"github.com/pressly/goose":                             {"store"},
	"github.com/tink-crypto/tink-go":                       {"keys"},
	"github.com/go-jose/go-jose":                           {"identity/oidc", "internal/testissuer", "internal/localissuer"},
	"github.com/sigstore/sigstore/pkg/signature/kms":       {"keys/kms"},
	"github.com/hashicorp/vault":                           {"keys/kms"},
	"github.com/ThalesGroup/crypto11":                      {"keys/pkcs11"},
	"github.com/miekg/pkcs11":                              {"keys/pkcs11"},
	"github.com/theupdateframework/go-tuf":                 {"trust/tuf"},
	"github.com/in-toto/in-toto-golang":                    {"attest/layout"},
	"github.com/fxamacker/cbor":                            {"attest/notary", "internal/testauthority"},
	"github.com/spf13/cobra":                               {"cmd/countersign"},
	"github.com/knadh/koanf":                               {"cmd/countersign"},
	"cel.dev/cel-go":                                       {"policy/condition"},
	"database/sql":                                         {"store"},
	"k8s.io/api":                                           {"cluster"},
	"k8s.io/apimachinery":                                  {"cluster"},
	"k8s.io/client-go":                                     {"cluster"},
}

func TestImportsGoDownOnly(t *testing.T) {
	root := filepath.Join("..", "..")
	seen := 0
	for file, imports := range sources(t, root) {
		folder := filepath.ToSlash(filepath.Dir(file))
		isTest := strings.HasSuffix(file, "_test.go")
		layer, known := layers[folder]
		if bound, ok := testOnly[folder]; ok {
			layer, known = bound, true
		}
		if !known {
			t.Errorf("%s: folder %q has no layer; give it one in the layering table", file, folder)
			continue
		}
		for _, path := range imports {
			seen++
			if !isTest {
				checkConfined(t, file, folder, path)
			}
			if target, ours := strings.CutPrefix(path, module); ours && !isTest {
				checkLayer(t, file, folder, layer, target)
			}
		}
	}
	if seen < 100 {
		t.Fatalf("only %d imports were seen; the test is not looking at the tree", seen)
	}
}

func checkLayer(t *testing.T, file, folder string, layer int, target string) {
	t.Helper()
	if _, ok := testOnly[target]; ok {
		if _, from := testOnly[folder]; !from {
			t.Errorf("%s imports %s, which is for tests only", file, target)
		}
		return
	}
	below, known := layers[target]
	_, fromTestOnly := testOnly[folder]
	switch {
	case !known:
		t.Errorf("%s imports %s, which has no layer", file, target)
	case below < layer, fromTestOnly && below <= layer:
	case slices.Contains(arrows[folder], target):
	default:
		t.Errorf("%s (layer %d) imports %s (layer %d)", file, layer, target, below)
	}
}

func checkConfined(t *testing.T, file, folder, path string) {
	t.Helper()
	for prefix, homes := range confined {
		if path != prefix && !strings.HasPrefix(path, prefix+"/") {
			continue
		}
		if !slices.ContainsFunc(homes, func(home string) bool {
			return folder == home || strings.HasPrefix(folder, home+"/")
		}) {
			t.Errorf("%s imports %s, which is confined to %v", file, path, homes)
		}
	}
}

// sources maps each Go file of the module to its imports.
func sources(t *testing.T, root string) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "bin") || !tracked(root, path) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		imports := []string{}
		for _, spec := range parsed.Imports {
			value, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			imports = append(imports, value)
		}
		found[filepath.ToSlash(rel)] = imports
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// tracked reports whether a folder belongs to this module: a nested module is
// another house.
func tracked(root, path string) bool {
	if path == root {
		return true
	}
	_, err := os.Stat(filepath.Join(path, "go.mod"))
	return os.IsNotExist(err)
}

// TestEveryDependencyHasAReason: docs/dependencies.md names every direct
// requirement of go.mod, and no module that is gone.
func TestEveryDependencyHasAReason(t *testing.T) {
	root := filepath.Join("..", "..")
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	reasons, err := os.ReadFile(filepath.Join(root, "docs", "dependencies.md"))
	if err != nil {
		t.Fatal(err)
	}
	direct := map[string]bool{}
	for line := range strings.Lines(string(mod)) {
		fields := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		if len(fields) == 2 && strings.Contains(fields[0], ".") && strings.HasPrefix(fields[1], "v") {
			direct[fields[0]] = true
			if !strings.Contains(string(reasons), "`"+fields[0]+"`") {
				t.Errorf("%s has no line in docs/dependencies.md", fields[0])
			}
		}
	}
	if len(direct) < 20 {
		t.Fatalf("only %d direct requirements were seen; the test is not reading go.mod", len(direct))
	}
	for i, name := range strings.Split(string(reasons), "`") {
		if i%2 == 1 && strings.Contains(name, ".") && strings.Contains(name, "/") && !direct[name] {
			t.Errorf("docs/dependencies.md names %s, which is no direct requirement", name)
		}
	}
}

// TestEveryKnownAttackHasATest: each row of docs/attacks.md is named by a test
// in each package that the row names.
func TestEveryKnownAttackHasATest(t *testing.T) {
	root := filepath.Join("..", "..")
	doc, err := os.ReadFile(filepath.Join(root, "docs", "attacks.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for line := range strings.Lines(string(doc)) {
		cells := strings.Split(line, "|")
		if len(cells) != 6 || !attackRow.MatchString(strings.TrimSpace(cells[1])) {
			continue
		}
		rows++
		id := strings.TrimSpace(cells[1])
		for _, folder := range strings.Fields(strings.NewReplacer("`", "", ",", "").Replace(cells[4])) {
			if !namedIn(t, filepath.Join(root, folder), id) {
				t.Errorf("row %s: no test in %s names it", id, folder)
			}
		}
	}
	if rows < 30 {
		t.Fatalf("only %d rows were seen; the test is not reading docs/attacks.md", rows)
	}
}

var attackRow = regexp.MustCompile(`^[A-K][0-9]+$`)

// namedIn reports whether a test file of a folder names a row.
func namedIn(t *testing.T, folder, id string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile(`\b` + id + `\b`)
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if named.Match(source) {
			return true
		}
	}
	return false
}
