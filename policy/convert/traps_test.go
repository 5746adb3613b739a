package convert_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/policy/convert"
)

// Two public keys in PEM on one line, as JSON strings.
const (
	keyA = `"-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE8nXRh950IZbRj8Ra/N9sbqOPZrfM\n5/KAQN0/KjHcorm/J5yctVd7iEcnessRQjU917hmKO6JWVGHpDguIyakZA==\n-----END PUBLIC KEY-----\n"`
	keyB = `"-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAENnPCzX7AW59QDNg3XBDBfKJt59iG\nRRGTksOlUDkrZ1U1ewFbvFmfB6mrVsIxHxxTiHVwaqma7CigNRIElHB2dA==\n-----END PUBLIC KEY-----\n"`
)

func cip(name, images, authorities string) string {
	return fmt.Sprintf(`{apiVersion: policy.sigstore.dev/v1beta1, kind: ClusterImagePolicy, metadata: {name: %s}, spec: {images: [%s], authorities: [%s]}}`, name, images, authorities)
}

func keyless(identity string) string {
	return `{keyless: {identities: [` + identity + `]}}`
}

// trap is a document and what may come of it: how many policies, and texts that
// they hold and do not hold.
type trap struct {
	name     string
	document string
	policies int
	has, not []string
}

func springTraps(t *testing.T, kind convert.Kind, options convert.Options, traps []trap) {
	t.Helper()
	for _, tt := range traps {
		t.Run(tt.name, func(t *testing.T) {
			// A comment in front, so that flow YAML is not taken for JSON.
			result := importOne(t, kind, []byte("# recorded\n"+tt.document), options)
			checkPolicies(t, result)
			if len(result.Policies) != tt.policies {
				b, _ := json.MarshalIndent(result, "", " ")
				t.Fatalf("%d policies\n%s", len(result.Policies), b)
			}
			if tt.policies == 0 && !convert.HasRefused(result.Report) {
				t.Error("nothing was refused")
			}
			all := ""
			for _, p := range result.Policies {
				all += string(p.JSON)
			}
			for _, text := range tt.has {
				if !strings.Contains(all, text) {
					t.Errorf("no %s in %s", text, all)
				}
			}
			for _, text := range tt.not {
				if strings.Contains(all, text) {
					t.Errorf("%s in %s", text, all)
				}
			}
		})
	}
}

