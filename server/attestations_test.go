package server_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/attest/provenance"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/testissuer"
	"github.com/countersign/countersign/server/api"
)

const reviewType = "https://example.com/review/v1"

// grantAttest lets the token builder attest every type.
func (h *house) grantAttest() {
	h.t.Helper()
	_, err := h.admin.PutGrant(h.t.Context(), "attester", api.GrantRequest{
		Issuer: "local", Subject: "builder", Repositories: []string{h.registry.Host + "/team/**"},
		Keys: []string{"release"}, Actions: []string{"attest"},
	}, api.PutOptions{})
	h.must(err)
}

func statementIn(t *testing.T, bundle []byte) attest.Statement {
	t.Helper()
	parsed, err := attest.ParseBundle(bundle)
	if err != nil {
		t.Fatal(err)
	}
	statement, err := attest.ParseStatement(parsed.Envelope.Payload)
	if err != nil {
		t.Fatal(err)
	}
	return statement
}

// TestAttestations goes once around: attest with foreign nulls and white space,
// repeat, list by each filter, get.
func TestAttestations(t *testing.T) {
	h := open(t)
	builder := h.furnish()
	h.grantAttest()
	image := h.push("attested")
	request := api.AttestationRequest{
		Image: image, Key: "release", PredicateType: reviewType,
		Predicate: json.RawMessage(`{"by":null,"score":1.0}`), Formats: []string{"bundle", "legacy"},
	}
	a, replayed, err := builder.Attest(t.Context(), request, api.SignOptions{IdempotencyKey: "job"})
	h.must(err)
	if replayed || a.PredicateType != reviewType || len(a.Signatures) != 2 || a.SLSA != nil {
		t.Fatalf("%+v", a)
	}
	if got := string(statementIn(t, a.Signatures[0].Bundle).Predicate); got != `{"by":null,"score":1.0}` {
		t.Errorf("predicate %s", got)
	}
	again, replayed, err := builder.Attest(t.Context(), request, api.SignOptions{IdempotencyKey: "job"})
	if err != nil || !replayed || again.ID != a.ID {
		t.Errorf("%s, %v, %v", again.ID, replayed, err)
	}
	for _, c := range []struct {
		filter api.AttestationFilter
		n      int
	}{
		{api.AttestationFilter{Digest: a.Digest}, 1},
		{api.AttestationFilter{PredicateType: reviewType, Repository: h.registry.Host + "/team/app", Key: "release"}, 1},
		{api.AttestationFilter{PredicateType: "spdxjson"}, 0},
		{api.AttestationFilter{Identity: "https://github.com/acme/app"}, 0},
	} {
		l, err := builder.Attestations(t.Context(), c.filter)
		if err != nil || len(l.Items) != c.n {
			t.Errorf("%+v: %d, %v", c.filter, len(l.Items), err)
		}
		if c.n == 1 && (l.Items[0].ID != a.ID || l.Items[0].Signatures[0].Bundle != nil) {
			t.Errorf("line %+v", l.Items[0])
		}
	}
	got, err := builder.Attestation(t.Context(), a.ID)
	if err != nil || len(got.Signatures[0].Bundle) == 0 {
		t.Errorf("%+v, %v", got, err)
	}
	if l, err := builder.Signatures(t.Context(), api.SignatureFilter{}); err != nil || len(l.Items) != 0 {
		t.Errorf("%d signatures, %v", len(l.Items), err)
	}
	_, err = builder.Attestations(t.Context(), api.AttestationFilter{Key: "a", Identity: "b"})
	wantProblem(t, err, http.StatusBadRequest, "invalid_request")
}

