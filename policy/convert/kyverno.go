package convert

import (
	"slices"
	"strings"

	"github.com/countersign/countersign/policy"
)

// kyvernoPolicies reads verifyImages rules. All that match must pass, and what no
// rule matches is admitted there, so that to speak of more images or more objects
// only restricts.
func kyvernoPolicies(r *reader, roots []field) {
	for _, root := range roots {
		kind := "ClusterPolicy"
		if root.get("kind").is("Policy") {
			kind = "Policy"
		}
		head(root, kind, "kyverno.io/v1", "kyverno.io/v2beta1")
		spec := root.get("spec")
		mode := kyvernoMode(spec)
		for _, name := range []string{"background", "webhookTimeoutSeconds", "schemaValidation", "applyRules", "emitWarning", "admission"} {
			spec.get(name).exact("is about the webhook")
		}
		spec.get("failurePolicy").narrowed("what cannot be decided is FAILED")
		for _, rule := range spec.get("rules").items() {
			kyvernoRule(r, root, rule, mode)
		}
	}
}

func kyvernoMode(spec field) policy.Mode {
	mode := policy.Enforce
	for _, name := range []string{"validationFailureAction", "failureAction"} {
		action := spec.get(name)
		action.want("the mode of the policy", "Enforce", "enforce", "Audit", "audit")
		if action.is("Audit", "audit") {
			mode = policy.Audit
		}
	}
	spec.get("validationFailureActionOverrides").refuse("other modes for some namespaces: write one policy for each, with match.context")
	return mode
}

func kyvernoRule(r *reader, root, rule field, mode policy.Mode) {
	rule.get("name").exact("names the rule")
	items := rule.get("verifyImages").items()
	if len(items) == 0 {
		rule.void("verifies no images: keep the rule where it is")
		return
	}
	for _, name := range []string{"match", "exclude", "preconditions", "celPreconditions", "skipBackgroundRequests"} {
		rule.get(name).narrowed("the policy speaks of these images wherever they run")
	}
	rule.get("context").refuse("variables that are looked up are not known here")
	rule.get("imageExtractors").narrowed("images are found in all known kinds of workloads")
	spec := root.get("spec")
	for i, item := range items {
		name := root.get("metadata", "name").text() + "-" + rule.get("name").text()
		if len(items) > 1 {
			name += "-" + items[i].name()
		}
		d := r.draft(item, name)
		for _, outside := range slices.Concat(root.members(), spec.members(), rule.members()) {
			if !slices.Contains([]string{"spec", "rules", "verifyImages"}, outside.name()) {
				d.outer = append(d.outer, outside)
			}
		}
		d.mode = mode
		kyvernoImages(d, item)
	}
}

func kyvernoImages(d *draft, item field) {
	for _, reference := range item.get("imageReferences").items() {
		found, outcome, problem := wildcardImages(reference.text())
		if problem != "" {
			reference.refuse("%s", problem)
			d.images = nil
			break
		}
		reference.note(outcome, "%s", strings.Join(found, ", "))
		d.images = append(d.images, found...)
	}
	if !item.get("imageReferences").present() {
		item.remark(Refused, "/imageReferences", "names no images")
	}
	item.get("skipImageReferences").narrowed("these images need the signature too; add an exception with a digest and an end")
	item.get("type").want("every format of cosign is read", "Cosign", "SigstoreBundle")
	kyvernoFlags(d, item)
	var all []any
	for _, set := range item.get("attestors").items() {
		all = append(all, attestorSet(d, set))
	}
	for _, a := range item.get("attestations").items() {
		all = append(all, kyvernoAttestation(d, a))
	}
	if len(all) == 0 {
		item.remark(Refused, "/attestors", "names nobody")
	}
	for _, part := range all {
		if part == nil {
			item.remark(Refused, "", "a part of what it requires cannot be expressed")
			return
		}
	}
	d.require = combine("all", all)
}

