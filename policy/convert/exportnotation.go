package convert

import (
	"fmt"
	"strings"

	"github.com/countersign/countersign/attest/notary"
	"github.com/countersign/countersign/policy"
)

// exportNotation writes {"trustPolicy": …, "trustStores": {"ca:NAME": ["PEM"]}}:
// trustpolicy.json and what stands in the folder truststore beside it.
func exportNotation(r *reader, roots []field) any {
	stores := map[string]any{}
	scopes := map[*draft][]string{}
	for _, root := range roots {
		d := exported(r, root)
		root.get("spec", "mode").want("level: strict", "enforce")
		scopes[d] = notationScopes(root.get("spec", "match", "images"))
		e := exporter{d: d, root: root, signer: func(f field) any { return notationSigner(f) }}
		groups := e.groups(root.get("spec", "require"))
		exportUnused(root)
		if len(groups) != 1 || len(groups[0]) != 1 {
			root.remark(Refused, "/spec/require", "a statement there has one signer, with all of its roots and subjects: want one signature by one x509 authority")
			d.refuse("the policy is refused: what it requires cannot be expressed there")
			continue
		}
		signer, _ := groups[0][0].(notationStatement)
		d.objects = []any{signer.statement(d.name, scopes[d], stores)}
	}
	apart(r, func(*draft) bool { return true }, "another policy speaks of some of the same images, and only the most specific one counts there: write one policy of both")
	r.withdraw()
	var statements []any
	for _, d := range r.drafts {
		if !d.refused {
			statements = append(statements, d.objects...)
			continue
		}
		for _, kind := range storeKinds() {
			delete(stores, kind+":"+d.name)
		}
	}
	if len(statements) == 0 {
		return nil
	}
	return map[string]any{
		"trustPolicy": map[string]any{"version": "1.0", "trustPolicies": statements}, "trustStores": stores,
	}
}

// notationScopes are exact repositories, or all.
func notationScopes(images field) []string {
	var scopes []string
	for _, image := range images.items() {
		switch {
		case image.is("*/**") && len(images.items()) == 1:
			image.exact("every image")
			scopes = append(scopes, "*")
		case strings.Contains(image.text(), "*"):
			image.refuse("a scope there is one repository, or every image")
		default:
			image.exact("the repository")
			scopes = append(scopes, image.text())
		}
	}
	return scopes
}

// notationStatement is an x509 authority in the other language.
type notationStatement struct {
	kind            string
	roots, times    []any
	identities      []any
	override        map[string]any
	verifyTimestamp string
}

func notationSigner(f field) any {
	f.get("key").refuse("signers there are X.509 certificates")
	f.get("identity").refuse("signers there are X.509 certificates")
	f.get("log").want("no log entry is required", "optional")
	x := f.get("x509")
	if !x.present() {
		return nil
	}
	s := notationStatement{kind: "ca", override: map[string]any{}}
	if x.get("roots").text() != "" {
		x.get("roots").refuse("the certificates of a trusted root are not in the policy: write them in PEM (countersign trust export --notation writes this service's own)")
	}
	x.get("roots").exact("a trust store")
	s.roots, _ = x.get("roots").v.([]any)
	scheme := x.get("scheme")
	scheme.want("the kind of the trust store", string(notary.SchemeX509), string(notary.SchemeSigningAuthority))
	if scheme.is(string(notary.SchemeSigningAuthority)) {
		s.kind = "signingAuthority"
	}
	revocation := x.get("revocation")
	if revocation.is(string(policy.RevocationSkip)) {
		revocation.exact("override revocation: skip")
		s.override["revocation"] = "skip"
	}
	revocation.exact("level strict")
	s.readTimes(x)
	for _, subject := range x.get("subjects").items() {
		if notationIdentity(subject) {
			s.identities = append(s.identities, "x509.subject: "+subject.text())
		}
	}
	return s
}

// readTimes wants no timestamp there that is not believed here.
func (s *notationStatement) readTimes(x field) {
	roots, rule := x.get("timestampRoots"), x.get("timestamp")
	roots.exact("a trust store of timestamp authorities")
	s.times, _ = roots.v.([]any)
	s.verifyTimestamp = "always"
	switch {
	case s.kind == "signingAuthority":
		rule.exact("the signer tells the time")
	case rule.is(string(policy.TimestampRequired)) && len(s.times) == 0:
		rule.refuse("the timestamp authorities of a trusted root are not in the policy: write timestampRoots")
	case rule.is(string(policy.TimestampRequired)), rule.is(string(policy.TimestampIgnored)):
		rule.exact("so it is there")
	case len(s.times) > 0:
		rule.narrowed("every signature must have a timestamp")
		x.remark(Narrowed, "/timestampRoots", "every signature must have a timestamp")
	default:
		rule.narrowed("the certificate must be good now")
		x.remark(Narrowed, "/timestamp", "the certificate must be good now")
	}
}

// notationIdentity reports whether a subject has what a trusted identity there
// must have: C, ST and O.
func notationIdentity(subject field) bool {
	has := map[string]bool{}
	for part := range strings.SplitSeq(subject.text(), ",") {
		name, _, _ := strings.Cut(strings.TrimSpace(part), "=")
		has[strings.ToUpper(name)] = true
	}
	if !has["C"] || !has["ST"] || !has["O"] {
		subject.refuse("a trusted identity there must have C, ST and O")
		return false
	}
	subject.exact("a trusted identity")
	return true
}

func (s notationStatement) statement(name string, scopes []string, stores map[string]any) any {
	var names []string
	keep := func(kind string, certificates []any) {
		if len(certificates) > 0 {
			store := fmt.Sprintf("%s:%s", kind, name)
			stores[store] = certificates
			names = append(names, store)
		}
	}
	keep(s.kind, s.roots)
	keep("tsa", s.times)
	return map[string]any{
		"name": name, "registryScopes": scopes, "trustStores": names, "trustedIdentities": s.identities,
		"signatureVerification": map[string]any{"level": "strict", "override": s.override, "verifyTimestamp": s.verifyTimestamp},
	}
}