// TestAttestationBytes: what stands under predicate is signed as it stands.
func TestAttestationBytes(t *testing.T) {
	h := open(t)
	h.furnish()
	_, secret := h.as("raw", "admin")
	h.grantTo("raw", "attest")
	const predicate = "{\n \"a\" : 9007199254740993, \"b\":\"\\u003c\\/\" }"
	got := h.ask(http.MethodPost, "/v1/attestations", secret,
		`{"image":"`+h.push("bytes")+`","key":"release","predicateType":"`+reviewType+`","predicate":`+predicate+`}`)
	var a api.Attestation
	h.must(json.Unmarshal(got.body, &a))
	if got.status != http.StatusCreated || got.header.Get("Location") != "/v1/attestations/"+a.ID {
		t.Fatalf("%d %s", got.status, got.body)
	}
	if signed := string(statementIn(t, a.Signatures[0].Bundle).Predicate); signed != predicate {
		t.Errorf("signed %q", signed)
	}
}

func (h *house) grantTo(subject string, actions ...string) {
	h.t.Helper()
	_, err := h.admin.PutGrant(h.t.Context(), "to-"+subject, api.GrantRequest{
		Issuer: "local", Subject: subject, Repositories: []string{h.registry.Host + "/team/**"},
		Keys: []string{"release"}, Actions: actions,
	}, api.PutOptions{})
	h.must(err)
}

func TestAttestationRefusals(t *testing.T) {
	h := open(t)
	h.furnish()
	h.grantAttest()
	_, secret := h.as("other", "signer")
	h.grantTo("other", "attest")
	image := h.push("refused")
	body := func(more string) string {
		return `{"image":"` + image + `","key":"release",` + more + `}`
	}
	for name, c := range map[string]struct {
		body     string
		status   int
		code     string
		location string
	}{
		"unknown field":       {body(`"predicateType":"t:a","predicate":{},"x":1`), 400, "invalid_request", "body.x"},
		"repeated field":      {body(`"predicateType":"t:a","predicateType":"t:b","predicate":{}`), 400, "invalid_request", ""},
		"null outside":        {body(`"predicateType":"t:a","predicate":{},"formats":null`), 400, "invalid_request", "body.formats"},
		"no type":             {body(`"predicate":{}`), 400, "invalid_request", "body.predicateType"},
		"no predicate":        {body(`"predicateType":"t:a"`), 400, "invalid_request", "body.predicate"},
		"not an object":       {body(`"predicateType":"t:a","predicate":"x"`), 400, "invalid_request", "body.predicate"},
		"schema":              {body(`"predicateType":"spdxjson","predicate":{}`), 400, "invalid_request", "body.predicate"},
		"repeated inside":     {body(`"predicateType":"t:a","predicate":{"a":1,"a":1}`), 400, "invalid_request", ""},
		"unknown format":      {body(`"predicateType":"t:a","predicate":{},"formats":["notation"]`), 400, "invalid_request", "body.formats[0]"},
		"annotations":         {body(`"predicateType":"t:a","predicate":{},"annotations":{}`), 400, "invalid_request", "body.annotations"},
		"no image":            {`{"key":"release","predicateType":"t:a","predicate":{}}`, 400, "invalid_request", "body.image"},
		"identity":            {`{"image":"` + image + `","predicateType":"t:a","predicate":{}}`, 422, "identity_required", "body.key"},
		"key not granted":     {`{"image":"` + image + `","key":"other","predicateType":"t:a","predicate":{}}`, 403, "forbidden", "grant"},
		"too large":           {body(`"predicateType":"t:a","predicate":{"a":"` + strings.Repeat("a", limits.AttestationBody) + `"}`), 413, "too_large", ""},
		"predicate too large": {body(`"predicateType":"t:a","predicate":{"a":"` + strings.Repeat("a", limits.Predicate) + `"}`), 400, "invalid_request", "body.predicate"},
	} {
		got := h.ask(http.MethodPost, "/v1/attestations", secret, c.body)
		var p api.Problem
		if err := json.Unmarshal(got.body, &p); err != nil || got.status != c.status || p.Code != c.code {
			t.Errorf("%s: %d %s", name, got.status, got.body)
			continue
		}
		if c.location != "" && !slices.ContainsFunc(p.Errors, func(f api.FieldProblem) bool { return strings.HasPrefix(f.Location, c.location) }) {
			t.Errorf("%s: %+v", name, p.Errors)
		}
	}
}

