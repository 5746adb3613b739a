package convert

import (
	"fmt"
	"slices"
	"strings"

	"github.com/countersign/countersign/internal/strictjson"
	"github.com/countersign/countersign/policy"
)

// Export writes policies for another verifier, together. What it writes never
// admits an image that the policies do not; it is nil when nothing can be
// expressed. In the report the name of the policy stands in front of the place.
//
// ClusterImagePolicy gives a JSON List, PolicyJSON a policy.json that rejects by
// default, Notation the object {"trustPolicy": …, "trustStores": …}.
func Export(kind Kind, policies []*policy.Policy) (document []byte, report []Line, err error) {
	exporters := map[Kind]func(*reader, []field) any{
		ClusterImagePolicy: exportClusterImagePolicies, PolicyJSON: exportContainersPolicy, Notation: exportNotation,
	}
	run, known := exporters[kind]
	if !known {
		return nil, nil, fmt.Errorf("%w: want one of %v", ErrKind, ExportKinds())
	}
	r := newReader(Options{})
	roots := make([]field, 0, len(policies))
	for _, p := range policies {
		var tree any
		if err := strictjson.Unmarshal(p.Document(), &tree); err != nil {
			return nil, nil, fmt.Errorf("%w: policy %s: %w", ErrDocument, p.Name, err)
		}
		roots = append(roots, r.root(p.Name, tree))
	}
	object := run(r, roots)
	report = r.result(roots).Report
	if object == nil {
		return nil, report, nil
	}
	document, err = strictjson.Marshal(object)
	return document, report, err
}

// exported begins a policy's export: what every verifier has in common.
func exported(r *reader, root field) *draft {
	d := r.draft(root, root.get("metadata", "name").text())
	root.get("apiVersion").exact("read")
	root.get("kind").exact("read")
	root.get("metadata", "name").exact("names the policy")
	match := root.get("spec", "match")
	match.get("context").refuse("where an image runs is not known there; without it the policy would speak of more places")
	for _, image := range match.get("images").items() {
		d.images = append(d.images, image.text())
	}
	return d
}

// exporter reads the requirements of one policy.
type exporter struct {
	d    *draft
	root field
	// signer is an authority in the other language, or nil with the refusal noted.
	signer func(authority field) any
	// attestation is a requirement of an attestation by signers, or nil.
	attestation func(requirement field, signers []any) any
}

// groups are the requirement as a list of which each must hold, by any of its
// members; nil when it cannot be said so.
func (e *exporter) groups(f field) [][]any {
	if all := f.get("all"); all.present() {
		var out [][]any
		for _, member := range all.items() {
			below := e.groups(member)
			if below == nil {
				return nil
			}
			out = append(out, below...)
		}
		return out
	}
	members := f.get("any").items()
	if atLeast := f.get("atLeast"); atLeast.present() {
		if !atLeast.get("n").is(1.0) {
			atLeast.refuse("several different signers cannot be counted there")
			return nil
		}
		atLeast.get("n").exact("any of them")
		members = atLeast.get("of").items()
	}
	if len(members) == 0 {
		members = []field{f}
	}
	var group []any
	for _, member := range members {
		one := e.one(member)
		switch {
		case len(one) > 0 && member.sound():
			group = append(group, one...)
		case len(members) > 1:
			member.drop("the alternative is refused and left out")
		default:
			member.refuse("cannot be expressed there")
			return nil
		}
	}
	if len(group) == 0 {
		f.remark(Refused, "", "no alternative can be expressed there")
		return nil
	}
	return [][]any{group}
}

// one is a requirement of a signature or an attestation, or an `any` of those.
func (e *exporter) one(f field) []any {
	switch {
	case f.get("any").present():
		below := e.groups(f)
		if len(below) != 1 {
			return nil
		}
		return below[0]
	case f.get("signature").present():
		by := f.get("signature", "by")
		signer := e.signerNamed(by.text())
		if signer == nil {
			by.refuse("the authority cannot be expressed there")
			return nil
		}
		by.exact("by this authority")
		return []any{signer}
	case f.get("attestation").present():
		return e.oneAttestation(f.get("attestation"))
	}
	f.refuse("cannot be expressed there")
	return nil
}

func (e *exporter) oneAttestation(f field) []any {
	by := f.get("by")
	names := by.items()
	if by.text() != "" {
		names = []field{by}
	}
	var signers []any
	for _, name := range names {
		if s := e.signerNamed(name.text()); s != nil {
			name.exact("by this authority")
			signers = append(signers, s)
			continue
		}
		if len(names) > 1 {
			name.drop("the authority cannot be expressed there, and is left out")
		}
	}
	if len(signers) == 0 {
		by.refuse("no authority can be expressed there")
		return nil
	}
	if e.attestation == nil {
		f.refuse("attestations are not verified there")
		return nil
	}
	if out := e.attestation(f, signers); out != nil {
		return []any{out}
	}
	return nil
}

