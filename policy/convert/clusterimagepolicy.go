package convert

import (
	"regexp"
	"strings"

	"github.com/countersign/countersign/attest/predicate"
	"github.com/countersign/countersign/policy"
)

// clusterImagePolicies reads policies of which all that match must pass, each by
// any of its authorities.
func clusterImagePolicies(r *reader, roots []field) {
	for _, root := range roots {
		if root.get("kind").text() == "TrustRoot" {
			trustRoots(r, []field{root})
			continue
		}
		d := r.draft(root, root.get("metadata", "name").text())
		head(root, "ClusterImagePolicy", "policy.sigstore.dev/v1alpha1", "policy.sigstore.dev/v1beta1")
		spec := root.get("spec")
		d.images = cipImages(spec)
		cipMode(d, spec)
		spec.get("match").refuse("the resources and labels of an object are not known here; without them it would speak of more images: remove it, or keep one policy for all")
		spec.get("policy").refuse("CUE and Rego are not read: write an attestation requirement with a CEL condition")
		cipAuthorities(d, spec)
	}
}

// head notes what every Kubernetes object begins with.
func head(root field, kind string, versions ...any) {
	root.get("apiVersion").want("read", versions...)
	root.get("kind").want("read", kind)
	for _, name := range []string{"apiVersion", "kind"} {
		if !root.get(name).present() {
			root.remark(Refused, "/"+name, "is missing")
		}
	}
	meta := root.get("metadata")
	meta.get("name").exact("names the policy")
	for _, name := range []string{"namespace", "labels", "annotations", "creationTimestamp", "generation", "resourceVersion", "uid", "managedFields", "finalizers"} {
		meta.get(name).exact("says nothing of what is admitted")
	}
	root.get("status").exact("is what the controller reports")
}

func cipMode(d *draft, spec field) {
	mode := spec.get("mode")
	mode.want("the mode of the policy", "enforce", "warn")
	if mode.is("warn") {
		d.mode = policy.Warn
	}
}

func cipImages(spec field) []string {
	items := spec.get("images").items()
	if len(items) == 0 {
		spec.remark(Refused, "/images", "names no images")
	}
	var images []string
	for _, item := range items {
		glob := item.get("glob")
		if !glob.present() {
			item.remark(Refused, "/glob", "is missing")
			return nil
		}
		found, problem := cipGlob(glob.text())
		if problem != "" {
			glob.refuse("%s", problem)
			return nil
		}
		glob.exact("%s", strings.Join(found, ", "))
		images = append(images, found...)
	}
	return images
}

var (
	cipName   = regexp.MustCompile(`^[a-z0-9._*/-]+$`)
	cipPlainN = regexp.MustCompile(`^[a-z0-9._-]+$`)
	hostForm  = regexp.MustCompile(`^[A-Za-z0-9.*-]+(:[0-9]+)?$`)
)

// isHost reports whether the first part of a name is a host, which may have
// wildcards, and not a name of Docker Hub.
func isHost(s string) bool {
	return hostForm.MatchString(s) && (strings.ContainsAny(s, ".:") || s == "localhost")
}

// cipGlob is a glob of the source as patterns that match the same repositories.
// There, `*` stops at slashes and `**` does not, and the text is compared with
// tag or digest; what depends on those is refused, except that a tag of any
// spelling stands for the repository.
func cipGlob(glob string) (patterns []string, problem string) {
	switch glob {
	case "*":
		glob = "index.docker.io/library/*"
	case "*/*":
		glob = "index.docker.io/*/*"
	case "**":
		return []string{"*/**"}, ""
	}
	host, name, found := strings.Cut(glob, "/")
	if !found || !isHost(host) {
		if glob == "*/**" || glob == "**/**" {
			return []string{"*/**"}, ""
		}
		return nil, "has no host, or one that a wildcard leaves open: begin it with one (index.docker.io/library/ for the official images)"
	}
	if strings.Contains(host, "**") {
		return nil, "has ** in its host, which would reach into paths of other hosts: name the host"
	}
	if host == "docker.io" {
		return nil, "matches a spelling of the name and not the image: write index.docker.io"
	}
	if repository, tag, tagged := strings.Cut(name, ":"); tagged {
		if tag != "*" && tag != "**" {
			return nil, "depends on the tag, and policies here judge the digest whatever name it came by: leave the tag away"
		}
		name = repository
		if strings.Contains(name[strings.LastIndex(name, "/")+1:], "*") {
			return nil, "has wildcards in the name and the tag: leave the tag away"
		}
	}
	if !cipName.MatchString(name) {
		return nil, "is not the name of a repository"
	}
	return cipPath(host, strings.Split(name, "/"))
}

