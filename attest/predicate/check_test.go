package predicate_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/countersign/countersign/attest/predicate"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
)

// documents are predicates as tools write them, with the types they go under.
func documents() map[string][]string {
	return map[string][]string{
		"slsaprovenance1":  {predicate.SLSAProvenanceV1, "https://slsa.dev/provenance/v1.0", "https://slsa.dev/provenance/v1.0?draft"},
		"slsaprovenance02": {predicate.SLSAProvenanceV02},
		"spdx-2.2":         {predicate.SPDX},
		"spdx-2.3":         {predicate.SPDX, predicate.SPDXV23},
		"spdx-3":           {predicate.SPDX, predicate.SPDXV3},
		"cyclonedx-1.4":    {predicate.CycloneDX, predicate.CycloneDXV14, "https://cyclonedx.org/schema"},
		"cyclonedx-1.6":    {predicate.CycloneDX, "https://cyclonedx.org/bom/v1.6"},
		"vuln":             {predicate.CosignVuln, "cosign.sigstore.dev/attestation/vuln/v1"},
		"vulns01":          {predicate.VulnsV01},
		"vulns02":          {predicate.VulnsV02, predicate.VulnsV01},
		"openvex":          {predicate.OpenVEX, predicate.OpenVEXV02},
		"openvex-0.0.1":    {predicate.OpenVEX},
		"vsa":              {predicate.VSAV1},
		"test-result":      {predicate.TestResult},
		"scai":             {predicate.SCAI},
		"link03":           {predicate.LinkV03},
		"link":             {predicate.CosignLink},
		"release":          {predicate.ReleaseV02, predicate.ReleaseV01},
		"reference":        {predicate.Reference},
		"runtime-trace":    {predicate.RuntimeTrace},
		"svr":              {predicate.SVRV01},
	}
}

func document(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestCheckAccepts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) != len(documents()) {
		t.Errorf("%d files, %d in the table, %v", len(files), len(documents()), err)
	}
	for name, types := range documents() {
		text := document(t, name)
		for _, uri := range types {
			if err := predicate.Check(uri, []byte(text)); err != nil {
				t.Errorf("%s as %s: %v", name, uri, err)
			}
			more := strings.Replace(text, "{", `{"https://acme.example/later": {"x": [null, 1e3]},`, 1)
			if err := predicate.Check(uri, []byte(more)); err != nil {
				t.Errorf("%s with a field of later: %v", name, err)
			}
			before := strings.Clone(text)
			b := []byte(text)
			if err := predicate.Check(uri, b); err != nil || string(b) != before {
				t.Errorf("%s: the bytes were changed", name)
			}
		}
	}
	for _, uri := range []string{predicate.CosignCustom, predicate.SVRV02, predicate.VSAV02, predicate.SCAIV02, predicate.Chainloop, "https://acme.example/ours/v1"} {
		if err := predicate.Check(uri, []byte(` {"any": ["thing", {}, null, ""]} `)); err != nil {
			t.Errorf("%s: %v", uri, err)
		}
	}
	if err := predicate.Check(predicate.SLSAProvenanceV01, []byte(`{"builder":{"id":"mailto:a@b"},"recipe":{"type":"https://example.com/Makefile"}}`)); err != nil {
		t.Error(err)
	}
}