func TestClusterImagePolicyTraps(t *testing.T) {
	key := `{name: a, key: {data: ` + keyA + `}}`
	prod := `{glob: registry.example.com/prod/**}`
	issuer := `issuer: "https://issuer.example"`
	springTraps(t, convert.ClusterImagePolicy, convert.Options{}, []trap{
		{"control", cip("p", prod, key), 1, []string{`"registry.example.com/prod/**"`}, nil},
		{"the glob reaches below", cip("p", `{glob: registry.example.com/app**}`, key), 1, []string{`["registry.example.com/app*","registry.example.com/app*/**"]`}, nil},
		{"the glob stays", cip("p", `{glob: gcr.io/foo*}`, key), 1, []string{`["gcr.io/foo*"]`}, nil},
		{"official images", cip("p", `{glob: "*"}`, key), 1, []string{`["index.docker.io/library/*"]`}, nil},
		{"images of users", cip("p", `{glob: "*/*"}`, key), 1, []string{`["index.docker.io/*/*"]`}, nil},
		{"everything", cip("p", `{glob: "**"}`, key), 1, []string{`["*/**"]`}, nil},
		{"a repository", cip("p", `{glob: registry.example.com/app}`, key), 1, []string{`["registry.example.com/app"]`}, nil},
		{"any tag", cip("p", `{glob: "registry.example.com/app:**"}`, key), 1, []string{`["registry.example.com/app"]`}, nil},
		{"one tag", cip("p", `{glob: "registry.example.com/app:v1*"}`, key), 0, nil, nil},
		{"no host", cip("p", `{glob: "nginx*"}`, key), 0, nil, nil},
		{"a name that is no host", cip("p", `{glob: "acme/app*"}`, key), 0, nil, nil},
		{"a spelling", cip("p", `{glob: "docker.io/library/nginx*"}`, key), 0, nil, nil},
		{"the host is open (row E3)", cip("p", `{glob: "**.example.com/app"}`, key), 0, nil, nil},
		{"the wildcard matches tags", cip("p", `{glob: "registry.example.com/*-release"}`, key), 0, nil, nil},
		{"crossing in the middle", cip("p", `{glob: "registry.example.com/a**b/c"}`, key), 0, nil, nil},
		{"no images", cip("p", ``, key), 0, nil, nil},
		{"no authorities (row F4)", cip("p", prod, ``), 0, nil, nil},
		{"static pass", cip("p", prod, `{static: {action: pass}}`), 0, nil, nil},
		{"static pass beside a key", cip("p", prod, key+`, {static: {action: pass}}`), 1, []string{`{"signature":{"by":"a"}}`}, []string{"any"}},
		{"static fail withdraws what it denied", cip("p", prod, `{static: {action: fail}}`) + "\n---\n" + cip("q", `{glob: registry.example.com/**}`, key), 0, nil, nil},
		{"static pass withdraws nothing", cip("p", prod, `{static: {action: pass}}`) + "\n---\n" + cip("q", `{glob: registry.example.com/**}`, key), 1, nil, nil},
		{"CUE withdraws the other that matches", cip("p", prod, `{key: {data: `+keyB+`}, attestations: [{name: a, predicateType: vuln, policy: {type: cue, data: x}}]}`) + "\n---\n" + cip("q", `{glob: registry.example.com/prod/app*}`, key), 0, nil, nil},
		{"and not one of other images", cip("p", prod, `{key: {kms: "awskms:///x"}}`) + "\n---\n" + cip("q", `{glob: registry.example.com/other/*}`, key), 1, nil, nil},
		{"both must pass", cip("p", prod, key) + "\n---\n" + cip("q", prod, `{key: {data: `+keyB+`}}`), 2, nil, nil},
		{"warn stays warn", strings.Replace(cip("p", prod, key), "images:", "mode: warn, images:", 1), 1, []string{`"mode":"warn"`}, nil},
		{"an unknown mode", strings.Replace(cip("p", prod, key), "images:", "mode: dry, images:", 1), 0, nil, nil},
		{"a selector", strings.Replace(cip("p", prod, key), "images:", "match: [{resource: pods, version: v1}], images:", 1), 0, nil, nil},
		{"a policy over all", strings.Replace(cip("p", prod, key), "images:", "policy: {type: rego, data: x}, images:", 1), 0, nil, nil},
		{"attestations replace signatures", cip("p", prod, `{name: a, key: {data: `+keyA+`}, attestations: [{name: s, predicateType: spdxjson}]}`), 1, []string{`"attestation"`, `"https://spdx.dev/Document"`}, []string{`"signature"`}},
		{"a log is required", cip("p", prod, `{key: {data: `+keyA+`}, ctlog: {url: "https://rekor.sigstore.dev"}}`), 1, []string{`"log":"required"`}, nil},
		{"a timestamp of a key", cip("p", prod, `{key: {data: `+keyA+`}, rfc3161timestamp: {trustRootRef: x}}`), 0, nil, nil},
		{"a secret", cip("p", prod, `{key: {secretRef: {name: x}}}`), 0, nil, nil},
		{"another digest", cip("p", prod, `{key: {data: `+keyA+`, hashAlgorithm: sha512}}`), 0, nil, nil},
		{"an identity", cip("p", prod, keyless(`{`+issuer+`, subject: "a@acme.example"}`)), 1, []string{`"trustRoot":"sigstore"`, `"subject":"a@acme.example"`}, nil},
		{"nobody named (row E5)", cip("p", prod, `{keyless: {url: "https://fulcio.sigstore.dev"}}`), 0, nil, nil},
		{"everybody named", cip("p", prod, keyless(`{`+issuer+`, subjectRegExp: ".*"}`)), 0, nil, nil},
		{"any issuer", cip("p", prod, keyless(`{issuerRegExp: ".*", subject: x}`)), 0, nil, nil},
		{"an issuer that is not anchored (row E2)", cip("p", prod, keyless(`{issuerRegExp: 'https://issuer\.example', subject: x}`)), 1, []string{`"issuer":"https://issuer.example"`}, nil},
		{"a subject that is not anchored (row E2)", cip("p", prod, keyless(`{`+issuer+`, subjectRegExp: "@acme.example"}`)), 1, []string{`"subject":"@acme.example"`}, nil},
		{"a wildcard in the host", cip("p", prod, keyless(`{`+issuer+`, subjectRegExp: "https://.*acme.example/x"}`)), 0, nil, nil},
		{"an alternative", cip("p", prod, keyless(`{`+issuer+`, subjectRegExp: "^(a|b)@acme$"}`)), 0, nil, nil},
		{"at least one", cip("p", prod, keyless(`{`+issuer+`, subjectRegExp: "^https://github.com/acme/.+$"}`)), 0, nil, nil},
		{"a tail", cip("p", prod, keyless(`{`+issuer+`, subjectRegExp: "^https://github.com/acme/app/x.yml@.*$"}`)), 1, []string{`x.yml@*"`, `x.yml@*/**"`}, nil},
		{"an authority of certificates", cip("p", prod, `{keyless: {ca-cert: {data: x}, identities: [{`+issuer+`, subject: x}]}}`), 0, nil, nil},
		{"our own root's name", cip("p", prod, `{keyless: {trustRootRef: self, identities: [{`+issuer+`, subject: x}]}}`), 0, nil, nil},
		{"another root's log", cip("p", prod, `{keyless: {trustRootRef: acme, identities: [{`+issuer+`, subject: x}]}, ctlog: {trustRootRef: other}}`), 0, nil, nil},
		{"another Fulcio", cip("p", prod, `{keyless: {url: "https://fulcio.acme.example", identities: [{`+issuer+`, subject: x}]}}`), 0, nil, nil},
		{"another kind", strings.Replace(cip("p", prod, key), "policy.sigstore.dev/v1beta1", "config.openshift.io/v1", 1), 0, nil, nil},
	})
}

