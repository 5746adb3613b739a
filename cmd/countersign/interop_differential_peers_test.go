//go:build interop

package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/trust"
)

// asker puts an image to somebody and tells whether it was accepted, and what
// was said.
type asker func(t *testing.T, image string) (bool, string)

// question is one policy in everybody's words; a peer that has none for it is
// not asked.
type question struct {
	authorities, require string
	// authoritiesOffline replace managed keys, which only a service knows.
	authoritiesOffline string
	cosign             []string
	// mirror has cosign take its trust from our TUF mirror: v2 takes no trusted
	// root from a file for legacy attestations of certificates.
	mirror   bool
	notation *notation
	// tester is a ClusterImagePolicy.
	tester string

	judges map[string]asker
}

// What is said where nothing was judged.
var faults = []string{
	"unknown flag", "no such file", "connection refused", "unknown command", "invalid argument", "panic:",
	"deadline exceeded", "cip is invalid", "trusted root is required", "proxyconnect", "unsupported:",
}

// judged tells whether a stock verifier accepts. What is no
// judgement (a flag, a file, a connection) fails the test.
func judged(t *testing.T, out string, err error) (bool, string) {
	t.Helper()
	if err == nil {
		return true, out
	}
	for line := range strings.Lines(strings.ToLower(out)) {
		// The stock clients look for what an image lacks in public services,
		// which they cannot reach: not finding it there is a refusal.
		if strings.HasPrefix(line, "warning") || strings.Contains(line, "searching log query") {
			continue
		}
		for _, fault := range faults {
			if strings.Contains(line, fault) {
				t.Errorf("no judgement (%s): %s", fault, out)
			}
		}
	}
	return false, out
}

func (s *stage) cosignJudge(name string, args []string, mirror bool) asker {
	return func(t *testing.T, image string) (bool, string) {
		c := s.stock[name]
		if mirror {
			c = newCosign(t, name)
			c.must(t, "initialize", "--mirror", s.url+"/tuf", "--root", s.url+"/tuf/root.json")
		}
		out, err := c.run(slices.Concat(args, []string{"--allow-http-registry", image})...)
		return judged(t, out, err)
	}
}

func (s *stage) notationJudge(n notation) asker {
	return func(t *testing.T, image string) (bool, string) {
		out, err := n.run("verify", "--insecure-registry", image)
		return judged(t, out, err)
	}
}

func (s *stage) testerJudge(document, trustRoot string) asker {
	return func(t *testing.T, image string) (bool, string) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, s.tester, "--policy", document, "--image", image, "--trustroot", trustRoot, "--log-level", "error")
		cmd.Dir = s.folder
		cmd.Env = []string{
			"HOME=" + s.folder, "PATH=" + os.Getenv("PATH"),
			"HTTP_PROXY=http://127.0.0.1:1", "HTTPS_PROXY=http://127.0.0.1:1", "NO_PROXY=127.0.0.1,localhost",
		}
		out, err := cmd.CombinedOutput()
		return judged(t, string(out), err)
	}
}

// offlineJudge is our command line with a trusted root and a policy as files.
func (s *stage) offlineJudge(document string) asker {
	return func(t *testing.T, image string) (bool, string) {
		out, code := s.run("verify", "--offline", "--trusted-root", s.root, "--policy", document, "--allow-http-registry", image)
		if code != 0 && code != 3 {
			t.Errorf("offline: exit code %d: %s", code, out)
		}
		return code == 0, out
	}
}

