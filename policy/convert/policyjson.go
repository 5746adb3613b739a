package convert

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
)

// containersPolicy reads containers-policy.json. Of a registry's scopes the most
// specific one alone counts, all of its requirements must hold.
func containersPolicy(r *reader, roots []field) {
	for _, root := range roots {
		transports := root.get("transports")
		for _, t := range transports.members() {
			if t.name() != "docker" {
				t.refuse("is no registry: policies here speak of images of registries")
			}
		}
		docker := transports.get("docker")
		for _, scope := range docker.members() {
			scopeDraft(r, root, scope, scope.name())
		}
		rest := root.get("default")
		if docker.get("").present() {
			rest.exact("does not concern registries, which have a default of their own")
			continue
		}
		if !rest.present() {
			root.remark(Refused, "/default", "is missing")
			continue
		}
		scopeDraft(r, root, rest, "")
	}
}

func scopeDraft(r *reader, root, requirements field, scope string) {
	name := scope
	if scope == "" {
		name = "default"
	}
	d := r.draft(requirements, name)
	d.layered = true
	for _, outside := range root.members() {
		if outside.name() != "default" && outside.name() != "transports" {
			d.outer = append(d.outer, outside)
		}
	}
	images, problem := scopeImages(scope)
	d.images = images
	d.level = scopeLevel(scope)
	items := requirements.items()
	if len(items) == 1 && items[0].get("type").is("reject") && scope == "" {
		// No policy matches, which denies.
		items[0].get("type").exact("an image of which no policy speaks is FAILED")
		r.forget(d)
		return
	}
	var all []any
	for _, item := range items {
		all = append(all, scopeRequirement(d, item))
	}
	switch {
	case problem != "":
		requirements.remark(Refused, "", "the scope %s", problem)
	case len(items) == 0:
		requirements.remark(Refused, "", "has no requirements")
	}
	if len(items) == 1 && items[0].get("type").is("insecureAcceptAnything") {
		d.harmless = true
	}
	if d.require = combine("all", all); problem == "" && !d.harmless && requirements.sound() && scope != "" {
		requirements.remark(Narrowed, "", "%s; where a wider scope has a policy too, both must pass", strings.Join(images, ", "))
	}
}

// forget takes away a draft that would only say what is so without it.
func (r *reader) forget(d *draft) {
	kept := r.drafts[:0]
	for _, other := range r.drafts {
		if other != d {
			kept = append(kept, other)
		}
	}
	r.drafts = kept
}

// scopeLevel orders scopes that one image has: longer ones are more specific,
// and every name of a host more than a wildcard of hosts.
func scopeLevel(scope string) int {
	if strings.HasPrefix(scope, "*") {
		return strings.Count(scope, ".")
	}
	if scope == "" {
		return 0
	}
	return 1000 + strings.Count(scope, "/")
}

func scopeImages(scope string) (images []string, problem string) {
	host, path, _ := strings.Cut(scope, "/")
	switch {
	case scope == "":
		return []string{"*/**"}, ""
	case host == "index.docker.io":
		return []string{scope, scope + "/**"}, "is of a spelling that the source never looks up: write docker.io"
	case host == "docker.io":
		host = "index.docker.io"
	}
	if !isHost(host) || strings.Contains(strings.TrimPrefix(host, "*."), "*") {
		return nil, "does not begin with a host"
	}
	if path == "" {
		return []string{host + "/**"}, ""
	}
	repository, _, tagged := strings.Cut(path, ":")
	if digest, _, found := strings.Cut(repository, "@"); found {
		repository, tagged = digest, true
	}
	images = []string{host + "/" + repository, host + "/" + repository + "/**"}
	switch {
	case tagged:
		return images[:1], "is one tag or digest, and policies speak of repositories: move it to the repository"
	case strings.ContainsAny(scope, "*"):
		return nil, "has a wildcard that is not `*.` before a host"
	}
	return images, ""
}

