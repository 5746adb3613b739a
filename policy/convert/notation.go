package convert

import (
	"slices"
	"strings"

	"github.com/countersign/countersign/attest/notary"
	"github.com/countersign/countersign/policy"
)

// notationPolicies reads trustpolicy.json together with the trust stores that it
// names. Those are files beside it, which come as a document of their own:
// {"trustStores": {"ca:NAME": ["PEM", …]}}.
func notationPolicies(r *reader, roots []field) {
	stores := map[string][]string{}
	var documents []field
	for _, root := range roots {
		given := root.get("trustStores")
		if !given.present() {
			documents = append(documents, root)
			continue
		}
		for _, store := range given.members() {
			for _, pem := range store.items() {
				stores[store.name()] = append(stores[store.name()], pem.text())
			}
			if kind, _, _ := strings.Cut(store.name(), ":"); !slices.Contains(storeKinds(), kind) {
				store.refuse("is no trust store: want KIND:NAME with a kind of %s", strings.Join(storeKinds(), ", "))
				continue
			}
			store.exact("the certificates of %s", store.name())
		}
	}
	for _, root := range documents {
		root.get("version").want("read", "1.0")
		for _, statement := range root.get("trustPolicies").items() {
			n := notation{d: r.draft(statement, statement.get("name").text()), s: statement, stores: stores}
			n.d.layered = true
			n.read()
		}
	}
}

// storeKinds are the kinds of trust stores of the Notary Project.
func storeKinds() []string { return []string{"ca", "signingAuthority", "tsa"} }

// notation is one statement of a trust policy on its way.
type notation struct {
	d      *draft
	s      field
	stores map[string][]string
	// revocation and timestamp are rules of x509 authorities.
	revocation policy.Revocation
	timestamp  policy.TimestampRule
}

func (n *notation) read() {
	n.s.get("name").exact("names the policy")
	n.scopes()
	n.s.get("globalPolicy").refuse("is the policy of blobs: write match.blobs for the names that you give them")
	if !n.level() {
		n.d.harmless = true
		n.d.refuse("the statement admits without a signature: leave these images to no policy, which denies, or add an exception with an end")
		return
	}
	n.overrides()
	authorities, time := map[notary.Scheme][]string{}, []string{}
	for _, store := range n.s.get("trustStores").items() {
		kind, _, _ := strings.Cut(store.text(), ":")
		certificates := n.stores[store.text()]
		switch {
		case len(certificates) == 0:
			store.refuse("its certificates were not given: add the folder of the trust stores (--trust-stores)")
		case kind == "ca":
			authorities[notary.SchemeX509] = append(authorities[notary.SchemeX509], certificates...)
			store.exact("roots of the authority")
		case kind == "signingAuthority":
			authorities[notary.SchemeSigningAuthority] = append(authorities[notary.SchemeSigningAuthority], certificates...)
			store.exact("roots of an authority whose word on the time is taken")
		case kind == "tsa":
			time = append(time, certificates...)
			store.exact("timestampRoots of the authority")
		default:
			store.refuse("is no kind of trust store that is known")
		}
	}
	n.times(len(time) > 0)
	subjects := n.subjects()
	var any []any
	for _, scheme := range []notary.Scheme{notary.SchemeX509, notary.SchemeSigningAuthority} {
		if roots := authorities[scheme]; len(roots) > 0 && len(subjects) > 0 {
			any = append(any, signature(n.d.by(string(scheme), n.authority(scheme, roots, time, subjects))))
		}
	}
	if len(any) == 0 {
		n.s.remark(Refused, "", "nothing is left that could sign")
		return
	}
	n.d.require = combine("any", any)
}

