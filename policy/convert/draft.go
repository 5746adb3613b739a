package convert

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
	"github.com/countersign/countersign/policy"
)

// draft is a policy in the making, or what is left of one that was refused.
type draft struct {
	name string
	// from is the part of the source that it comes from.
	from field
	// images are patterns; none, of a refused one, stands for all images.
	images      []string
	mode        policy.Mode
	authorities map[string]*authority
	require     any
	refused     bool
	// harmless is set for what is refused and admits all that it speaks of: to
	// leave it away admits nothing more.
	harmless bool
	// layered is set where of several that match only the most specific counts;
	// level is how specific this one is.
	layered bool
	level   int
	json    json.RawMessage
	// outer are fields beside from without which it must not stand either.
	outer []field
	// objects are what an export writes instead of a document.
	objects []any
}

// authority is the part of a signer that is written, and who it is.
type authority struct {
	spec map[string]any
	who  string
}

func (r *reader) draft(from field, name string) *draft {
	d := &draft{name: r.unique(name), from: from, mode: policy.Enforce, authorities: map[string]*authority{}}
	r.drafts = append(r.drafts, d)
	return d
}

var notInName = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// nameOf makes a name of whatever the source calls it.
func nameOf(s string) string {
	s = strings.Trim(notInName.ReplaceAllString(s, "-"), "-._")
	if len(s) > limits.Name-8 {
		s = s[:limits.Name-8]
	}
	if s == "" {
		return "imported"
	}
	return s
}

func (r *reader) unique(name string) string {
	base := nameOf(name)
	name = base
	for i := 2; r.names[name]; i++ {
		name = fmt.Sprintf("%s-%d", base, i)
	}
	r.names[name] = true
	return name
}

// keySigner is an authority by public key. Without log an entry is checked
// when there is one.
func keySigner(pem string, log bool) map[string]any {
	spec := map[string]any{"key": map[string]any{"pem": pem}, "log": string(policy.LogOptional)}
	if log {
		spec["log"] = string(policy.LogRequired)
	}
	return spec
}

// by is the name of an authority. The same signer has one name, under the
// stricter of its log rules.
func (d *draft) by(hint string, spec map[string]any) string {
	who, err := strictjson.Marshal(map[string]any{"key": spec["key"], "identity": spec["identity"], "x509": spec["x509"]})
	if err != nil {
		who = []byte(fmt.Sprint(spec))
	}
	for name, a := range d.authorities {
		if a.who == string(who) {
			if spec["log"] == string(policy.LogRequired) {
				a.spec["log"] = spec["log"]
			}
			return name
		}
	}
	base := nameOf(hint)
	name := base
	for i := 2; d.authorities[name] != nil; i++ {
		name = fmt.Sprintf("%s-%d", base, i)
	}
	d.authorities[name] = &authority{spec: spec, who: string(who)}
	return name
}

func signature(by string) any { return map[string]any{"signature": map[string]any{"by": by}} }

func attestation(by []string, predicateType string) any {
	return map[string]any{"attestation": map[string]any{"predicateType": predicateType, "by": by, "which": string(policy.WhichAny)}}
}

// combine is `all` or `any` of requirements, without repetition.
func combine(how string, parts []any) any {
	var distinct []any
	var seen []string
	for _, p := range parts {
		b, err := strictjson.Marshal(p)
		if err == nil && !slices.Contains(seen, string(b)) {
			distinct, seen = append(distinct, p), append(seen, string(b))
		}
	}
	if len(distinct) == 1 {
		return distinct[0]
	}
	return map[string]any{how: distinct}
}

// settle decides whether a draft stands: nothing of it was refused, and the
// document is one that policy.Parse accepts.
func (d *draft) settle() {
	if d.refused {
		return
	}
	if !d.from.sound() || slices.ContainsFunc(d.outer, func(f field) bool { return f.present() && !f.sound() }) {
		d.refuse("the policy is refused for another of its fields")
		return
	}
	if d.objects != nil {
		return
	}
	if err := d.render(); err != nil {
		d.refuse("the policy cannot be expressed: %s", problem(err))
		d.from.remark(Refused, "", "the policy cannot be expressed: %s", problem(err))
	}
}

