package catalog_test

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/countersign/countersign/catalog"
	"github.com/countersign/countersign/identity/oidc"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
	"github.com/countersign/countersign/store"
)

type fixture struct {
	*catalog.Catalog
	objects store.Objects
	master  *keys.Master
}

func open(t *testing.T) fixture {
	t.Helper()
	dir := t.TempDir()
	db, err := store.OpenSQLite(t.Context(), filepath.Join(dir, "db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	master, err := keys.OpenMaster(filepath.Join(dir, "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	return fixture{with(t, db.Objects(), master), db.Objects(), master}
}

func with(t *testing.T, objects store.Objects, master catalog.Sealer) *catalog.Catalog {
	t.Helper()
	c, err := catalog.New(catalog.Config{Objects: objects, Sealer: master})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const trustPolicy = `apiVersion: countersign.dev/v1
kind: TrustPolicy
metadata: {name: NAME}
spec:
  match: {images: ["r.example/**"]}
  authorities: {a: {key: {name: k}}}
  require: {all: [{signature: {by: a}}]}
`

const grant = `{"issuer":"local","subject":"b","repositories":["r.example/**"],"keys":["k"],"actions":["sign"]}`

func (f fixture) putPolicy(t *testing.T, name string, revision int64) catalog.Entry[*policy.Policy] {
	t.Helper()
	d, err := f.DraftPolicy(name, []byte(strings.Replace(trustPolicy, "NAME", name, 1)))
	if err != nil {
		t.Fatal(err)
	}
	e, err := f.PolicyObjects().Put(t.Context(), d, revision)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestChangeCountsForTheNextQuestion: two catalogs share a store, as two
// processes do.
func TestChangeCountsForTheNextQuestion(t *testing.T) {
	f := open(t)
	other := with(t, f.objects, f.master)
	if all, err := other.Policies(t.Context()); err != nil || len(all) != 0 {
		t.Fatalf("empty: %v %v", all, err)
	}
	before, err := other.Revision(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e := f.putPolicy(t, "p", 0)
	all, err := other.Policies(t.Context())
	if err != nil || len(all) != 1 || all[0].Value.Name != "p" || all[0].Revision != e.Revision {
		t.Fatalf("after the change: %+v %v", all, err)
	}
	if after, _ := other.Revision(t.Context()); after <= before {
		t.Errorf("revision %d after %d", after, before)
	}
	if err := f.PolicyObjects().Delete(t.Context(), "p", e.Revision); err != nil {
		t.Fatal(err)
	}
	if all, err := other.Policies(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("after the deletion: %v %v", all, err)
	}
}

// TestBrokenDocumentStopsTheKind: F7 and F4. A policy that cannot be read is
// not passed over.
func TestBrokenDocumentStopsTheKind(t *testing.T) {
	f := open(t)
	f.putPolicy(t, "good", 0)
	if _, err := f.Policies(t.Context()); err != nil {
		t.Fatal(err)
	}
	broken, err := f.objects.Put(t.Context(), store.Object{Kind: catalog.KindPolicy, Name: "bad", Body: []byte(`{"kind":"TrustPolicy"}`)})
	if err != nil {
		t.Fatal(err)
	}
	if all, err := f.Policies(t.Context()); !errors.Is(err, catalog.ErrStored) || all != nil {
		t.Errorf("with a broken policy: %v %v", all, err)
	}
	revision, err := f.PolicyObjects().Stored(t.Context(), "bad")
	if err != nil || revision != broken.Revision {
		t.Fatalf("stored: %d %v", revision, err)
	}
	if err := f.PolicyObjects().Delete(t.Context(), "bad", revision); err != nil {
		t.Fatal(err)
	}
	if all, err := f.Policies(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("after the repair: %v %v", all, err)
	}
}

// TestCredentialsAreSealed: at rest nothing of them is readable, and a sealed
// secret moved to another host does not open (I5).
func TestCredentialsAreSealed(t *testing.T) {
	f := open(t)
	ctx := t.Context()
	d, err := f.DraftRegistry("r.example", []byte(`{"repositories":["**"],"credentials":{"username":"CANARY","password":"CANARY"}}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.RegistryObjects().Put(ctx, d, 0); err != nil {
		t.Fatal(err)
	}
	rule, err := f.Rule(ctx, "r.example")
	if err != nil || rule.Credentials == nil || rule.Credentials.Password != "CANARY" {
		t.Fatalf("rule: %+v %v", rule, err)
	}
	o, err := f.objects.Get(ctx, catalog.KindRegistry, "r.example")
	if err != nil || bytes.Contains(o.Body, []byte("CANARY")) {
		t.Fatalf("at rest: %s %v", o.Body, err)
	}
	moved := bytes.ReplaceAll(o.Body, []byte(`"r.example"`), []byte(`"evil.example"`))
	if _, err := f.objects.Put(ctx, store.Object{Kind: catalog.KindRegistry, Name: "evil.example", Body: moved}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Rule(ctx, "evil.example"); !errors.Is(err, catalog.ErrStored) || !errors.Is(err, keys.ErrSealed) {
		t.Errorf("moved credentials: %v", err)
	}
}

func TestUnlistedHost(t *testing.T) {
	f := open(t)
	if _, err := f.Rule(t.Context(), "r.example"); !errors.Is(err, registry.ErrNotListed) {
		t.Errorf("%v", err)
	}
}

func TestDraftsAreChecked(t *testing.T) {
	f := open(t)
	if _, err := f.DraftPolicy("other", []byte(strings.Replace(trustPolicy, "NAME", "p", 1))); !errors.Is(err, catalog.ErrName) {
		t.Errorf("a policy under another name: %v", err)
	}
	if _, err := f.DraftPolicy("p", []byte("kind: TrustPolicy")); !errors.Is(err, policy.ErrPolicy) {
		t.Errorf("half a policy: %v", err)
	}
	for _, name := range []string{"", "a/b", "..", "-a", "a.", strings.Repeat("a", 129), "ä"} {
		if _, err := f.DraftGrant(name, []byte(grant)); !errors.Is(err, catalog.ErrName) {
			t.Errorf("grant named %q: %v", name, err)
		}
	}
	if _, err := f.DraftRegistry("R.example", []byte(`{"repositories":["**"]}`)); !errors.Is(err, catalog.ErrName) {
		t.Errorf("a host in another spelling: %v", err)
	}
	if _, err := f.DraftRegistry("r.example", []byte(`{"repositories":[]}`)); !errors.Is(err, registry.ErrRule) {
		t.Errorf("a rule without repositories: %v", err)
	}
	d, err := f.DraftGrant("g", []byte(grant))
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Hash()) != 64 || d.Value().Name != "g" || d.Name() != "g" {
		t.Errorf("draft: %+v", d)
	}
	if _, err := f.GrantObjects().Put(t.Context(), d, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := f.GrantObjects().Put(t.Context(), d, 0); !errors.Is(err, store.ErrExists) {
		t.Errorf("created twice: %v", err)
	}
	grants, err := f.Grants(t.Context())
	if err != nil || len(grants) != 1 || grants[0].Name != "g" {
		t.Errorf("grants: %+v %v", grants, err)
	}
}

const issuer = `{"url":"https://issuer.example","audience":"a","kind":"github"}`

// TestIssuersByURL: an issuer is found by its whole URL, counts for the next
// question, and shares its URL with no other.
func TestIssuersByURL(t *testing.T) {
	f, ctx := open(t), t.Context()
	other := with(t, f.objects, f.master)
	if _, err := other.ByURL(ctx, "https://issuer.example"); !errors.Is(err, oidc.ErrUnknownIssuer) {
		t.Fatalf("empty: %v", err)
	}
	d, err := f.DraftIssuer("ci", []byte(issuer))
	if err != nil {
		t.Fatal(err)
	}
	if d.Value().Name != "ci" {
		t.Errorf("draft: %+v", d.Value())
	}
	e, err := f.IssuerObjects().Put(ctx, d, 0)
	if err != nil {
		t.Fatal(err)
	}
	if found, err := other.ByURL(ctx, "https://issuer.example"); err != nil || found.Name != "ci" || found.Kind != oidc.GitHub {
		t.Errorf("found: %+v %v", found, err)
	}
	for _, near := range []string{"", "https://issuer.example/", "https://issuer", "HTTPS://issuer.example", "http://issuer.example"} {
		if _, err := other.ByURL(ctx, near); !errors.Is(err, oidc.ErrUnknownIssuer) {
			t.Errorf("%q: %v", near, err)
		}
	}
	twin, err := f.DraftIssuer("twin", []byte(issuer))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.IssuerObjects().Put(ctx, twin, 0); !errors.Is(err, store.ErrExists) {
		t.Errorf("a second issuer of one URL: %v", err)
	}
	if _, err := f.IssuerObjects().Put(ctx, d, e.Revision); err != nil {
		t.Errorf("replaced by itself: %v", err)
	}
	if _, err := f.DraftIssuer("a/b", []byte(issuer)); !errors.Is(err, catalog.ErrName) {
		t.Errorf("a name: %v", err)
	}
	if _, err := f.DraftIssuer("a", []byte("{}")); !errors.Is(err, oidc.ErrIssuer) {
		t.Errorf("a document: %v", err)
	}
}

// TestProvenanceRules: an issuer's rules are found by its URL; one without has
// none, and one that is not configured is not known.
func TestProvenanceRules(t *testing.T) {
	f, ctx := open(t), t.Context()
	for name, document := range map[string]string{
		"plain": issuer,
		"linked": `{"url":"https://cluster.example","audience":"a","kind":"kubernetes","provenance":
			{"source":"git+https://git.example/{kubernetes.io.namespace}/app","builders":[{"builder":"https://cluster.example/**","maxLevel":2}]}}`,
	} {
		d, err := f.DraftIssuer(name, []byte(document))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.IssuerObjects().Put(ctx, d, 0); err != nil {
			t.Fatal(err)
		}
	}
	rules, err := f.ProvenanceRules(ctx, "https://cluster.example")
	if err != nil || rules.Source == "" || len(rules.Builders) != 1 || rules.Builders[0].MaxLevel != 2 {
		t.Errorf("%+v, %v", rules, err)
	}
	if rules, err := f.ProvenanceRules(ctx, "https://issuer.example"); err != nil || !rules.IsZero() {
		t.Errorf("%+v, %v", rules, err)
	}
	if _, err := f.ProvenanceRules(ctx, "https://issuer.example/"); !errors.Is(err, oidc.ErrUnknownIssuer) {
		t.Errorf("unknown: %v", err)
	}
}

// TestBrokenIssuerStopsTheKind: with an issuer that cannot be read, no token is
// believed.
func TestBrokenIssuerStopsTheKind(t *testing.T) {
	f, ctx := open(t), t.Context()
	d, err := f.DraftIssuer("ci", []byte(issuer))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.IssuerObjects().Put(ctx, d, 0); err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{`{}`, strings.Replace(issuer, "issuer.example", "other.example", 1)[:40], strings.Replace(issuer, "{", `{"roles":["admin"],`, 1)} {
		broken, err := f.objects.Put(ctx, store.Object{Kind: catalog.KindIssuer, Name: "bad", Body: []byte(body)})
		if err != nil {
			t.Fatal(err)
		}
		if i, err := f.ByURL(ctx, "https://issuer.example"); !errors.Is(err, catalog.ErrStored) {
			t.Errorf("%s: %+v %v", body, i, err)
		}
		if err := f.IssuerObjects().Delete(ctx, "bad", broken.Revision); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.ByURL(ctx, "https://issuer.example"); err != nil {
		t.Errorf("after the repair: %v", err)
	}
}

// TestReseal: credentials that others must read are sealed for them, once, and stay
// what they are.
func TestReseal(t *testing.T) {
	f := open(t)
	replica, err := f.master.Replica()
	if err != nil {
		t.Fatal(err)
	}
	for host, rule := range map[string]string{
		"r.example":    `{"repositories":["**"],"credentials":{"username":"robot","password":"secret"}}`,
		"open.example": `{"repositories":["**"]}`,
	} {
		draft, err := f.DraftRegistry(host, []byte(rule))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.RegistryObjects().Put(t.Context(), draft, 0); err != nil {
			t.Fatal(err)
		}
	}
	reader := with(t, f.objects, replica)
	if _, err := reader.Rule(t.Context(), "r.example"); !errors.Is(err, keys.ErrSealed) {
		t.Fatalf("before: %v", err)
	}
	both := either{replica, f.master}
	c := with(t, f.objects, both)
	for _, want := range []int{1, 0} {
		changed, err := c.Reseal(t.Context(), replica)
		if err != nil || len(changed) != want {
			t.Errorf("sealed anew %v, %v; want %d", changed, err, want)
		}
	}
	r, err := reader.Rule(t.Context(), "r.example")
	if err != nil || r.Credentials == nil || r.Credentials.Password != "secret" {
		t.Errorf("after: %v", err)
	}
	if _, err := with(t, f.objects, f.master).Rule(t.Context(), "r.example"); !errors.Is(err, keys.ErrSealed) {
		t.Errorf("under the old key: %v", err)
	}
}

// either seals under the first key and opens under both.
type either [2]*keys.Master

func (e either) Seal(purpose, name string, plain []byte) ([]byte, error) {
	return e[0].Seal(purpose, name, plain)
}

func (e either) Open(purpose, name string, sealed []byte) ([]byte, error) {
	plain, err := e[0].Open(purpose, name, sealed)
	if err != nil {
		return e[1].Open(purpose, name, sealed)
	}
	return plain, nil
}