func kyverno(verify string) string {
	return `{apiVersion: kyverno.io/v1, kind: ClusterPolicy, metadata: {name: p}, spec: {rules: [{name: r, verifyImages: [` + verify + `]}]}}`
}

func TestKyvernoTraps(t *testing.T) {
	one := `imageReferences: ["ghcr.io/acme/*"]`
	entryA, entryB := `{keys: {publicKeys: `+keyA+`}}`, `{keyless: {issuer: "https://issuer.example", subject: "b@acme.example"}}`
	kms := `{keys: {kms: "awskms:///x"}}`
	set := func(count, entries string) string {
		return kyverno(`{` + one + `, attestors: [{` + count + `entries: [` + entries + `]}]}`)
	}
	springTraps(t, convert.Kyverno, convert.Options{}, []trap{
		{"all entries without a count", set("", entryA+","+entryB), 1, []string{`{"all":[{"signature":{"by":"key"}},{"signature":{"by":"identity"}}]}`, `"log":"required"`}, []string{`"any"`}},
		{"count 1 of 2", set("count: 1, ", entryA+","+entryB), 1, []string{`"any"`}, []string{`"all"`}},
		{"count 2 of 3", set("count: 2, ", entryA+","+entryB+`, {keyless: {issuer: "https://issuer.example", subject: "c@acme.example"}}`), 1, []string{`"n":2`}, nil},
		{"count 0 (row C3)", set("count: 0, ", entryA), 0, nil, nil},
		{"count above", set("count: 3, ", entryA+","+entryB), 0, nil, nil},
		{"an entry of several refused", set("count: 1, ", entryA+","+kms), 1, nil, []string{`"any"`}},
		{"an entry of all refused", set("", entryA+","+kms), 0, nil, nil},
		{"too few left", set("count: 2, ", entryA+","+kms), 0, nil, nil},
		{"the wildcard crosses slashes", set("", entryA), 1, []string{`"ghcr.io/acme/**"`}, nil},
		{"a wildcard before the end", strings.Replace(set("", entryA), "ghcr.io/acme/*", "ghcr.io/*/app", 1), 0, nil, nil},
		{"an open host (row E3)", strings.Replace(set("", entryA), "ghcr.io/acme/*", "*.example.com/*", 1), 0, nil, nil},
		{"a tag widens", strings.Replace(set("", entryA), "ghcr.io/acme/*", "ghcr.io/acme/app:v1", 1), 1, []string{`["ghcr.io/acme/app"]`}, nil},
		{"Docker Hub in both spellings", strings.Replace(set("", entryA), "ghcr.io/acme/*", "docker.io/nginx", 1), 1, []string{`["index.docker.io/nginx","index.docker.io/library/nginx"]`}, nil},
		{"everything", strings.Replace(set("", entryA), "ghcr.io/acme/*", "*", 1), 1, []string{`["*/**"]`}, nil},
		{"skipped images need it too", kyverno(`{` + one + `, skipImageReferences: ["ghcr.io/acme/x*"], attestors: [{entries: [` + entryA + `]}]}`), 1, []string{`["ghcr.io/acme/**"]`}, nil},
		{"no attestors (row F4)", kyverno(`{` + one + `}`), 0, nil, nil},
		{"conditions", kyverno(`{` + one + `, attestations: [{type: vuln, attestors: [{entries: [` + entryA + `]}], conditions: [{all: []}]}]}`), 0, nil, nil},
		{"an attestation", kyverno(`{` + one + `, attestations: [{type: vuln, attestors: [{entries: [` + entryA + `]}]}]}`), 1, []string{`"attestation"`}, []string{`"signature"`}},
		{"annotations", kyverno(`{` + one + `, annotations: {a: b}, attestors: [{entries: [` + entryA + `]}]}`), 0, nil, nil},
		{"only references with a digest", kyverno(`{` + one + `, mutateDigest: false, verifyDigest: true, attestors: [{entries: [` + entryA + `]}]}`), 0, nil, nil},
		{"two keys in one text", set("", `{keys: {publicKeys: "-----BEGIN PUBLIC KEY-----\n-----BEGIN PUBLIC KEY-----\n"}}`), 0, nil, nil},
		{"a wildcard as subject", set("", `{keyless: {issuer: "https://issuer.example", subject: "*"}}`), 0, nil, nil},
		{"expressions are not passed over (row E1)", set("", `{keyless: {issuer: "https://issuer.example", subjectRegExp: "^b@acme\\.example$"}}`), 1, []string{`"b@acme.example"`}, nil},
		{"audit", strings.Replace(set("", entryA), "rules:", "validationFailureAction: Audit, rules:", 1), 1, []string{`"mode":"audit"`}, nil},
		{"notary", kyverno(`{` + one + `, type: Notary, attestors: [{entries: [` + entryA + `]}]}`), 0, nil, nil},
		{"a refused one withdraws its overlap", kyverno(`{` + one + `, attestors: [{entries: [` + entryA + `]}]}, {imageReferences: ["ghcr.io/*"], attestors: [{entries: [` + kms + `]}]}`), 0, nil, nil},
	})
}

