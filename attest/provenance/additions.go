package provenance

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
)

// additions are what the caller says and the claims do not.
type additions struct {
	parameters               map[string]jsontext.Value
	dependencies, byproducts []jsontext.Value
}

// names are those of the parameters, in order.
func (a additions) names() []string { return slices.Sorted(maps.Keys(a.parameters)) }

// readAdditions checks what the caller says. All contradictions are collected;
// a malformed addition ends it.
func readAdditions(in Input, f facts) (additions, error) {
	r := &additionReader{facts: f, claimed: f.claimed()}
	var out additions
	var err error
	if out.parameters, err = r.parameters(in.ExternalParameters); err != nil {
		return additions{}, fmt.Errorf("%w: %w", ErrInput, err)
	}
	if out.dependencies, err = r.descriptors("/resolvedDependencies", in.ResolvedDependencies, r.dependency); err != nil {
		return additions{}, fmt.Errorf("%w: %w", ErrInput, err)
	}
	none := func(string, resource) bool { return true }
	if out.byproducts, err = r.descriptors("/byproducts", in.Byproducts, none); err != nil {
		return additions{}, fmt.Errorf("%w: %w", ErrInput, err)
	}
	if len(r.mismatches) > 0 {
		return additions{}, &MismatchError{Fields: r.mismatches}
	}
	return out, nil
}

type additionReader struct {
	facts      facts
	claimed    map[string]any
	mismatches []Mismatch
}

func (r *additionReader) mismatch(pointer, detail string) {
	r.mismatches = append(r.mismatches, Mismatch{Pointer: pointer, Detail: detail})
}

// claimed are the external parameters that only the claims may say: those that
// are written, and other words for what is written elsewhere.
func (f facts) claimed() map[string]any {
	out := map[string]any{
		"builder": map[string]any{"id": f.builderID()}, "builderId": f.builderID(), "buildType": f.buildType,
		"invocationId": f.invocation, "repository": f.repository, "ref": f.ref, "commit": f.commit, "sha": f.commit,
		"source": f.repository,
	}
	// The predicate's own members are of another place in it.
	for _, name := range []string{"buildDefinition", "runDetails", "externalParameters", "internalParameters", "resolvedDependencies", "metadata", "byproducts"} {
		out[name] = nil
	}
	for name, value := range f.external() {
		out[name] = plain(value)
	}
	return out
}

// plain is a value as JSON decodes to.
func plain(v any) (out any) {
	b, err := strictjson.Marshal(v)
	if err != nil || json.Unmarshal(b, &out) != nil {
		return nil
	}
	return out
}

// fold is how a careless reader could read a name.
func fold(name string) string {
	return strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(name))
}

// parameters are the members that the claims do not say. A member that is equal
// to a claim is passed over; one that differs contradicts it.
func (r *additionReader) parameters(raw json.RawMessage) (map[string]jsontext.Value, error) {
	const at = "/externalParameters"
	if len(raw) == 0 {
		return nil, nil
	}
	var members map[string]jsontext.Value
	if len(raw) > limits.ProvenanceParameterBytes {
		return nil, fault(at, fmt.Sprintf("must have at most %d bytes", limits.ProvenanceParameterBytes))
	}
	if err := strictjson.Unmarshal(raw, &members); err != nil || members == nil {
		return nil, fault(at, "must be an object without duplicate names")
	}
	if err := strictjson.NoNull(raw); err != nil {
		return nil, fault(at, "must have no null: leave a parameter out instead")
	}
	if len(members) > limits.ProvenanceParameters {
		return nil, fault(at, fmt.Sprintf("must have at most %d members", limits.ProvenanceParameters))
	}
	out := map[string]jsontext.Value{}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		canonical, isClaimed := r.claim(name)
		switch {
		case name == "":
			return nil, fault(at, "must have no empty name")
		case isClaimed && canonical != name:
			r.mismatch(at+"/"+token(name), "differs only in case or punctuation from a name that the claims say")
		case isClaimed:
			r.compare(at+"/"+token(name), members[name], r.claimed[name])
		default:
			out[name] = inOrder(members[name])
		}
	}
	return out, nil
}

// claim is the claimed name that a name could be read as.
func (r *additionReader) claim(name string) (string, bool) {
	if _, exact := r.claimed[name]; exact {
		return name, true
	}
	for _, claimed := range slices.Sorted(maps.Keys(r.claimed)) {
		if fold(claimed) == fold(name) {
			return claimed, true
		}
	}
	return "", false
}

// compare goes through an object, so that each field that differs is named.
func (r *additionReader) compare(at string, said jsontext.Value, claimed any) {
	var value any
	if json.Unmarshal(said, &value) != nil {
		r.mismatch(at, "is not what the claims say")
		return
	}
	r.compareValue(at, value, claimed)
}

func (r *additionReader) compareValue(at string, said, claimed any) {
	members, isObject := said.(map[string]any)
	fields, wantObject := claimed.(map[string]any)
	if !isObject || !wantObject {
		if text, isText := said.(string); !isText || text == "" || said != claimed {
			r.mismatch(at, "is not what the claims say")
		}
		return
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		field, known := fields[name]
		if !known {
			r.mismatch(at+"/"+token(name), "is not in the claims")
			continue
		}
		r.compareValue(at+"/"+token(name), members[name], field)
	}
}

// token is a name within an RFC 6901 pointer.
func token(name string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}

// inOrder has the names of objects in order, so that the predicate does not
// depend on theirs; numbers stay as they are written.
func inOrder(v jsontext.Value) jsontext.Value {
	out := v.Clone()
	if err := out.Format(jsontext.ReorderRawObjects(true), jsontext.CanonicalizeRawInts(false), jsontext.CanonicalizeRawFloats(false)); err != nil {
		return v
	}
	return out
}