// Rows A9, H7 and H9 for documents of every type.
func TestCheckRefusesAnyType(t *testing.T) {
	for name, types := range documents() {
		text := strings.TrimSpace(document(t, name))
		first := text[strings.Index(text, `"`) : strings.Index(text, `":`)+2]
		for fault, edited := range map[string]string{
			"A9 duplicate":              strings.Replace(text, first, first+"null,"+first, 1),
			"A9 duplicate by escape":    strings.Replace(text, "{", `{"\u0078": 1, "x": 2,`, 1),
			"A9 duplicate below":        strings.Replace(text, "{", `{"later": [{"x": 1, "x": 2}],`, 1),
			"A9 trailing value":         text + "{}",
			"A9 trailing brace":         text + "}",
			"A9 not UTF-8":              strings.Replace(text, "{", "{\"later\": \"\xff\",", 1),
			"A9 name in another case":   strings.Replace(text, first, strings.ToUpper(first), 1),
			"A9 name in two cases":      strings.Replace(text, "{", "{"+strings.ToUpper(first)+`null,`, 1),
			"H7 everything null":        "null",
			"H7 empty":                  "{}",
			"H9 too deep":               strings.Replace(text, "{", `{"later":`+strings.Repeat("[", limits.JSONDepth)+strings.Repeat("]", limits.JSONDepth)+",", 1),
			"H9 far too deep":           strings.Replace(text, "{", `{"later":`+strings.Repeat(`{"a":`, 100_000), 1),
			"cut short":                 text[:len(text)-1],
			"a list":                    "[" + text + "]",
			"a text":                    `"SPDXVersion: SPDX-2.3"`,
			"nothing":                   "",
			"white space":               " \n",
			"larger than the limit":     text + strings.Repeat(" ", limits.Predicate),
			"another document entirely": `{"hello": "world"}`,
		} {
			if edited == text {
				t.Fatalf("%s, %s: not edited", name, fault)
			}
			if err := predicate.Check(types[0], []byte(edited)); !errors.Is(err, predicate.ErrPredicate) {
				t.Errorf("%s, %s: %v", name, fault, err)
			}
		}
	}
	for _, text := range []string{`[]`, `1`, `null`, ``, `{"a":1,"a":1}`, `{} {}`} {
		if err := predicate.Check("https://acme.example/ours/v1", []byte(text)); !errors.Is(err, predicate.ErrPredicate) {
			t.Errorf("unknown type, %s: %v", text, err)
		}
	}
}

// An image signature made through the attestation door would need no right to
// sign images.
func TestCheckRefusesImageSignatures(t *testing.T) {
	if err := predicate.Check(predicate.CosignSign, []byte(`{}`)); !errors.Is(err, predicate.ErrPredicate) {
		t.Error(err)
	}
}

