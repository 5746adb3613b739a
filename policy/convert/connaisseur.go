package convert

import (
	"slices"
	"strings"

	"github.com/countersign/countersign/policy"
)

// connaisseurPolicy reads the values of the chart. Of the patterns that match,
// the most specific one alone counts; an image that none matches is denied.
func connaisseurPolicy(r *reader, roots []field) {
	for _, root := range roots {
		root.get("kubernetes").exact("is about the webhook's own deployment")
		app := root.get("application")
		for _, name := range []string{"logLevel", "alerting", "redis"} {
			app.get(name).exact("says nothing of what is admitted")
		}
		mode := connaisseurFeatures(app.get("features"))
		for _, rule := range app.get("policy").items() {
			d := r.draft(rule, rule.get("pattern").text())
			d.layered, d.mode = true, mode
			for _, outside := range slices.Concat(root.members(), app.members()) {
				if !slices.Contains([]string{"application", "policy", "validators"}, outside.name()) {
					d.outer = append(d.outer, outside)
				}
			}
			connaisseurRule(d, rule, app.get("validators"))
		}
		for _, v := range app.get("validators").items() {
			noteValidator(v)
		}
	}
}

func connaisseurFeatures(features field) policy.Mode {
	mode := policy.Enforce
	detection := features.get("detectionMode")
	detection.want("the mode of the policies", true, false)
	if detection.is(true) {
		mode = policy.Warn
	}
	for _, name := range []string{"automaticChildApproval", "automaticUnchangedApproval", "namespacedValidation", "resourceValidationMode"} {
		features.get(name).narrowed("every image is judged, wherever it runs")
	}
	features.get("cache").exact("verdicts are kept by digest and policy")
	return mode
}

func connaisseurRule(d *draft, rule, validators field) {
	pattern := rule.get("pattern")
	images, level, problem := connaisseurImages(pattern.orMissing(rule, "/pattern").text())
	d.images, d.level = images, level
	switch {
	case problem != "":
		pattern.refuse("%s", problem)
	case level == 0:
		pattern.exact("%s", strings.Join(images, ", "))
	default:
		pattern.narrowed("%s; where a less specific pattern has a policy too, both must pass", strings.Join(images, ", "))
	}
	name := "default"
	validator := rule.get("validator")
	if validator.present() {
		name = validator.text()
	}
	validator.exact("its trust roots are the policy's authorities")
	found := field{}
	for _, v := range validators.items() {
		if v.get("name").text() == name {
			found = v
		}
	}
	if !found.present() {
		rule.remark(Refused, "/validator", "there is no validator %s", name)
		return
	}
	connaisseurValidator(d, rule, found)
}

// connaisseurImages are the patterns of a rule and how specific it is. A `*` at
// the end crosses slashes.
func connaisseurImages(pattern string) (images []string, level int, problem string) {
	level = 1 + strings.Count(pattern, "/")
	name, tag, tagged := strings.Cut(pattern, ":")
	if host, rest, found := strings.Cut(pattern, "/"); found && strings.Contains(host, ":") {
		name, tag, tagged = strings.Cut(rest, ":")
		name = host + "/" + name
	}
	if name == "*" && (!tagged || tag == "*") {
		return []string{"*/**"}, 0, ""
	}
	host, path, found := strings.Cut(name, "/")
	stem := strings.TrimSuffix(path, "*")
	switch {
	case tagged && tag != "*":
		return nil, level, "depends on the tag, and policies judge the digest whatever name it came by: leave the tag away"
	case !found || !isHost(host) || strings.Contains(host, "*"):
		return nil, level, "has no host, or one that a wildcard leaves open: begin it with the host"
	case strings.Contains(stem, "*") || stem != path && stem != "" && !strings.HasSuffix(stem, "/"):
		return nil, level, "has a wildcard that is not its whole last part, where it would reach other names: list them"
	}
	if host == "docker.io" {
		host = "index.docker.io"
	}
	if stem != path {
		return []string{host + "/" + stem + "**"}, level, ""
	}
	return []string{host + "/" + path}, level, ""
}