func TestContainersPolicyTraps(t *testing.T) {
	signed := func(key string) string {
		var pem string
		if err := json.Unmarshal([]byte(key), &pem); err != nil {
			t.Fatal(err)
		}
		return `{type: sigstoreSigned, keyData: ` + base64.StdEncoding.EncodeToString([]byte(pem)) + `}`
	}
	a, b := signed(keyA), signed(keyB)
	with := func(rest, docker string) string {
		return `{default: [` + rest + `], transports: {docker: {` + docker + `}}}`
	}
	reject, accept := `{type: reject}`, `{type: insecureAcceptAnything}`
	document := with(reject, `"registry.example.com/prod": [`+a+`]`)
	springTraps(t, convert.PolicyJSON, convert.Options{}, []trap{{"the claimed name", document, 0, nil, nil}})
	springTraps(t, convert.PolicyJSON, convert.Options{AnySignedNameUnsafe: true}, []trap{
		{"control", document, 1, []string{`["registry.example.com/prod","registry.example.com/prod/**"]`, `"log":"optional"`}, nil},
		{"all of a list", with(reject, `"registry.example.com/prod": [`+a+`, `+b+`]`), 1, []string{`"all"`}, nil},
		{"more specific and rejected", with(reject, `"registry.example.com/prod": [`+a+`], "registry.example.com/prod/bad": [`+reject+`]`), 0, nil, nil},
		{"more specific and free", with(reject, `"registry.example.com/prod": [`+a+`], "registry.example.com/prod/free": [`+accept+`]`), 1, nil, nil},
		{"more specific, of another key: both", with(reject, `"registry.example.com/prod": [`+a+`], "registry.example.com/prod/app": [`+b+`]`), 2, nil, nil},
		{"one tag", with(reject, `"registry.example.com/prod": [`+a+`], "registry.example.com/prod/app:v1": [`+b+`]`), 0, nil, nil},
		{"a wider one refused", with(reject, `"registry.example.com/prod": [`+a+`], "registry.example.com": [{type: signedBy, keyType: GPGKeys, keyPath: /x}]`), 1, nil, nil},
		{"default accepts", with(accept, `"registry.example.com/prod": [`+a+`]`), 1, nil, []string{`"*/**"`}},
		{"default signed", with(a, ``), 1, []string{`["*/**"]`}, nil},
		{"default signed, a scope rejected", with(a, `"registry.example.com": [`+reject+`]`), 0, nil, nil},
		{"Docker Hub", with(reject, `"docker.io/library/busybox": [`+a+`]`), 1, []string{`"index.docker.io/library/busybox"`}, nil},
		{"subdomains", with(reject, `"*.example.com": [`+a+`]`), 1, []string{`["*.example.com/**"]`}, nil},
		{"an empty list (row F4)", with(reject, `"registry.example.com/prod": []`), 0, nil, nil},
		{"a key in a file", with(reject, `"registry.example.com/prod": [{type: sigstoreSigned, keyPath: /x}]`), 0, nil, nil},
		{"remapped", with(reject, `"registry.example.com/prod": [{type: sigstoreSigned, keyData: eA==, signedIdentity: {type: remapIdentity, prefix: a, signedPrefix: b}}]`), 0, nil, nil},
		{"an authority of its own", with(reject, `"registry.example.com/prod": [{type: sigstoreSigned, fulcio: {caData: eA==, oidcIssuer: "https://issuer.example", subjectEmail: "a@acme.example"}}]`), 1, []string{`"trustRoot":"fulcio-`}, []string{`"trustRoot":"sigstore"`}},
		{"no default", `{transports: {docker: {}}}`, 0, nil, nil},
	})
}