func scopeRequirement(d *draft, item field) any {
	kind := item.get("type")
	switch kind.text() {
	case "insecureAcceptAnything":
		kind.refuse("admits without a signature, which no policy does: what no policy speaks of is FAILED; add an exception with a digest and an end")
	case "reject":
		kind.refuse("no policy denies by itself: take these images out of the wider scopes")
	case "signedBy":
		kind.refuse("GPG signatures are not read: sign again with a managed key")
	case "sigstoreSigned":
		kind.exact("a signature is required")
		return sigstoreSigned(d, item)
	default:
		kind.refuse("is not known here")
	}
	return nil
}

func sigstoreSigned(d *draft, item field) any {
	for _, name := range []string{"keyPath", "keyPaths"} {
		item.get(name).refuse("files are not read: put the PEM in base64 under keyData")
	}
	item.get("pki").refuse("X.509 certificates of another kind than Fulcio's are not read")
	log := false
	for _, name := range []string{"rekorPublicKeyPath", "rekorPublicKeyPaths", "rekorPublicKeyData", "rekorPublicKeyDatas"} {
		item.get(name).narrowed("a log entry is required, in the log of the authority's trust root")
		log = log || item.get(name).present()
	}
	signedIdentity(d.from.r, item)
	if item.get("fulcio").present() {
		return fulcioSigner(d, item.get("fulcio"))
	}
	keys := item.get("keyDatas").items()
	if one := item.get("keyData"); one.present() {
		keys = append(keys, one)
	}
	if len(keys) == 0 {
		item.remark(Refused, "", "has no key that is in the document")
	}
	var any []any
	for _, key := range keys {
		text, err := base64.StdEncoding.DecodeString(key.text())
		if err != nil {
			key.refuse("is not base64")
		}
		key.exact("the authority's public key")
		any = append(any, signature(d.by("key", keySigner(string(text), log))))
	}
	return combine("any", any)
}

// signedIdentity notes which names a signature may claim. The source compares
// the claim by default; here a signature is of a digest.
func signedIdentity(r *reader, item field) {
	const detail = "the name of the image that a signature claims is not compared here: a signature of the same digest made for another name counts"
	advice := ""
	if !r.options.AnySignedNameUnsafe {
		advice = "; import with --any-signed-name-unsafe if that will do"
	}
	f := item.get("signedIdentity")
	if f.present() {
		kind := f.get("type").text()
		if r.options.AnySignedNameUnsafe && (kind == "matchRepoDigestOrExact" || kind == "matchRepository" || kind == "matchExact") {
			r.unsafeNote(f.get("type"), detail)
			return
		}
		f.refuse("%s%s", detail, advice)
		return
	}
	if r.options.AnySignedNameUnsafe {
		r.unsafeNote(item, detail)
		return
	}
	item.remark(Refused, "/signedIdentity", "%s%s", detail, advice)
}

// unsafeNote is a refusal that the caller has accepted: the report has it, and
// the policy is produced all the same.
func (r *reader) unsafeNote(f field, detail string) {
	r.after = append(r.after, Line{Source: f.at, Outcome: Refused, Detail: detail, Accepted: true})
	if f.v != nil && f.name() == "type" {
		f.exact("see the line about signedIdentity")
	}
}

func fulcioSigner(d *draft, fulcio field) any {
	root := ""
	for _, name := range []string{"caPath", "caData"} {
		if ca := fulcio.get(name); ca.present() {
			// A name of its own: the same issuer and subject under another
			// authority are somebody else.
			root = fmt.Sprintf("fulcio-%x", sha256.Sum256([]byte(ca.text())))[:len("fulcio-")+12]
			ca.narrowed("believed by trust root %s: keep a trusted_root.json with this authority under that name; its log and timestamps are needed too", root)
		}
	}
	if root == "" {
		fulcio.remark(Refused, "/caData", "is missing")
	}
	issuer, ok := literal(fulcio.get("oidcIssuer").orMissing(fulcio, "/oidcIssuer"))
	email, named := literal(fulcio.get("subjectEmail").orMissing(fulcio, "/subjectEmail"))
	if !ok || !named {
		return nil
	}
	return signature(d.by("identity", map[string]any{"identity": map[string]any{"issuer": issuer, "subject": email, "trustRoot": root}}))
}

// orMissing remarks on a field that must be there.
func (f field) orMissing(holder field, below string) field {
	if !f.present() {
		holder.remark(Refused, below, "is missing")
	}
	return f
}
