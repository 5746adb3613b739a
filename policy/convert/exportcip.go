package convert

import (
	"regexp"
	"strings"

	"github.com/countersign/countersign/policy"
)

// exportedSelf is the name under which a cluster keeps this service's own root.
const exportedSelf = "countersign"

// exportClusterImagePolicies writes one object for each requirement that must
// hold: objects that match must all pass, by any of their authorities.
func exportClusterImagePolicies(r *reader, roots []field) any {
	narrow := map[*draft]bool{}
	globs := map[*draft][]any{}
	for _, root := range roots {
		d := exported(r, root)
		globs[d], narrow[d] = exportGlobs(root.get("spec", "match", "images"))
		e := exporter{d: d, root: root, signer: exportSigner, attestation: exportAttestation}
		groups := e.groups(root.get("spec", "require"))
		exportUnused(root)
		mode := exportMode(root.get("spec", "mode"))
		for i, group := range groups {
			d.objects = append(d.objects, exportObject(d.name, i, mode, globs[d], group))
		}
		if d.objects == nil {
			d.refuse("the policy is refused: what it requires cannot be expressed there")
		}
	}
	apart(r, func(d *draft) bool { return narrow[d] }, "another policy speaks of the same images, and one repository by digest cannot be named there")
	r.withdraw()
	items := []any{}
	for _, d := range r.drafts {
		items = append(items, d.objects...)
	}
	if len(items) == 0 {
		return nil
	}
	return map[string]any{"apiVersion": "v1", "kind": "List", "items": items}
}

func exportMode(mode field) string {
	switch mode.text() {
	case string(policy.Enforce):
		mode.exact("enforced")
		return "enforce"
	case string(policy.Audit):
		mode.exact("there is no audit: images pass with a warning")
	default:
		mode.exact("images pass with a warning")
	}
	return "warn"
}

func exportObject(name string, i int, mode string, globs, authorities []any) any {
	if i > 0 {
		name += "-" + string(rune('a'+i%26)) + strings.Repeat("z", i/26)
	}
	return map[string]any{
		"apiVersion": "policy.sigstore.dev/v1beta1", "kind": "ClusterImagePolicy",
		"metadata": map[string]any{"name": strings.ToLower(name)},
		"spec":     map[string]any{"images": globs, "authorities": authorities, "mode": mode},
	}
}

// exportGlobs are patterns as globs. narrow tells that they match fewer
// references.
func exportGlobs(images field) (globs []any, narrow bool) {
	add := func(glob string) { globs = append(globs, map[string]any{"glob": glob}) }
	for _, image := range images.items() {
		pattern := image.text()
		host, path, _ := strings.Cut(pattern, "/")
		last := path[strings.LastIndex(path, "/")+1:]
		switch {
		case pattern == "*/**":
			image.exact("**")
			add("**")
		case !isHost(host):
			image.refuse("a host that a wildcard leaves open is not told from a name of Docker Hub there")
		case last == "**" || last == "*" || strings.HasSuffix(last, "*") && strings.Count(last, "*") == 1:
			image.exact("%s", pattern)
			add(pattern)
		case !strings.Contains(last, "*"):
			image.narrowed("%s by tag; a reference by digest matches no glob of one repository there, and is denied: end the pattern with * to match those", pattern)
			add(pattern)
			add(pattern + ":**")
			narrow = true
		default:
			image.refuse("a wildcard before the end also matches tags there")
		}
	}
	return globs, narrow
}

func exportSigner(f field) any {
	name := strings.ToLower(f.name())
	if id := f.get("identity"); id.present() {
		f.get("log").exact("a log entry is required")
		return exportIdentity(name, id)
	}
	if pem := pemSigner(f); pem != "" {
		return map[string]any{"name": name, "key": map[string]any{"data": pem, "hashAlgorithm": "sha256"}}
	}
	return nil
}

// exportIdentity writes the log that the other side would take by itself, with
// the keys of the trust root, so that an entry is demanded.
func exportIdentity(name string, id field) any {
	id.get("claims").refuse("claims of certificates are not compared there")
	root := id.get("trustRoot").text()
	if root == policy.SelfRoot {
		root = exportedSelf
	}
	id.get("trustRoot").exact("believed by the TrustRoot %s: make it of trusted_root.json (countersign trust export, or trust-roots get)", root)
	who := map[string]any{"issuer": id.get("issuer").text()}
	id.get("issuer").exact("compared exactly")
	if s := id.get("subject"); s.present() {
		s.exact("compared exactly")
		who["subject"] = s.text()
	}
	if s := id.get("subjectPattern"); s.present() {
		re := anchored(s.text())
		s.narrowed("%s", re)
		who["subjectRegExp"] = re
	}
	ref := map[string]any{"trustRootRef": root}
	return map[string]any{
		"name":    name,
		"keyless": map[string]any{"url": "https://fulcio.sigstore.dev", "trustRootRef": root, "identities": []any{who}},
		"ctlog":   map[string]any{"url": "https://rekor.sigstore.dev", "trustRootRef": root}, "rfc3161timestamp": ref,
	}
}

// segment is a part between slashes that no reader of paths takes for a step to
// elsewhere, as wildcards here demand of it.
const segment = `(?:[^/.%][^/]*|\.[^/.%][^/]*)?`

// anchored is a pattern over text as an expression that matches no more, from
// beginning to end (row E2).
func anchored(pattern string) string {
	prefix, rest := "", pattern
	if scheme, after, isURI := strings.Cut(pattern, "://"); isURI {
		host, path, _ := strings.Cut(after, "/")
		prefix, rest = scheme+"://"+host+"/", path
	}
	var parts []string
	for _, s := range strings.Split(rest, "/") {
		switch {
		case s == "**":
			parts = append(parts, segment+`(?:/`+segment+`)*`)
		case strings.Trim(s, "*.%2eE") == "" && strings.Contains(s, "*"):
			parts = append(parts, segment)
		default:
			parts = append(parts, strings.ReplaceAll(regexp.QuoteMeta(s), `\*`, `[^/]*`))
		}
	}
	return "^" + regexp.QuoteMeta(prefix) + strings.Join(parts, "/") + "$"
}

func exportAttestation(f field, signers []any) any {
	if which := f.get("which"); which.is("any") {
		which.exact("any attestation of the type")
	} else {
		which.refuse("the newest or every attestation is not looked for there")
	}
	for _, name := range []string{"maxAge", "condition", "provenance", "vsa"} {
		f.get(name).refuse("is not written there: what a predicate says is judged by CUE or Rego")
	}
	kind := f.get("predicateType")
	kind.exact("the type")
	if len(signers) != 1 {
		f.get("by").refuse("write one requirement for each authority, below any")
		return nil
	}
	base, _ := signers[0].(map[string]any)
	out := map[string]any{"attestations": []any{map[string]any{"name": "attestation", "predicateType": kind.text()}}}
	for name, value := range base {
		out[name] = value
	}
	return out
}