// problem is an error without the words about what every such error is of.
func problem(err error) string {
	if f, ok := errors.AsType[*policy.FieldError](err); ok {
		return f.Error()
	}
	return err.Error()
}

func (d *draft) render() error {
	authorities := make(map[string]any, len(d.authorities))
	for name, a := range d.authorities {
		if names(d.require, name) {
			authorities[name] = a.spec
		}
	}
	raw, err := strictjson.Marshal(map[string]any{
		"apiVersion": "countersign.dev/v1", "kind": "TrustPolicy", "metadata": map[string]any{"name": d.name},
		"spec": map[string]any{
			"match": map[string]any{"images": d.images}, "mode": string(d.mode), "authorities": authorities, "require": d.require,
		},
	})
	if err != nil {
		return err
	}
	p, err := policy.Parse(raw)
	if err != nil {
		return err
	}
	d.json = p.Document()
	return nil
}

// names reports whether a requirement names an authority.
func names(requirement any, name string) bool {
	switch v := requirement.(type) {
	case map[string]any:
		for key, below := range v {
			if key == "by" && isText(below, name) || names(below, name) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(v, func(below any) bool { return names(below, name) })
	case []string:
		return slices.Contains(v, name)
	}
	return false
}

func isText(v any, text string) bool {
	s, ok := v.(string)
	return ok && s == text
}

func (d *draft) refuse(format string, args ...any) {
	d.refused, d.json, d.objects = true, nil, nil
	d.from.void(format, args...)
}

func (d *draft) document() (Document, bool) {
	return Document{Name: d.name, JSON: d.json}, !d.refused && d.json != nil
}

// withdraw settles all drafts and then takes back those which, without a
// refused one, would admit more than the source: all of that speak of the same
// images, or, where the most specific one alone counts, those that are less
// specific. It ends when a round takes nothing back.
func (r *reader) withdraw() {
	for _, d := range r.drafts {
		d.settle()
	}
	for again := true; again; {
		again = false
		for _, d := range r.drafts {
			cause := r.undoing(d)
			if d.refused || cause == nil {
				continue
			}
			d.refuse("withdrawn: without %s, which is refused, it would admit images that the source does not", cause.name)
			d.from.remark(Refused, "", "policy %s is withdrawn, since %s speaks of the same images and is refused", d.name, cause.name)
			again = true
		}
	}
}

func (r *reader) undoing(d *draft) *draft {
	for _, other := range r.drafts {
		if other != d && other.refused && !other.harmless && overlap(d.images, other.images) &&
			(!d.layered || other.level >= d.level) {
			return other
		}
	}
	return nil
}

// overlap reports whether an image could match a pattern of both lists; when in
// doubt, that it could. No patterns stand for all images.
func overlap(a, b []string) bool {
	if len(a) == 0 || len(b) == 0 {
		return true
	}
	return slices.ContainsFunc(a, func(x string) bool {
		return slices.ContainsFunc(b, func(y string) bool { return patternsMeet(strings.Split(x, "/"), strings.Split(y, "/")) })
	})
}

func patternsMeet(a, b []string) bool {
	for i := 0; ; i++ {
		switch {
		case i < len(a) && a[i] == "**", i < len(b) && b[i] == "**":
			return i < len(a) && i < len(b)
		case i == len(a) || i == len(b):
			return len(a) == len(b)
		case !segmentsMeet(a[i], b[i]):
			return false
		}
	}
}

func segmentsMeet(a, b string) bool {
	if a == b {
		return true
	}
	beforeA, afterA := literalEnds(a)
	beforeB, afterB := literalEnds(b)
	return (strings.Contains(a, "*") || strings.Contains(b, "*")) &&
		(strings.HasPrefix(beforeA, beforeB) || strings.HasPrefix(beforeB, beforeA)) &&
		(strings.HasSuffix(afterA, afterB) || strings.HasSuffix(afterB, afterA))
}

// literalEnds are what a segment begins and ends with; all of it when there is no
// wildcard.
func literalEnds(s string) (before, after string) {
	first := strings.Index(s, "*")
	if first < 0 {
		return s, s
	}
	return s[:first], s[strings.LastIndex(s, "*")+1:]
}