// testerTrustRoot is our trusted root as policy-controller takes one.
func (s *stage) testerTrustRoot(t *testing.T) string {
	raw, err := os.ReadFile(s.root)
	check(t, err)
	root, err := trust.ParseTrustedRoot(raw)
	check(t, err)
	encode := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	logs := func(list []trust.Log) (out []any) {
		for _, l := range list {
			der, err := x509.MarshalPKIXPublicKey(l.Public)
			check(t, err)
			out = append(out, map[string]any{"baseURL": s.url, "hashAlgorithm": "sha-256", "publicKey": encode("PUBLIC KEY", der)})
		}
		return out
	}
	chain := func(certificates []*x509.Certificate) any {
		var text []byte
		for _, c := range certificates {
			text = append(text, encode("CERTIFICATE", c.Raw)...)
		}
		return map[string]any{"subject": map[string]any{"organization": "Countersign", "commonName": "test"}, "uri": s.url, "certChain": text}
	}
	var cas, tsas []any
	for _, a := range root.CertificateAuthorities {
		cas = append(cas, chain(a.Chain))
	}
	for _, a := range root.TimestampAuthorities {
		tsas = append(tsas, chain(a.Chain))
	}
	document, err := json.Marshal(map[string]any{
		"apiVersion": "policy.sigstore.dev/v1alpha1", "kind": "TrustRoot", "metadata": map[string]any{"name": "countersign"},
		"spec": map[string]any{"sigstoreKeys": map[string]any{
			"certificateAuthorities": cas, "timestampAuthorities": tsas, "tLogs": logs(root.Logs), "ctLogs": logs(root.CTLogs),
		}},
	})
	check(t, err)
	return s.write(t, "trustroot.yaml", document)
}

// questions stores every policy in the service and writes it for the others.
func (s *stage) questions(t *testing.T) map[string]question {
	t.Helper()
	trustRoot := s.testerTrustRoot(t)
	all := s.asks(t)
	for name, q := range all {
		document := s.policyDocument(name, q.authorities, q.require)
		_, err := putPolicy(context.Background(), s.admin, name, document)
		check(t, err)
		if q.authoritiesOffline != "" {
			document = s.policyDocument(name, q.authoritiesOffline, q.require)
		}
		q.judges = map[string]asker{offline: s.offlineJudge(s.write(t, name+".yaml", document))}
		if q.cosign != nil {
			for _, version := range []string{cosignV2, cosignV3} {
				q.judges[version] = s.cosignJudge(version, q.cosign, q.mirror)
			}
		}
		if q.notation != nil {
			q.judges[notationPeer] = s.notationJudge(*q.notation)
		}
		if q.tester != "" && s.tester != "" {
			q.judges[policyTester] = s.testerJudge(s.write(t, name+".cip.yaml", []byte(q.tester)), trustRoot)
		}
		all[name] = q
	}
	return all
}

// exported is a policy as our own exporter writes it for policy-controller.
func (s *stage) exported(t *testing.T, name, authorities, require string) string {
	t.Helper()
	path := s.write(t, name+".export.yaml", s.policyDocument(name, authorities, require))
	s.must("policies", "export", "--to", "clusterimagepolicy", "-f", path, "--out", path+".json")
	out := s.read(t, filepath.Base(path)+".json")
	var list struct {
		Items []json.RawMessage `json:"items"`
	}
	check(t, json.Unmarshal([]byte(out), &list))
	documents := make([]string, 0, len(list.Items))
	for _, item := range list.Items {
		documents = append(documents, string(item))
	}
	return strings.Join(documents, "\n---\n")
}

// notary is notation with the root of another as its only trust, and one
// subject.
func (s *stage) notary(t *testing.T, of notation, subject string) *notation {
	t.Helper()
	n := newNotation(t)
	for _, path := range s.certificates(of) {
		n.must("cert", "add", "--type", "ca", "--store", "acme", path)
	}
	policy := map[string]any{"version": "1.0", "trustPolicies": []any{map[string]any{
		"name": "all", "registryScopes": []string{"*"}, "signatureVerification": map[string]any{"level": "strict"},
		"trustStores": []string{"ca:acme"}, "trustedIdentities": []string{"x509.subject: " + subject},
	}}}
	raw, err := json.Marshal(policy)
	check(t, err)
	check(t, os.WriteFile(filepath.Join(n.conf, "trustpolicy.json"), raw, 0o600))
	return &n
}