func kyvernoFlags(d *draft, item field) {
	mutate, verify := item.get("mutateDigest"), item.get("verifyDigest")
	mutate.want("the mutating webhook pins images, where it is registered", true, false)
	switch {
	case verify.is(true) && mutate.is(false):
		verify.refuse("that references must have a digest is not demanded here: register the mutating webhook, which writes it, and remove this")
	case verify.is(true):
		verify.exact("verdicts are of the digest, which the mutating webhook writes: register it")
	default:
		verify.want("verdicts are of the digest", false)
	}
	if required := item.get("required"); required.is(true) {
		required.exact("a signature is always required")
	} else {
		required.narrowed("a signature is always required")
	}
	item.get("useCache").exact("verdicts are kept by digest and policy")
	item.get("repository").narrowed("signatures are read beside the image only")
	item.get("imageRegistryCredentials").narrowed("credentials belong to the registry (countersign registries apply)")
	item.get("annotations").refuse("annotations of signatures are not compared")
	action := item.get("failureAction")
	action.want("the mode of the policy", "Enforce", "Audit")
	switch {
	case action.is("Audit"):
		d.mode = policy.Audit
	case action.present():
		d.mode = policy.Enforce
	}
}

// wildcardImages is a pattern in which `*` crosses slashes as patterns that match
// at least what it does.
func wildcardImages(pattern string) (images []string, outcome Outcome, problem string) {
	if pattern == "*" || pattern == "*:*" || pattern == "*/*" {
		return []string{"*/**"}, Exact, ""
	}
	outcome = Exact
	host, path, found := strings.Cut(pattern, "/")
	if !found || strings.ContainsAny(pattern, "?") || strings.Contains(host, "*") || !isHost(host) {
		return nil, "", "has no host, or one that a wildcard leaves open, or a ?: begin it with the host"
	}
	if name, tag, tagged := strings.Cut(path, ":"); tagged {
		path = name
		if tag != "*" {
			outcome = Narrowed
		}
	}
	if name, _, pinned := strings.Cut(path, "@"); pinned {
		path, outcome = name, Narrowed
	}
	stem := strings.TrimRight(path, "*")
	if strings.Contains(stem, "*") {
		return nil, "", "has a wildcard before its end, where it crosses slashes: list the names"
	}
	hosts := []string{host}
	if host == "docker.io" || host == "index.docker.io" {
		hosts = []string{"index.docker.io"}
		if !strings.Contains(path, "/") && stem != "" {
			hosts = append(hosts, "index.docker.io/library")
		}
	}
	for _, h := range hosts {
		switch {
		case stem == path:
			images = append(images, h+"/"+path)
		case stem == "" || strings.HasSuffix(stem, "/"):
			images = append(images, h+"/"+stem+"**")
		default:
			images = append(images, h+"/"+stem+"*", h+"/"+stem+"*/**")
		}
	}
	return images, outcome, ""
}

// attestorSet is so many of its entries, all when it does not say.
func attestorSet(d *draft, set field) any {
	entries := set.get("entries").items()
	n := len(entries)
	if count := set.get("count"); count.present() {
		given, ok := count.v.(float64)
		if !ok || given < 1 || given != float64(int(given)) || int(given) > n {
			count.refuse("want a number of entries from 1 to all")
			return nil
		}
		n = int(given)
		count.exact("so many different signers are required")
	}
	var parts []any
	for _, entry := range entries {
		part := attestorEntry(d, entry)
		switch {
		case part != nil && entry.sound():
			parts = append(parts, part)
		case n < len(entries):
			entry.drop("the entry is refused and left out")
		default:
			entry.void("the entry is refused, and all entries are needed")
			return nil
		}
	}
	switch {
	case len(parts) < n || n == 0:
		set.remark(Refused, "", "fewer entries can be expressed than are needed")
		return nil
	case n == 1:
		return combine("any", parts)
	case n == len(parts):
		return combine("all", parts)
	}
	return map[string]any{"atLeast": map[string]any{"n": n, "of": parts}}
}

func attestorEntry(d *draft, entry field) any {
	entry.get("annotations").refuse("annotations of signatures are not compared")
	entry.get("repository").narrowed("signatures are read beside the image only")
	entry.get("certificates").refuse("a certificate without the log and time of its signatures is not believed: make a trusted_root.json of its authority, and use keyless")
	keys, keyless, nested := entry.get("keys"), entry.get("keyless"), entry.get("attestor")
	switch {
	case nested.present() && !keys.present() && !keyless.present():
		return attestorSet(d, nested)
	case keys.present() && !nested.present() && !keyless.present():
		return kyvernoKeys(d, keys)
	case keyless.present() && !nested.present() && !keys.present():
		return kyvernoKeyless(d, keyless)
	}
	entry.remark(Refused, "", "wants exactly one of keys, keyless and attestor")
	return nil
}

