package convert

import (
	"slices"
	"strings"
)

// publicRoot is the name under which policies that are imported look for the
// public Sigstore instance's trusted root.
const publicRoot = "sigstore"

const publicAdvice = "believed by trust root %s: keep the public instance's trusted_root.json under that name"

// identities reads an issuer and a subject, each exact or by expression, as
// authorities of which any will do. It notes the four fields.
func identities(f field, root string) []map[string]any {
	issuer, ok := issuerOf(f)
	subjects, plain := subjectsOf(f)
	if !ok || len(subjects) == 0 {
		return nil
	}
	out := make([]map[string]any, 0, len(subjects))
	for _, s := range subjects {
		identity := map[string]any{"issuer": issuer, "trustRoot": root}
		if plain {
			identity["subject"] = s
		} else {
			identity["subjectPattern"] = s
		}
		out = append(out, map[string]any{"identity": identity})
	}
	return out
}

func regexpOf(f field) field {
	if re := f.get("issuerRegExp"); re.present() {
		return re
	}
	return f.get("issuerRegexp")
}

func issuerOf(f field) (string, bool) {
	issuer, re := f.get("issuer"), regexpOf(f)
	switch {
	case issuer.present() && re.present():
		re.refuse("issuer says it already: remove one of them")
		return "", false
	case issuer.present():
		return literal(issuer)
	case re.present():
		found, narrowed, err := expression(re.text())
		if err != nil || len(found) != 1 || found[0] == "" || strings.Contains(found[0], "*") {
			re.refuse("an issuer is compared exactly here: write one entry for each issuer")
			return "", false
		}
		outcome := Exact
		if narrowed {
			outcome = Narrowed
		}
		re.note(outcome, "the issuer must be exactly %s", found[0])
		return found[0], true
	}
	f.remark(Refused, "/issuer", "is missing, which lets any issuer in: name it")
	return "", false
}

// literal takes a text that is compared exactly on both sides.
func literal(f field) (string, bool) {
	s := f.text()
	if s == "" || strings.Contains(s, "*") {
		f.refuse("must be one text without wildcard")
		return "", false
	}
	f.exact("compared exactly")
	return s, true
}

func subjectsOf(f field) (subjects []string, plain bool) {
	subject, re := f.get("subject"), f.get("subjectRegExp")
	if !re.present() {
		re = f.get("subjectRegexp")
	}
	switch {
	case subject.present() && re.present():
		re.refuse("subject says it already: remove one of them")
		return nil, false
	case subject.present():
		s, ok := literal(subject)
		if !ok {
			return nil, false
		}
		return []string{s}, true
	case !re.present():
		f.remark(Refused, "/subject", "is missing, which lets every subject of the issuer in: name it")
		return nil, false
	}
	found, narrowed, err := expression(re.text())
	switch {
	case err != nil:
		re.refuse("%s", err.Error())
	case slices.ContainsFunc(found, func(s string) bool { return strings.Trim(s, "*/") == "" }):
		re.refuse("matches every subject of the issuer, which is refused here: name whom")
	case narrowed:
		re.narrowed("must match as a whole: %s", strings.Join(found, " or "))
		return found, !strings.Contains(found[0], "*")
	default:
		re.exact("compared exactly")
		return found, true
	}
	return nil, false
}