// exportedNotary is notation with what we export for it, for one of our keys.
func (s *stage) exportedNotary(t *testing.T, key string) *notation {
	t.Helper()
	n := newNotation(t)
	s.must("trust", "export", "--notation", n.conf)
	identities(t, n, "x509.subject: C=ZZ, ST=none, O=Countersign, CN="+key)
	return &n
}

// certificates are the files of a notation's test certificates.
func (s *stage) certificates(of notation) []string {
	found, err := filepath.Glob(filepath.Join(of.conf, "truststore", "x509", "ca", "*", "*.crt"))
	check(s.t, err)
	return found
}

// replaced writes what the exporter leaves to the reader.
func replaced(t *testing.T, document, old, new string) string {
	t.Helper()
	if !strings.Contains(document, old) {
		t.Fatalf("no %s in %s", old, document)
	}
	return strings.Replace(document, old, new, 1)
}

// asks are the questions by name.
func (s *stage) asks(t *testing.T) map[string]question {
	t.Helper()
	pem := func(file string) string { return fmt.Sprintf("{key: {pem: %q}}", s.read(t, file+".pub")) }
	logged := func(file string) string {
		return fmt.Sprintf("{key: {pem: %q}, log: required}", s.read(t, file+".pub"))
	}
	who := func(workflow string) string {
		return fmt.Sprintf("{identity: {issuer: %q, subject: %q, trustRoot: self}}", s.issuer.URL, workflow)
	}
	x509 := func(of notation, subject string) string {
		var raw []byte
		for _, path := range s.certificates(of) {
			one, err := os.ReadFile(path)
			check(t, err)
			raw = append(raw, one...)
		}
		return fmt.Sprintf("signer: {x509: {roots: %q, subjects: [%q]}}", raw, subject)
	}
	const signature, dn = "{all: [{signature: {by: signer}}]}", "C=US,ST=WA,O=Notary,CN="
	attested := func(kind, more string) string {
		return fmt.Sprintf("{all: [{attestation: {predicateType: %s, by: signer%s}}]}", kind, more)
	}
	key := func(file string, more ...string) []string {
		return append([]string{"--key", s.file(file + ".pub")}, more...)
	}
	verify := func(args ...string) []string { return append([]string{"verify"}, args...) }
	attestation := func(kind string, args ...string) []string {
		return append([]string{"verify-attestation", "--type", kind}, args...)
	}
	const noLog, scan = "--insecure-ignore-tlog", "https://cosign.sigstore.dev/attestation/vuln/v1"
	rooted := []string{"--trusted-root", s.root}
	// Whether there is a log or not does not matter; a root they want anyway.
	free := func(file string, more ...string) []string {
		return append(key(file, "--trusted-root", s.root, noLog), more...)
	}
	identity := []string{"--trusted-root", s.root, "--use-signed-timestamps", "--certificate-identity", releaseWorkflow, "--certificate-oidc-issuer", s.issuer.URL}
	cip := func(name, authority, require string) string {
		return s.exported(t, name, "signer: "+authority, require)
	}
	asks := map[string]question{
		"team":              {authorities: "signer: " + pem("team"), require: signature, cosign: verify(free("team")...), tester: cip("team", pem("team"), signature)},
		"team-logged":       {authorities: "signer: " + logged("team"), require: signature, cosign: verify(key("team", rooted...)...)},
		"team-annotated":    {authorities: "signer: " + pem("team"), require: signature, cosign: verify(free("team", "-a", "env=prod")...)},
		"identity":          {authorities: "signer: " + who(releaseWorkflow), require: signature, cosign: verify(identity...), tester: cip("identity", who(releaseWorkflow), signature)},
		"identity-unlogged": {authorities: "signer: " + who(releaseWorkflow), require: signature, cosign: verify(append(identity, noLog)...)},
		"team-vuln": {
			authorities: "signer: " + pem("team"), require: attested("vuln", ", which: any"), cosign: attestation("vuln", free("team")...),
			tester: cip("team-vuln", pem("team"), attested("vuln", ", which: any")),
		},
		"team-custom": {authorities: "signer: " + pem("team"), require: attested("custom", ", which: any"), cosign: attestation("custom", free("team")...)},
		"team-clean": {
			authorities: "signer: " + pem("team"), require: attested("vuln", `, condition: "predicate.scanner.result.critical == 0"`),
			cosign: attestation("vuln", free("team", "--policy", s.file("clean.cue"))...),
			tester: replaced(t, cip("team-clean", pem("team"), attested("vuln", ", which: any")),
				`"predicateType":"`+scan+`"`, `"predicateType":"`+scan+`","policy":{"type":"cue","data":"predicate: scanner: result: critical: 0"}`),
		},
		"identity-slsa": {
			authorities: "signer: " + who(releaseWorkflow), require: attested("slsaprovenance1", ", which: any"), cosign: attestation("slsaprovenance1", identity[2:]...), mirror: true,
			tester: cip("identity-slsa", who(releaseWorkflow), attested("slsaprovenance1", ", which: any")),
		},
		"team-and-rival": {
			authorities: "signer: " + pem("team") + ", rival: " + pem("rival"), require: "{all: [{signature: {by: signer}}, {signature: {by: rival}}]}",
			tester: s.exported(t, "team-and-rival", "signer: "+pem("team")+", rival: "+pem("rival"), "{all: [{signature: {by: signer}}, {signature: {by: rival}}]}"),
		},
		"team-or-rival": {
			authorities: "signer: " + pem("team") + ", rival: " + pem("rival"), require: "{any: [{signature: {by: signer}}, {signature: {by: rival}}]}",
			tester: s.exported(t, "team-or-rival", "signer: "+pem("team")+", rival: "+pem("rival"), "{any: [{signature: {by: signer}}, {signature: {by: rival}}]}"),
		},
		"acme":        {authorities: x509(s.acme, dn+"acme.test"), require: signature, notation: s.notary(t, s.acme, "C=US, ST=WA, O=Notary, CN=acme.test")},
		"acme-second": {authorities: x509(s.acme, dn+"acme.second"), require: signature, notation: s.notary(t, s.acme, "C=US, ST=WA, O=Notary, CN=acme.second")},
		"rival-acme":  {authorities: x509(s.rival, dn+"acme.test"), require: signature, notation: s.notary(t, s.rival, "C=US, ST=WA, O=Notary, CN=acme.test")},
	}
	own := s.exportedNotary(t, "release")
	raw, err := os.ReadFile(filepath.Join(own.conf, "truststore", "x509", "ca", "countersign", "root-1.pem"))
	check(t, err)
	asks["release-notary"] = question{
		authorities: "signer: {key: {name: release}}", authoritiesOffline: fmt.Sprintf(`signer: {x509: {roots: %q, subjects: ["CN=release"]}}`, raw),
		require: signature, notation: own,
	}
	for _, name := range []string{"release", "other", "turned", "leaked"} {
		asks[name] = question{
			authorities: "signer: {key: {name: " + name + "}}", authoritiesOffline: "signer: " + logged(name), require: signature,
			cosign: verify(key(name, rooted...)...), tester: cip(name, pem(name), signature),
		}
	}
	asks["turned-new"] = question{authorities: "signer: " + logged("turned-new"), require: signature, cosign: verify(key("turned-new", rooted...)...)}
	for _, kind := range []string{"vuln", "custom", "slsaprovenance1"} {
		asks["release-"+kind] = question{
			authorities: "signer: {key: {name: release}}", authoritiesOffline: "signer: " + logged("release"), require: attested(kind, ", which: any"),
			cosign: attestation(kind, key("release", rooted...)...), tester: cip("release-"+kind, pem("release"), attested(kind, ", which: any")),
		}
	}
	return asks
}