func kyvernoKeys(d *draft, keys field) any {
	keys.get("secret").refuse("the secret is not read: put the public key under publicKeys")
	keys.get("kms").refuse("a KMS is not asked: put its public key under publicKeys, or make it a managed key by reference")
	keys.get("signatureAlgorithm").want("the key's own algorithm decides", "sha256", "sha384", "sha512")
	log := true
	rekor := keys.get("rekor")
	if ignore := rekor.get("ignoreTlog"); ignore.is(true) {
		log = false
		ignore.exact("no log entry is required")
	} else {
		ignore.want("a log entry is required", false)
		keys.remark(Narrowed, "/rekor", "a log entry is required, in this service's log")
	}
	for _, name := range []string{"url", "pubkey"} {
		rekor.get(name).narrowed("log entries are looked at in this service's log only")
	}
	kyvernoCTLog(keys.get("ctlog"))
	public := keys.get("publicKeys")
	switch text := public.text(); {
	case !public.present():
		return nil
	case strings.Count(text, "-----BEGIN") != 1:
		public.refuse("want one public key in PEM: several in one text, or references, are not read; write one entry for each")
		return nil
	default:
		public.exact("the authority's public key")
		return signature(d.by("key", keySigner(text, log)))
	}
}

func kyvernoCTLog(ctlog field) {
	if ignore := ctlog.get("ignoreSCT"); ignore.is(true) {
		ignore.narrowed("certificate transparency is checked wherever the trust root names a log")
	} else {
		ignore.want("certificate transparency is checked", false)
	}
	for _, name := range []string{"pubkey", "tsaCertChain"} {
		ctlog.get(name).refuse("single keys are not believed: make a trusted_root.json of them")
	}
}

func kyvernoKeyless(d *draft, keyless field) any {
	keyless.get("roots").refuse("a certificate authority alone is not believed: make a trusted_root.json of it")
	keyless.get("additionalExtensions").refuse("write them as claims of the identity")
	rekor := keyless.get("rekor")
	rekor.get("url").want("the logs are those of trust root "+publicRoot, "https://rekor.sigstore.dev")
	rekor.get("pubkey").refuse("single keys are not believed: make a trusted_root.json of them")
	if ignore := rekor.get("ignoreTlog"); ignore.is(true) {
		ignore.narrowed("a log entry is required")
	} else {
		ignore.want("a log entry is required", false)
	}
	kyvernoCTLog(keyless.get("ctlog"))
	keyless.remark(Exact, "", publicAdvice, publicRoot)
	var any []any
	for _, s := range identities(keyless, publicRoot) {
		any = append(any, signature(d.by("identity", s)))
	}
	if len(any) == 0 {
		return nil
	}
	return combine("any", any)
}

func kyvernoAttestation(d *draft, a field) any {
	kind := a.get("predicateType")
	if !kind.present() {
		kind = a.get("type")
	}
	uri := predicateType(a, kind)
	a.get("name").exact("names the attestation")
	a.get("conditions").refuse("conditions are not read: write a CEL condition")
	sets := a.get("attestors").items()
	var all []any
	for _, set := range sets {
		before := attestorSet(d, set)
		names, ok := signersOf(before)
		if !ok {
			set.remark(Refused, "", "of an attestation, want one entry, or any of several")
			return nil
		}
		all = append(all, attestation(names, uri))
	}
	if len(all) == 0 {
		a.remark(Refused, "/attestors", "names nobody")
		return nil
	}
	return combine("all", all)
}

// signersOf are the authorities of a requirement of one signature, by any of
// them.
func signersOf(requirement any) (names []string, ok bool) {
	m, _ := requirement.(map[string]any)
	if s, is := m["signature"].(map[string]any); is {
		by, _ := s["by"].(string)
		return []string{by}, by != ""
	}
	list, _ := m["any"].([]any)
	for _, member := range list {
		below, ok := signersOf(member)
		if !ok {
			return nil, false
		}
		names = append(names, below...)
	}
	return names, len(names) > 0
}