func (n *notation) authority(scheme notary.Scheme, roots, time, subjects []string) map[string]any {
	x509 := map[string]any{"roots": roots, "subjects": subjects, "scheme": string(scheme), "revocation": string(n.revocation)}
	switch {
	case scheme == notary.SchemeSigningAuthority:
	case len(time) > 0:
		x509["timestampRoots"], x509["timestamp"] = time, string(n.timestamp)
	default:
		x509["timestamp"] = string(policy.TimestampIgnored)
	}
	return map[string]any{"x509": x509}
}

// scopes are repositories, of which the one that is named counts before `*`.
func (n *notation) scopes() {
	for _, scope := range n.s.get("registryScopes").items() {
		host, repository, _ := strings.Cut(scope.text(), "/")
		switch {
		case scope.is("*"):
			n.d.images = append(n.d.images, "*/**")
			scope.exact("every image")
		case !isHost(host) || repository == "" || strings.ContainsAny(scope.text(), "*?@"):
			scope.refuse("is not a repository")
		default:
			n.d.level = 1
			n.d.images = append(n.d.images, scope.text())
			scope.narrowed("this repository; where a policy of * speaks of it too, both must pass")
		}
	}
	if len(n.d.images) == 0 {
		n.s.remark(Refused, "/registryScopes", "names no repository")
	}
}

// level reports whether the statement wants a signature at all.
func (n *notation) level() bool {
	level := n.s.get("signatureVerification", "level")
	switch level.text() {
	case "skip":
		level.refuse("admits without a signature: leave these images to no policy, which denies, or add an exception with a digest and an end")
		return false
	case "strict":
		level.exact("mode enforce, revocation: check")
	case "permissive":
		level.narrowed("mode enforce; expiry, timestamps and revocation are enforced too, and not only logged")
	case "audit":
		level.narrowed("mode enforce: what is only logged there is enforced, since mode warn would let in what has no signature at all")
	default:
		level.refuse("is no level that is known")
	}
	return true
}

func (n *notation) overrides() {
	n.revocation = policy.RevocationCheck
	for _, check := range n.s.get("signatureVerification", "override").members() {
		switch {
		case !check.is("enforce", "log", "skip"):
			check.refuse("is no action that is known")
		case check.name() == "revocation" && check.is("skip"):
			n.revocation = policy.RevocationSkip
			check.exact("revocation: skip")
		case !slices.Contains([]string{"authenticity", "authenticTimestamp", "expiry", "revocation"}, check.name()):
			check.refuse("is no check that is known")
		case check.is("enforce"):
			check.exact("is enforced")
		default:
			check.narrowed("is enforced: single checks are not only logged here")
		}
	}
}

// times reads when a timestamp is needed: always, unless it is said otherwise,
// where there are authorities of timestamps, and never where there are none.
func (n *notation) times(stamped bool) {
	verify := n.s.get("signatureVerification", "verifyTimestamp")
	n.timestamp = policy.TimestampRequired
	switch {
	case !verify.present() || verify.is("always"):
		verify.exact("timestamp: required")
	case verify.is("afterCertExpiry"):
		n.timestamp = policy.TimestampOptional
		verify.narrowed("timestamp: optional; one that is there must be good, also while the certificate is")
	default:
		verify.refuse("is no rule that is known")
	}
	if !stamped && n.s.get("trustStores").present() {
		n.s.get("trustStores").remark(Exact, "", "without a tsa store no timestamp is believed: timestamp: ignored")
	}
}

func (n *notation) subjects() []string {
	var subjects []string
	for _, who := range n.s.get("trustedIdentities").items() {
		name, found := strings.CutPrefix(who.text(), "x509.subject:")
		switch {
		case who.is("*"):
			who.refuse("would let in every certificate of the stores: name the subjects")
		case !found:
			who.refuse("is no identity that is known")
		default:
			if _, err := notary.ParseName(strings.TrimSpace(name)); err != nil {
				who.refuse("%s", err.Error())
				continue
			}
			subjects = append(subjects, strings.TrimSpace(name))
			who.exact("among the subjects of the authority")
		}
	}
	return subjects
}