// noteValidator says what the fields of a validator are, whoever uses it.
func noteValidator(v field) {
	v.get("name").exact("names the validator")
	kind := v.get("type")
	switch kind.text() {
	case "cosign":
		kind.exact("signatures of cosign")
	case "static":
		kind.exact("decides without a signature")
		v.get("approve").want("what no policy speaks of is FAILED", false)
		if v.get("approve").is(true) {
			v.get("approve").refuse("admits without a signature: add an exception with a digest and an end")
		}
	case "notaryv1", "notaryv2", "notation":
		kind.refuse("signatures of this kind are not read: sign again (docs/migrate-from-dct.md)")
	}
	v.get("auth").narrowed("credentials belong to the registry (countersign registries apply)")
	v.get("cert").narrowed("certificates belong to the registry (countersign registries apply)")
	if host := v.get("host"); host.text() == "rekor.sigstore.dev" || host.text() == "https://rekor.sigstore.dev" {
		host.narrowed("log entries by keys are looked at in this service's log, those by identities in that of trust root %s", publicRoot)
	}
	for _, root := range v.get("trustRoots").items() {
		root.get("name").exact("names the authority")
		root.get("cert").refuse("certificates are not read")
		root.get("key").exact("the authority's public key")
		if key := root.get("key"); key.present() && !strings.HasPrefix(strings.TrimSpace(key.text()), "-----BEGIN") {
			key.refuse("a reference to a key is not followed: put the public key there in PEM")
		}
	}
}

func connaisseurValidator(d *draft, rule, v field) {
	noteValidator(v)
	with := rule.get("with")
	if v.get("type").is("static") {
		if v.get("approve").is(false) && d.level == 0 && len(d.images) > 0 && !with.present() {
			rule.remark(Exact, "", "an image of which no policy speaks is FAILED")
			d.from.r.forget(d)
			return
		}
		d.harmless = v.get("approve").is(true)
		rule.remark(Refused, "/validator", "a static validator has no signers: no policy admits without one, and none denies by itself")
		return
	}
	log := !with.get("verifyInTransparencyLog").is(false)
	with.get("verifyInTransparencyLog").want("whether a log entry is required, of keys in this service's log", true, false)
	with.get("verifySCT").narrowed("certificate transparency is checked wherever the trust root names a log")
	with.get("mode").want("the mutating webhook pins images, where it is registered", "mutate", "insecureValidateOnly")
	with.get("delegations").refuse("signatures of this kind are not read")
	parts := map[string]any{}
	var order []string
	for _, root := range v.get("trustRoots").items() {
		name := root.get("name").text()
		if part := connaisseurRoot(d, root, log); part != nil && root.sound() {
			parts[name], order = part, append(order, name)
		}
	}
	if !v.sound() && len(parts) == 0 {
		rule.remark(Refused, "/validator", "none of its trust roots can be expressed")
		return
	}
	// A field of the validator itself that is refused refuses all that use it.
	for _, member := range v.members() {
		if member.name() != "trustRoots" {
			d.outer = append(d.outer, member)
		}
	}
	connaisseurThreshold(d, rule, with, parts, order, len(v.get("trustRoots").items()))
}

func connaisseurRoot(d *draft, root field, log bool) any {
	keyless := root.get("keyless")
	if key := root.get("key"); key.present() && !keyless.present() {
		return signature(d.by(root.get("name").text(), keySigner(key.text(), log)))
	}
	var any []any
	for _, s := range identities(connaisseurNames(keyless), publicRoot) {
		any = append(any, signature(d.by(root.get("name").text(), s)))
	}
	if len(any) == 0 {
		return nil
	}
	return combine("any", any)
}

// connaisseurNames is the identity with the names that expressions have
// elsewhere.
func connaisseurNames(keyless field) field {
	for _, name := range []string{"issuerRegex", "subjectRegex"} {
		keyless.get(name).refuse("expressions are not anchored there and reach other names: write issuer and subject")
	}
	return keyless
}

// connaisseurThreshold is one trust root by name, or so many of all of them.
func connaisseurThreshold(d *draft, rule, with field, parts map[string]any, order []string, total int) {
	chosen, threshold, required := with.get("trustRoot"), with.get("threshold"), with.get("required")
	name := "default"
	if chosen.present() {
		name = chosen.text()
	}
	chosen.exact("whose signature is required")
	if name != "*" {
		threshold.refuse("counts only together with trustRoot *")
		required.refuse("counts only together with trustRoot *")
		part := parts[name]
		if part == nil {
			rule.remark(Refused, "/with/trustRoot", "there is no trust root %s that can be expressed", name)
			return
		}
		d.require = part
		return
	}
	n := total
	if threshold.present() {
		given, ok := threshold.v.(float64)
		if !ok || given < 1 || given != float64(int(given)) {
			threshold.refuse("want a whole number from 1")
			return
		}
		n = int(given)
		threshold.exact("so many different signers are required")
	}
	var all, of []any
	for _, item := range required.items() {
		if parts[item.text()] == nil {
			item.refuse("there is no such trust root that can be expressed")
			return
		}
		item.exact("this signer is required")
		all = append(all, parts[item.text()])
	}
	for _, name := range order {
		of = append(of, parts[name])
	}
	if n > len(of) || n == 0 {
		rule.remark(Refused, "/with/threshold", "fewer trust roots can be expressed than are needed")
		return
	}
	all = append(all, map[string]any{"atLeast": map[string]any{"n": n, "of": of}})
	d.require = combine("all", slices.Clone(all))
}