// job lets jobs of an issuer sign, attest and make provenance, by certificate
// and with the key release.
func (h *house) job(issuer *testissuer.Issuer, subject string) {
	h.t.Helper()
	_, err := h.admin.PutGrant(h.t.Context(), "job", api.GrantRequest{
		Issuer: issuer.URL, Subject: subject, Repositories: []string{h.registry.Host + "/**"},
		Keys: []string{"identity", "release"}, Actions: []string{"provenance"},
	}, api.PutOptions{})
	h.must(err)
}

// TestProvenance: the predicate is the token's, by certificate and by the
// service's key; an addition is added and costs a level.
func TestProvenance(t *testing.T) {
	h := open(t)
	h.furnish()
	issuer := h.believe("github", "github")
	h.job(issuer, "repo:acme/app:ref:refs/heads/main")
	image := h.push("provenance")
	for _, key := range []string{"", "release"} {
		c := h.client(issuer.GitHub(nil))
		a, _, err := c.Provenance(t.Context(), api.ProvenanceRequest{Image: image, Key: key}, api.SignOptions{})
		h.must(err)
		if (a.Signer.Identity != nil) != (key == "") || a.PredicateType != provenance.PredicateType || a.SLSA == nil ||
			a.SLSA.BuildLevel != 2 || len(a.SLSA.Reasons) == 0 {
			t.Fatalf("%+v", a)
		}
		signed := statementIn(t, a.Signatures[0].Bundle)
		for _, want := range []string{"acme/app/.github/workflows/release.yml@refs/heads/main", "6dcb09b5b57875f334f61aebed695e2e4193db5e", "/actions/runs/8675309001/attempts/1"} {
			if !strings.Contains(string(signed.Predicate), want) {
				t.Errorf("%s is missing in %s", want, signed.Predicate)
			}
		}
		var answered struct{ Predicate json.RawMessage }
		h.must(json.Unmarshal(a.Statement, &answered))
		if string(answered.Predicate) != string(signed.Predicate) {
			t.Errorf("answered %s, signed %s", answered.Predicate, signed.Predicate)
		}
	}
	c := h.client(issuer.GitHub(nil))
	a, _, err := c.Provenance(t.Context(), api.ProvenanceRequest{Image: image, ExternalParameters: json.RawMessage(`{"target":"prod"}`)}, api.SignOptions{})
	h.must(err)
	if !strings.Contains(string(a.Statement), `"target":"prod"`) {
		t.Errorf("%s", a.Statement)
	}
	l, err := h.admin.Attestations(t.Context(), api.AttestationFilter{PredicateType: "slsaprovenance1", Identity: "https://github.com/acme/app/.github/workflows/release.yml@refs/heads/main"})
	if err != nil || len(l.Items) != 2 || l.Items[0].SLSA == nil {
		t.Errorf("%+v, %v", l.Items, err)
	}
}