func (e *exporter) signerNamed(name string) any {
	f := e.root.get("spec", "authorities", name)
	if !f.present() {
		return nil
	}
	signer := e.signer(f)
	if signer == nil || !f.sound() {
		f.drop("the authority is refused")
		return nil
	}
	return signer
}

// pemSigner notes a key authority and gives its public key: one by PEM that needs
// no log.
func pemSigner(f field) string {
	key := f.get("key")
	key.get("name").refuse("a managed key needs its log and times, which are not checked there; for its public key alone write pem (countersign keys public)")
	log := f.get("log")
	if log.is("required") {
		log.refuse("an entry in this service's log cannot be demanded there")
	}
	log.exact("no log entry is required")
	key.get("ref").refuse("a reference is not followed there; write pem")
	pem := key.get("pem")
	pem.exact("the public key")
	return pem.text()
}

// apart refuses policies whose images meet: for verifiers that ask only one of
// several, or when only some of a policy's images could be told.
func apart(r *reader, of func(*draft) bool, reason string) {
	var meet []*draft
	for _, d := range r.drafts {
		for _, other := range r.drafts {
			if d != other && (of(d) || of(other)) && overlap(d.images, other.images) && !slices.Contains(meet, d) {
				meet = append(meet, d)
			}
		}
	}
	for _, d := range meet {
		d.from.remark(Refused, "/spec/match/images", "%s", reason)
		d.refuse("the policy is refused: %s", reason)
	}
}

func exportContainersPolicy(r *reader, roots []field) any {
	scopes := map[*draft][]string{}
	for _, root := range roots {
		d := exported(r, root)
		mode := root.get("spec", "mode")
		if mode.is("enforce") {
			mode.exact("enforced")
		}
		mode.narrowed("enforced, since there is no other mode")
		scopes[d] = exportScopes(root.get("spec", "match", "images"))
		e := exporter{d: d, root: root, signer: func(f field) any {
			f.get("identity").refuse("certificates are bound to an e-mail address and to a certificate authority in the document there")
			if pem := pemSigner(f); pem != "" {
				return []byte(pem)
			}
			return nil
		}}
		d.objects = exportRequirements(e.groups(root.get("spec", "require")))
		exportUnused(root)
		if d.objects == nil {
			d.refuse("the policy is refused: what it requires cannot be expressed there")
		} else {
			root.remark(Narrowed, "/spec/require", "a signature must also claim the name of the repository")
		}
	}
	apart(r, func(*draft) bool { return true }, "another policy speaks of some of the same images, and only the most specific one counts there: write one policy of both")
	r.withdraw()
	docker := map[string]any{}
	for _, d := range r.drafts {
		for _, scope := range scopes[d] {
			if !d.refused {
				docker[scope] = d.objects
			}
		}
	}
	if len(docker) == 0 {
		return nil
	}
	return map[string]any{"default": []any{map[string]any{"type": "reject"}}, "transports": map[string]any{"docker": docker}}
}

func exportRequirements(groups [][]any) []any {
	var out []any
	for _, group := range groups {
		requirement := map[string]any{"type": "sigstoreSigned", "signedIdentity": map[string]any{"type": "matchRepository"}}
		if len(group) == 1 {
			requirement["keyData"] = group[0]
		} else {
			requirement["keyDatas"] = group
		}
		out = append(out, requirement)
	}
	return out
}

// exportUnused notes authorities that nothing named before an alternative was
// given up.
func exportUnused(root field) {
	for _, a := range root.get("spec", "authorities").members() {
		for _, leaf := range a.leaves() {
			if _, noted := root.r.lines[leaf.at]; !noted {
				leaf.refuse("nothing that is expressed needs it")
				root.r.dropped[a.at] = true
			}
		}
	}
}

// exportScopes are patterns as scopes, which reach from a name to all below it.
func exportScopes(images field) []string {
	var scopes []string
	all := images.items()
	has := func(text string) bool {
		return slices.ContainsFunc(all, func(f field) bool { return f.text() == text })
	}
	for _, image := range all {
		stem, deep := strings.CutSuffix(image.text(), "/**")
		host, path, named := strings.Cut(stem, "/")
		if host == "index.docker.io" {
			host = "docker.io"
		}
		plain := !strings.Contains(strings.TrimPrefix(host, "*."), "*") && !strings.Contains(path, "*")
		switch {
		case image.text() == "*/**":
			image.exact("every image of a registry")
			scopes = append(scopes, "")
		case plain && deep && !named:
			image.exact("the scope %s", host)
			scopes = append(scopes, host)
		case plain && (deep && has(stem) || !deep && has(stem+"/**")) && !strings.HasPrefix(host, "*"):
			image.exact("the scope %s/%s", host, path)
			if deep {
				scopes = append(scopes, host+"/"+path)
			}
		case plain:
			image.refuse("a scope reaches from a repository to all below it: name both %s and %s/**", stem, stem)
		default:
			image.refuse("a scope has no wildcard but `*.` before a host")
		}
	}
	return scopes
}