func cipPath(host string, segments []string) (patterns []string, problem string) {
	last := len(segments) - 1
	for i, s := range segments {
		switch stem := strings.TrimRight(s, "*"); {
		case s == "":
			return nil, "has an empty segment"
		case s == "**" || s == "*" && i < last:
		case strings.Contains(s, "**") && (i < last || s != stem+"**" || !cipPlainN.MatchString(stem)):
			return nil, "has ** next to other characters, which crosses slashes: write whole segments"
		case i == last && s != stem && !cipPlainN.MatchString(stem) && s != "*":
			return nil, "has a wildcard before the end of its last segment, where it also matches tags: end it with *"
		case i == last && s == stem && strings.Contains(s, "*"):
			return nil, "has a wildcard before the end of its last segment, where it also matches tags: end it with *"
		}
	}
	whole := host + "/" + strings.Join(segments, "/")
	if stem, cut := strings.CutSuffix(whole, "**"); cut && segments[last] != "**" {
		return []string{stem + "*", stem + "*/**"}, ""
	}
	return []string{whole}, ""
}

func cipAuthorities(d *draft, spec field) {
	items := spec.get("authorities").items()
	if len(items) == 0 {
		spec.remark(Refused, "/authorities", "is empty: say whose signatures are needed (an empty list may mean nobody or everybody)")
		return
	}
	var any []any
	onlyPass := true
	for _, item := range items {
		requirement := cipAuthority(d, item)
		item.sweep()
		onlyPass = onlyPass && item.get("static", "action").is("pass")
		if requirement == nil || !item.sound() {
			item.drop("the authority is refused and left out")
			continue
		}
		any = append(any, requirement)
	}
	if len(any) == 0 {
		d.refuse("no authority of the policy can be expressed")
		d.harmless = onlyPass
		return
	}
	d.require = combine("any", any)
}

func cipAuthority(d *draft, item field) any {
	item.get("name").exact("names the authority")
	item.get("source").narrowed("signatures are read beside the image only")
	item.get("signatureFormat").want("every format is read, under the same rules", "legacy", "bundle")
	var signers []map[string]any
	key, keyless, static := item.get("key"), item.get("keyless"), item.get("static")
	switch {
	case static.present():
		cipStatic(static)
		return nil
	case key.present() == keyless.present():
		item.remark(Refused, "", "wants exactly one of key, keyless and static")
		return nil
	case key.present():
		signers = cipKey(item, key)
	default:
		signers = cipKeyless(item, keyless)
	}
	if len(signers) == 0 {
		return nil
	}
	names := make([]string, 0, len(signers))
	for _, s := range signers {
		names = append(names, d.by(authorityHint(item), s))
	}
	return cipRequirement(item, names)
}

func authorityHint(item field) string {
	if name := item.get("name").text(); name != "" {
		return name
	}
	return "authority-" + item.name()
}

func cipStatic(static field) {
	static.get("message").exact("is for people")
	action := static.get("action")
	switch {
	case action.is("pass"):
		action.refuse("admits without a signature, which no policy here does: add an exception with a digest and an end")
	default:
		action.refuse("denies: leave these images to no policy, which denies as well")
	}
}