func TestConnaisseurTraps(t *testing.T) {
	with := func(rules string) string {
		return `{application: {validators: [{name: deny, type: static, approve: false}, {name: allow, type: static, approve: true},
			{name: default, type: cosign, trustRoots: [{name: default, key: ` + keyA + `}, {name: b, key: ` + keyB + `}]},
			{name: v1, type: notaryv1, host: notary.docker.io, trustRoots: [{name: default, key: ` + keyA + `}]}], policy: [` + rules + `]}}`
	}
	prod := `{pattern: "registry.example.com/prod/*:*"}`
	springTraps(t, convert.Connaisseur, convert.Options{}, []trap{
		{"control", with(prod + `, {pattern: "*:*", validator: deny}`), 1, []string{`["registry.example.com/prod/**"]`, `"log":"required"`}, nil},
		{"the most specific denies", with(prod + `, {pattern: "registry.example.com/prod/bad:*", validator: deny}`), 0, nil, nil},
		{"the most specific is free", with(prod + `, {pattern: "registry.example.com/prod/free:*", validator: allow}`), 1, nil, nil},
		{"the most specific is of another kind", with(prod + `, {pattern: "registry.example.com/prod/old/*:*", validator: v1}`), 0, nil, nil},
		{"both stand and both must pass", with(prod + `, {pattern: "*:*", with: {trustRoot: b}}`), 2, nil, nil},
		{"one as specific denies", with(prod + `, {pattern: "registry.example.com/*:*"}, {pattern: "registry.example.com/prod/app", validator: v1}`), 0, nil, nil},
		{"a wildcard within", with(`{pattern: "registry.example.com/*/app:*"}`), 0, nil, nil},
		{"a tag", with(`{pattern: "registry.example.com/prod/app:v1"}`), 0, nil, nil},
		{"no host", with(`{pattern: "library/*"}`), 0, nil, nil},
		{"a threshold", with(`{pattern: "registry.example.com/prod/*:*", with: {trustRoot: "*", threshold: 1}}`), 1, []string{`"n":1`}, nil},
		{"all without a threshold", with(`{pattern: "registry.example.com/prod/*:*", with: {trustRoot: "*"}}`), 1, []string{`"n":2`}, nil},
		{"threshold 0 (row C3)", with(`{pattern: "registry.example.com/prod/*:*", with: {trustRoot: "*", threshold: 0}}`), 0, nil, nil},
		{"one required", with(`{pattern: "registry.example.com/prod/*:*", with: {trustRoot: "*", threshold: 1, required: [b]}}`), 1, []string{`"all"`}, nil},
		{"an unknown validator", with(`{pattern: "registry.example.com/prod/*:*", validator: gone}`), 0, nil, nil},
		{"an unknown trust root", with(`{pattern: "registry.example.com/prod/*:*", with: {trustRoot: gone}}`), 0, nil, nil},
		{"no log", with(`{pattern: "registry.example.com/prod/*:*", with: {verifyInTransparencyLog: false}}`), 1, []string{`"log":"optional"`}, nil},
		{"detection", strings.Replace(with(prod), "application: {", "application: {features: {detectionMode: true}, ", 1), 1, []string{`"mode":"warn"`}, nil},
	})
}

// The drafts of Content Trust ask for keys that are still to be made.
func TestContentTrustDrafts(t *testing.T) {
	result := importOne(t, convert.DCT, read(t, "dct.txt"), convert.Options{})
	policies := checkPolicies(t, result)
	if len(policies) != 2 || !policies[0].Matches("index.docker.io/acme/app", nil) || !convert.HasRefused(result.Report) {
		t.Fatalf("%+v", result)
	}
	for _, p := range policies {
		if len(p.Authorities) != 1 || p.Authorities["release"].Key == nil || p.Authorities["release"].Key.Name == "" || p.Mode != policy.Enforce {
			t.Errorf("%s", p.Document())
		}
	}
	if slices.ContainsFunc(result.Report, func(l convert.Line) bool { return l.Outcome != convert.Refused && strings.HasPrefix(l.Source, "/") }) {
		t.Error("a line of Content Trust was converted")
	}
}