// Each case edits a document once; the fault is at pointer.
func TestCheckRefuses(t *testing.T) {
	const zero64 = "0000000000000000000000000000000000000000000000000000000000000000"
	tests := []struct{ document, uri, old, new, pointer string }{
		{"slsaprovenance1", "", `"buildType"`, `"x"`, "/buildDefinition/buildType"},
		{"slsaprovenance1", "", `"https://actions.github.io/buildtypes/workflow/v1"`, `""`, "/buildDefinition/buildType"},
		{"slsaprovenance1", "", `"https://actions.github.io/buildtypes/workflow/v1"`, `null`, "/buildDefinition/buildType"},
		{"slsaprovenance1", "", `"https://actions.github.io/buildtypes/workflow/v1"`, `"workflow"`, "/buildDefinition/buildType"},
		{"slsaprovenance1", "", `"externalParameters"`, `"externalParameters": {}, "x"`, "/buildDefinition/externalParameters"},
		{"slsaprovenance1", "", `"externalParameters"`, `"externalParameters": [], "x"`, "/buildDefinition/externalParameters"},
		{"slsaprovenance1", "", `"internalParameters"`, `"internalParameters": "", "x"`, "/buildDefinition/internalParameters"},
		{"slsaprovenance1", "", `"id"`, `"x"`, "/runDetails/builder/id"},
		{"slsaprovenance1", "", `"builder"`, `"x"`, "/runDetails/builder"},
		{"slsaprovenance1", "", `"runDetails"`, `"x"`, "/runDetails"},
		{"slsaprovenance1", "", `"buildDefinition"`, `"buildDefinition": [], "x"`, "/buildDefinition"},
		{"slsaprovenance1", "", `"2026-11-20T09:14:02Z"`, `"yesterday"`, "/runDetails/metadata/startedOn"},
		{"slsaprovenance1", "", `"2026-11-20T09:14:02Z"`, `1763630042`, "/runDetails/metadata/startedOn"},
		{"slsaprovenance1", "", `"2026-11-20T09:21:40.512Z"`, `"2026-11-20 09:21:40"`, "/runDetails/metadata/finishedOn"},
		{"slsaprovenance1", "", `"gitCommit": "`, `"gitCommit": "0`, "/buildDefinition/resolvedDependencies/0/digest/gitCommit"},
		{"slsaprovenance1", "", `"gitCommit"`, `"SHA256"`, "/buildDefinition/resolvedDependencies/0/digest/SHA256"},
		{"slsaprovenance1", "", `"uri": "git+https`, `"uri": "git https`, "/buildDefinition/resolvedDependencies/0/uri"},
		{"slsaprovenance1", "", `"content": "b2sK"`, `"content": "!"`, "/runDetails/byproducts/0/content"},
		{"slsaprovenance1", "", `"content": "b2sK"`, `"x": "b2sK"`, "/runDetails/byproducts/0"},
		{"slsaprovenance1", "", `"byproducts": [`, `"byproducts": [null,`, "/runDetails/byproducts/0"},
		{"slsaprovenance1", "", `"byproducts": [`, `"byproducts": [{},`, "/runDetails/byproducts/0"},
		{"slsaprovenance02", "", `"id"`, `"x"`, "/builder/id"},
		{"slsaprovenance02", "", `"buildType"`, `"x"`, "/buildType"},
		{"slsaprovenance02", "", `"reproducible": false`, `"reproducible": "false"`, "/metadata/reproducible"},
		{"slsaprovenance02", "", `"2026-11-20T09:21:40Z"`, `"2026-11-20"`, "/metadata/buildFinishedOn"},
		{"slsaprovenance02", "", `"digest": { "sha256": "`, `"digest": { "sha256": "sha256:`, "/materials/0/digest/sha256"},
		{"spdx-2.3", "", `"SPDX-2.3"`, `"SPDX-2.1"`, "/spdxVersion"},
		{"spdx-2.3", "", `"spdxVersion"`, `"x"`, "/spdxVersion"},
		{"spdx-2.3", "", `"CC0-1.0"`, `"MIT"`, "/dataLicense"},
		{"spdx-2.3", "", `"SPDXRef-DOCUMENT"`, `"SPDXRef-Doc"`, "/SPDXID"},
		{"spdx-2.3", "", `"documentNamespace"`, `"x"`, "/documentNamespace"},
		{"spdx-2.3", "", `"https://anchore.com/syft`, `"https://anchore.com/#syft`, "/documentNamespace"},
		{"spdx-2.3", "", `["Organization: Anchore, Inc", "Tool: syft-1.18.1"]`, `[]`, "/creationInfo/creators"},
		{"spdx-2.3", "", `"Tool: syft-1.18.1"`, `"syft-1.18.1"`, "/creationInfo/creators/1"},
		{"spdx-2.3", "", `"2026-11-20T09:22:11Z"`, `"now"`, "/creationInfo/created"},
		{"spdx-2.3", "", `"name": "musl"`, `"name": ""`, "/packages/0/name"},
		{"spdx-2.3", "", `"downloadLocation": "https://musl.libc.org/",`, ``, "/packages/0/downloadLocation"},
		{"spdx-2.3", "", `"SPDXRef-Package-apk-musl`, `"Package-apk-musl`, "/packages/0/SPDXID"},
		{"spdx-2.3", "", `"referenceType": "purl"`, `"x": "purl"`, "/packages/0/externalRefs/1/referenceType"},
		{"spdx-2.3", "", `"relationshipType": "CONTAINS"`, `"relationshipType": 1`, "/relationships/0/relationshipType"},
		{"spdx-2.3", predicate.SPDXV3, `{`, `{ `, "/@context"},
		{"spdx-2.2", predicate.SPDXV23, `{`, `{ `, "/spdxVersion"},
		{"spdx-3", predicate.SPDXV23, `{`, `{ `, "/spdxVersion"},
		{"spdx-3", "", `"https://spdx.org/rdf/3.0.1/spdx-context.jsonld"`, `"https://acme.example/context"`, "/@context"},
		{"spdx-3", "", `"@graph"`, `"@graph": [], "x"`, "/@graph"},
		{"spdx-3", "", `"type": "SpdxDocument"`, `"x": "SpdxDocument"`, "/@graph/2/type"},
		{"spdx-3", "", `"created": "2026-11-20T09:22:11Z"`, `"x": ""`, "/@graph/0/created"},
		{"cyclonedx-1.6", "", `"CycloneDX"`, `"cyclonedx"`, "/bomFormat"},
		{"cyclonedx-1.6", "", `"specVersion": "1.6"`, `"specVersion": "2.0"`, "/specVersion"},
		{"cyclonedx-1.6", "", `"specVersion": "1.6"`, `"specVersion": 1.6`, "/specVersion"},
		{"cyclonedx-1.6", predicate.CycloneDXV14, `{`, `{ `, "/specVersion"},
		{"cyclonedx-1.6", "", `"version": 1,`, `"version": 0,`, "/version"},
		{"cyclonedx-1.6", "", `"version": 1,`, `"version": 1.5,`, "/version"},
		{"cyclonedx-1.6", "", `urn:uuid:3c9f1a52-`, `urn:uuid:3c9f1a52`, "/serialNumber"},
		{"cyclonedx-1.6", "", `urn:uuid:3c9f1a52`, `urn:uuid:3c9f1a5g`, "/serialNumber"},
		{"cyclonedx-1.6", "", `"2026-11-20T09:22:11+00:00"`, `"2026-11-20T09:22:11"`, "/metadata/timestamp"},
		{"cyclonedx-1.6", "", `"type": "library"`, `"type": "package"`, "/components/0/type"},
		{"cyclonedx-1.6", "", `"name": "musl"`, `"x": "musl"`, "/components/0/name"},
		{"cyclonedx-1.6", "", `"purl": "pkg:apk`, `"purl": "apk`, "/components/0/purl"},
		{"cyclonedx-1.6", "", `"alg": "SHA-256"`, `"alg": "sha256"`, "/components/0/hashes/0/alg"},
		{"cyclonedx-1.6", "", `"content": "`, `"content": "0`, "/components/0/hashes/0/content"},
		{"cyclonedx-1.6", "", `"type": "file"`, `"x": "file"`, "/components/0/components/0/type"},
		{"cyclonedx-1.6", "", `"ref": "5d0e8c1f2a3b4c5d"`, `"ref": ""`, "/dependencies/1/ref"},
		{"cyclonedx-1.4", "", `"version": 3,`, ``, "/version"},
		{"vuln", "", `"result"`, `"x"`, "/scanner/result"},
		{"vuln", "", `"result": {`, `"result": "clean", "x": {`, "/scanner/result"},
		{"vuln", "", `"scanner"`, `"scanners"`, "/scanner"},
		{"vuln", "", `"scanFinishedOn"`, `"x"`, "/metadata/scanFinishedOn"},
		{"vulns02", "", `"lastUpdate"`, `"x"`, "/scanner/db/lastUpdate"},
		{"vulns02", "", `"id": "CVE-2026-11111"`, `"id": ""`, "/scanner/result/0/id"},
		{"vulns02", "", `"severity": []`, `"severity": null`, "/scanner/result/1/severity"},
		{"vulns02", "", `"score": "5.2"`, `"score": 5.2`, "/scanner/result/0/severity/1/score"},
		{"vulns01", "", `"id"`, `"x"`, "/scanner/result/0/vulnerability/id"},
		{"openvex", "", `"https://openvex.dev/ns/v0.2.0"`, `"https://acme.example/ns"`, "/@context"},
		{"openvex-0.0.1", predicate.OpenVEXV02, `{`, `{ `, "/@context"},
		{"openvex", "", `"not_affected"`, `"fine"`, "/statements/0/status"},
		{"openvex", "", `"justification"`, `"x"`, "/statements/0/justification"},
		{"openvex", "", `"vulnerable_code_not_in_execute_path"`, `"because"`, "/statements/0/justification"},
		{"openvex", "", `"action_statement"`, `"x"`, "/statements/1/action_statement"},
		{"openvex", "", `{ "name": "CVE-2026-22222" }`, `{}`, "/statements/1/vulnerability/name"},
		{"openvex", "", `"version": 1`, `"version": "one"`, "/version"},
		{"openvex", "", `"statements": [`, `"statements": [], "x": [`, "/statements"},
		{"vsa", "", `"PASSED"`, `"passed"`, "/verificationResult"},
		{"vsa", "", `"SLSA_BUILD_LEVEL_3", `, `"SLSA_BUILD_LEVEL_4", `, "/verifiedLevels/0"},
		{"vsa", "", `"SLSA_BUILD_LEVEL_3", `, `"SLSA_L3", `, "/verifiedLevels/0"},
		{"vsa", "", `"SLSA_BUILD_LEVEL_3", `, `"SLSA_BUILD_LEVEL_3", "SLSA_BUILD_LEVEL_2", `, "/verifiedLevels/1"},
		{"vsa", "", `["SLSA_BUILD_LEVEL_3", "SLSA_SOURCE_LEVEL_4", "ACME_REVIEWED"]`, `[]`, "/verifiedLevels"},
		{"vsa", "", `"SLSA_BUILD_LEVEL_0": 12`, `"SLSA_BUILD_LEVEL_0": -1`, "/dependencyLevels/SLSA_BUILD_LEVEL_0"},
		{"vsa", "", `"SLSA_BUILD_LEVEL_0": 12`, `"SLSA_BUILD_LEVEL_9": 12`, "/dependencyLevels/SLSA_BUILD_LEVEL_9"},
		{"vsa", "", `"uri": "https://countersign.acme.example/policies/production"`, `"x": ""`, "/policy/uri"},
		{"vsa", "", `"inputAttestations": [{`, `"inputAttestations": [{"uri": "https://a/b"}, {`, "/inputAttestations/0/digest"},
		{"vsa", "", `"resourceUri"`, `"x"`, "/resourceUri"},
		{"vsa", "", `"slsaVersion": "1.2"`, `"slsaVersion": "v1"`, "/slsaVersion"},
		{"test-result", "", `"WARNED"`, `"OK"`, "/result"},
		{"test-result", "", `"configuration"`, `"x"`, "/configuration"},
		{"test-result", "", `"lint"`, `3`, "/warnedTests/0"},
		{"scai", "", `"attribute": "WITH_STACK_PROTECTION"`, `"attribute": ""`, "/attributes/0/attribute"},
		{"scai", "", `"conditions": {`, `"conditions": "x", "y": {`, "/attributes/0/conditions"},
		{"link03", "", `"src/util.c"`, `"src/main.c"`, "/materials/1"},
		{"link03", "", `"name": "src/util.c", `, ``, "/materials/1/name"},
		{"link03", "", `"name": "build"`, `"name": ""`, "/name"},
		{"link03", "", `["make", "-j", "", "all"]`, `"make all"`, "/command"},
		{"link", "", `"products"`, `"x"`, "/products"},
		{"link", "", `"_type": "link"`, `"_type": "layout"`, "/_type"},
		{"link", "", `"payments": {`, `"other": {}, "payments": {`, "/materials/other"},
		{"release", "", `@4.1.0`, ``, "/purl"},
		{"release", "", `%40acme/payments`, ``, "/purl"},
		{"reference", "", `"mediaType"`, `"x"`, "/references/0/mediaType"},
		{"runtime-trace", "", `"hostID"`, `"x"`, "/monitoredProcess/hostID"},
		{"runtime-trace", "", `"process": [{ "pid": 1 }], "fileAccess"`, `"x"`, "/monitorLog"},
		{"svr", "", `"timeCreated"`, `"x"`, "/timeCreated"},
		{"scai", "", `"sha256": "`, `"sha256": "` + zero64, "/attributes/0/target/digest/sha256"},
	}
	for _, tt := range tests {
		text := document(t, tt.document)
		edited := strings.Replace(text, tt.old, tt.new, 1)
		if edited == text {
			t.Fatalf("%s has no %q", tt.document, tt.old)
		}
		uri := tt.uri
		if uri == "" {
			uri = documents()[tt.document][0]
		}
		err := predicate.Check(uri, []byte(edited))
		faults, ok := errors.AsType[predicate.FieldErrors](err)
		if !ok || len(faults) != 1 || faults[0].Pointer != tt.pointer || !errors.Is(err, predicate.ErrPredicate) {
			t.Errorf("%s, %s for %s: %v", tt.document, tt.new, tt.old, err)
		}
		if ok && !strings.Contains(faults[0].Problem, "want") {
			t.Errorf("%s says not what to do: %s", tt.document, faults[0].Problem)
		}
	}
}