func cipKey(item, key field) []map[string]any {
	key.get("secretRef").refuse("the secret is not read: put the public key under data")
	key.get("kms").refuse("a KMS is not asked: put its public key under data, or make it a managed key by reference (countersign keys create --ref)")
	key.get("hashAlgorithm").want("the key's own algorithm decides", "sha256")
	item.get("rfc3161timestamp").refuse("a timestamp cannot be demanded of a key: use a managed key, which demands it")
	log := item.get("ctlog")
	log.get("url").narrowed("a log entry is required, in this service's log")
	log.get("trustRootRef").narrowed("a log entry is required, in this service's log")
	data := key.get("data")
	if !data.present() {
		return nil
	}
	data.exact("the authority's public key")
	return []map[string]any{keySigner(data.text(), log.present())}
}

func cipKeyless(item, keyless field) []map[string]any {
	root := publicRoot
	ref := keyless.get("trustRootRef")
	ca := keyless.get("ca-cert")
	url := keyless.get("url")
	switch {
	case ref.is("self"):
		ref.refuse("self is this service's own root here: give the TrustRoot another name")
	case ref.present():
		root = ref.text()
		ref.exact("believed by trust root %s", root)
		url.exact("the certificate authorities are those of trust root %s", root)
	case url.is("https://fulcio.sigstore.dev"):
		url.exact(publicAdvice, root)
	default:
		url.refuse("whose certificates these are is not known: add trustRootRef with a TrustRoot of them")
	}
	if !ref.present() && !url.present() {
		keyless.remark(Exact, "", publicAdvice, root)
	}
	ca.refuse("a certificate authority alone is not believed: make a trusted_root.json of it and name it by trustRootRef")
	sct := keyless.get("insecureIgnoreSCT")
	if sct.is(true) {
		sct.narrowed("certificate transparency is checked wherever the trust root names a log")
	} else {
		sct.want("certificate transparency is checked", false)
	}
	cipProofs(item, root)
	return cipIdentities(keyless, root)
}

// cipProofs notes whose log and timestamps count: always those of the trust
// root that the certificate comes from.
func cipProofs(item field, root string) {
	for _, place := range []string{"ctlog", "rfc3161timestamp"} {
		proof := item.get(place)
		ref, url := proof.get("trustRootRef"), proof.get("url")
		switch {
		case ref.present() && ref.text() == root:
			ref.exact("proofs are of the same trust root")
			url.exact("the logs are those of trust root %s", root)
		case ref.present():
			ref.refuse("proofs of another trust root than the certificate's do not count here: put both into one TrustRoot")
		case url.present() && (root != publicRoot || url.text() != "https://rekor.sigstore.dev"):
			url.refuse("which log this is is not known: add trustRootRef with a TrustRoot of it")
		case url.present():
			url.exact("the logs are those of trust root %s", root)
		}
	}
}

func cipIdentities(keyless field, root string) []map[string]any {
	items := keyless.get("identities").items()
	if len(items) == 0 {
		keyless.remark(Refused, "/identities", "names nobody, which lets in everybody with a certificate: name issuer and subject")
		return nil
	}
	var signers []map[string]any
	for _, item := range items {
		found := identities(item, root)
		if len(found) == 0 || !item.sound() {
			item.drop("the identity is refused and left out")
			continue
		}
		signers = append(signers, found...)
	}
	return signers
}

// cipRequirement is what an authority asks for: with attestations those, all of
// them, and no signature.
func cipRequirement(item field, names []string) any {
	items := item.get("attestations").items()
	if len(items) == 0 {
		var any []any
		for _, name := range names {
			any = append(any, signature(name))
		}
		return combine("any", any)
	}
	var all []any
	for _, a := range items {
		a.get("name").exact("names the attestation")
		a.get("policy").refuse("CUE and Rego are not read: write a CEL condition")
		all = append(all, attestation(names, predicateType(a, a.get("predicateType"))))
	}
	return combine("all", all)
}

// predicateType notes a type, by URI or by the short names that cosign has too.
func predicateType(holder, f field) string {
	uri, err := predicate.ParseType(f.text())
	switch {
	case !f.present():
		holder.remark(Refused, "/predicateType", "is missing")
	case err != nil:
		f.refuse("is no predicate type that is known here: write its URI")
	default:
		f.exact("%s", uri)
	}
	return uri
}