// TestProvenanceRefused: law 5: who built it is taken from the token. A request
// that says otherwise is refused, field by field, and the journal has it.
func TestProvenanceRefused(t *testing.T) {
	h := open(t)
	builder := h.furnish()
	h.grantTo("builder", "attest", "provenance", "sign")
	issuer := h.believe("github", "github")
	h.job(issuer, "repo:acme/app:ref:refs/heads/main")
	image := h.push("refused")
	c := h.client(issuer.GitHub(nil))
	_, _, err := c.Provenance(t.Context(), api.ProvenanceRequest{
		Image:              image,
		ExternalParameters: json.RawMessage(`{"workflow":{"repository":"https://github.com/acme/other"},"repository":"https://github.com/evil/app"}`),
	}, api.SignOptions{})
	p := wantProblem(t, err, http.StatusUnprocessableEntity, "claim_mismatch")
	if len(p.Errors) < 2 || !strings.HasPrefix(p.Errors[0].Location, "body.externalParameters") {
		t.Errorf("%+v", p.Errors)
	}
	journal, err := h.admin.Audit(t.Context(), api.ListOptions{Limit: 5})
	h.must(err)
	if !slices.ContainsFunc(journal.Items, func(r api.AuditRecord) bool {
		return r.Action == "provenance.create" && r.Outcome == "denied" && r.Detail["decision"] == "claim_mismatch"
	}) {
		t.Errorf("journal %+v", journal.Items)
	}
	// An API token says nothing of a build, whatever its grants.
	_, _, err = builder.Provenance(t.Context(), api.ProvenanceRequest{Image: image, Key: "release"}, api.SignOptions{})
	wantProblem(t, err, http.StatusUnprocessableEntity, "identity_required")
	// A token without the claims does not either.
	_, _, err = h.client(issuer.GitHub(map[string]any{"sha": nil})).Provenance(t.Context(), api.ProvenanceRequest{Image: image}, api.SignOptions{})
	wantProblem(t, err, http.StatusUnprocessableEntity, "claims_insufficient")
	// The grant is for provenance, not for predicates of one's own.
	_, _, err = c.Attest(t.Context(), api.AttestationRequest{Image: image, PredicateType: reviewType, Predicate: json.RawMessage(`{}`)}, api.SignOptions{})
	wantProblem(t, err, http.StatusForbidden, "forbidden")
	for name, more := range map[string]string{"unknown field": `"builder":{}`, "null": `"recursive":null`, "no object": `"externalParameters":[]`, "no descriptor": `"byproducts":[1]`} {
		got := h.ask(http.MethodPost, "/v1/provenance", issuer.GitHub(nil), `{"image":"`+image+`",`+more+`}`)
		if got.status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
}

// TestArtifactTree: everything known of an index in one answer: signatures,
// attestations by type without their content, and its children.
func TestArtifactTree(t *testing.T) {
	h := open(t)
	builder := h.furnish()
	h.grantAttest()
	d, err := h.registry.PushIndex(t.Context(), "team/app", "", "tree", "amd64", "arm64")
	h.must(err)
	image := h.registry.Image("team/app", d)
	_, _, err = builder.Sign(t.Context(), api.SignatureRequest{Image: image, Key: "release", Recursive: true}, api.SignOptions{})
	h.must(err)
	for range 2 {
		_, _, err = builder.Attest(t.Context(), api.AttestationRequest{Image: image, Key: "release", PredicateType: reviewType, Predicate: json.RawMessage(`{}`)}, api.SignOptions{})
		h.must(err)
	}
	a, err := builder.Artifact(t.Context(), d.String())
	h.must(err)
	if len(a.Signatures) != 1 || len(a.Signatures[0].Bundle) == 0 || len(a.Attestations) != 1 || len(a.Attestations[0].Items) != 2 || len(a.Children) != 2 {
		t.Fatalf("%+v", a)
	}
	item := a.Attestations[0].Items[0]
	if a.Attestations[0].PredicateType != reviewType || item.Signer != "release" || item.LogIndex == nil || item.Bundle != nil || a.Children[0].Platform != "linux/amd64" {
		t.Errorf("%+v", a)
	}
}

// TestIngest: of what a registry has, the archive keeps what an authority of a
// policy accepts, in each form, and nothing else; asking again keeps nothing
// twice.
func TestIngest(t *testing.T) {
	maker := open(t) // another service, which signs into the same registry
	builder := maker.furnish()
	maker.grantAttest()
	image, other := maker.push("ingested"), maker.push("other")
	formats := []string{"bundle", "legacy"}
	s, _, err := builder.Sign(t.Context(), api.SignatureRequest{Image: image, Key: "release", Formats: formats}, api.SignOptions{})
	maker.must(err)
	_, _, err = builder.Attest(t.Context(), api.AttestationRequest{Image: image, Key: "release", PredicateType: reviewType, Predicate: json.RawMessage(`{}`), Formats: formats}, api.SignOptions{})
	maker.must(err)

	h := open(t)
	_, err = h.admin.PutRegistry(t.Context(), maker.registry.Host, api.RegistryRequest{Repositories: []string{"team/**"}, InsecureHTTP: true, AllowPrivateAddress: true}, api.PutOptions{})
	h.must(err)
	// No policy knows the key: everything is refused, nothing is kept.
	got, err := h.admin.Ingest(t.Context(), s.Digest, api.IngestRequest{Image: image})
	h.must(err)
	if len(got.Kept) != 0 || len(got.Refused) != 4 || got.Refused[0].Reason == nil || got.Refused[0].Reason.Code != "no_policy" || !got.Complete {
		t.Fatalf("%+v", got)
	}
	_, err = h.admin.Artifact(t.Context(), s.Digest)
	wantProblem(t, err, http.StatusNotFound, "not_found")

	public, err := maker.admin.PublicKey(t.Context(), "release")
	h.must(err)
	trusting, err := json.Marshal(map[string]any{
		"apiVersion": "countersign.dev/v1", "kind": "TrustPolicy", "metadata": map[string]any{"name": "partner"},
		"spec": map[string]any{
			"match":       map[string]any{"images": []string{maker.registry.Host + "/**"}},
			"authorities": map[string]any{"partner": map[string]any{"key": map[string]any{"pem": string(public)}}},
			"require":     map[string]any{"all": []any{map[string]any{"signature": map[string]any{"by": "partner"}}}},
		},
	})
	h.must(err)
	_, err = h.admin.PutPolicy(t.Context(), "partner", trusting, api.PutOptions{})
	h.must(err)
	for range 2 {
		got, err = h.admin.Ingest(t.Context(), s.Digest, api.IngestRequest{Image: image})
		h.must(err)
		if len(got.Kept) != 4 || len(got.Refused) != 0 || got.Kept[0].Policy != "partner" || got.Kept[0].Authority != "partner" {
			t.Fatalf("%+v", got)
		}
		a, err := h.admin.Artifact(t.Context(), s.Digest)
		h.must(err)
		if len(a.Signatures) != 2 || len(a.Attestations) != 1 || len(a.Attestations[0].Items) != 2 {
			t.Errorf("%+v", a)
		}
	}
	_, err = h.admin.Ingest(t.Context(), s.Digest, api.IngestRequest{Image: other})
	wantProblem(t, err, http.StatusBadRequest, "invalid_request")
	_, err = h.admin.Ingest(t.Context(), s.Digest, api.IngestRequest{Image: "registry.example.com/team/app@" + s.Digest})
	wantProblem(t, err, http.StatusForbidden, "registry_not_trusted")
}

// TestIngestOwn: what the service attached itself is kept already, byte for
// byte, so that reading it from the registry keeps nothing twice.
func TestIngestOwn(t *testing.T) {
	h := open(t)
	builder := h.furnish()
	h.grantAttest()
	image := h.push("own")
	formats := []string{"bundle", "legacy"}
	s, _, err := builder.Sign(t.Context(), api.SignatureRequest{Image: image, Key: "release", Formats: formats}, api.SignOptions{})
	h.must(err)
	_, _, err = builder.Attest(t.Context(), api.AttestationRequest{Image: image, Key: "release", PredicateType: reviewType, Predicate: json.RawMessage(`{}`), Formats: formats}, api.SignOptions{})
	h.must(err)
	got, err := builder.Ingest(t.Context(), s.Digest, api.IngestRequest{Image: image})
	h.must(err)
	a, err := builder.Artifact(t.Context(), s.Digest)
	h.must(err)
	if len(got.Kept) != 4 || len(a.Signatures) != 2 || len(a.Attestations) != 1 || len(a.Attestations[0].Items) != 2 {
		t.Errorf("%d found, then %+v", len(got.Kept), a)
	}
}