// Several faults are told at once, and at most limits.FieldErrors of them.
func TestCheckTellsSeveralFaults(t *testing.T) {
	err := predicate.Check(predicate.VSAV1, []byte(`{"verifier":{"id":"x"},"policy":{"uri":7},"verificationResult":"OK","timeVerified":"now"}`))
	faults, _ := errors.AsType[predicate.FieldErrors](err)
	var at []string
	for _, f := range faults {
		at = append(at, f.Pointer)
	}
	if got := strings.Join(at, " "); got != "/verifier/id /policy/uri /verificationResult /timeVerified /resourceUri /verifiedLevels" {
		t.Errorf("%s: %v", got, err)
	}
	many := `{"attributes":[` + strings.Repeat(`{},`, 1000) + `{}]}`
	faults, _ = errors.AsType[predicate.FieldErrors](predicate.Check(predicate.SCAI, []byte(many)))
	if len(faults) != limits.FieldErrors {
		t.Errorf("%d faults", len(faults))
	}
	if one, ok := errors.AsType[*predicate.FieldError](err); !ok || one.Pointer != "/verifier/id" {
		t.Errorf("%v", one)
	}
}

// A fault never repeats what stands there.
func TestFaultsDoNotRepeatValues(t *testing.T) {
	for _, text := range []string{
		`{"buildDefinition":{"buildType":"canary"},"runDetails":"canary"}`,
		`{"buildDefinition":{"resolvedDependencies":[{"digest":{"sha256":"canary"}}]}}`, `{"x":"canary`,
	} {
		if err := predicate.Check(predicate.SLSAProvenanceV1, []byte(text)); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// What is accepted under any type is one JSON object that strictjson takes, and
// stays as it is.
func FuzzCheck(f *testing.F) {
	var types []string
	for name, uris := range documents() {
		types = append(types, uris...)
		f.Add(uris[0], []byte(document(f, name)))
	}
	f.Add("https://acme.example/ours/v1", []byte(`{"\u0061":1,"a":2}`))
	f.Add(predicate.SLSAProvenanceV1, []byte(`{"BUILDDEFINITION":{},"bu\u0131ldDefinition":{}}`))
	f.Fuzz(func(t *testing.T, uri string, b []byte) {
		if len(b) > 1<<16 {
			return
		}
		before := bytes.Clone(b)
		for _, uri := range append([]string{uri}, types...) {
			err := predicate.Check(uri, b)
			if !bytes.Equal(before, b) {
				t.Fatal("the document was changed")
			}
			faults, _ := errors.AsType[predicate.FieldErrors](err)
			switch {
			case len(faults) > limits.FieldErrors:
				t.Fatalf("%d faults", len(faults))
			case err != nil && !errors.Is(err, predicate.ErrPredicate):
				t.Fatal(err)
			case err == nil && (strictjson.Check(b) != nil || !bytes.HasPrefix(bytes.TrimLeft(b, " \t\r\n"), []byte("{"))):
				t.Fatal("accepted what is no JSON object")
			}
		}
	})
}
