package slsa

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/countersign/countersign/attest/predicate"
	"github.com/countersign/countersign/internal/strictjson"
)

// ErrPredicate is wrapped by errors of ReadProvenance and ReadSummary: the
// predicate is not of its type. The text carries no value of it.
var ErrPredicate = errors.New("predicate is not of its type")

// Provenance is what a predicate says of a build.
type Provenance struct {
	// Builder is the builder's id and BuildType the build's; never empty.
	Builder   string
	BuildType string
	// Source is what was built, zero when the predicate does not say it in one
	// way.
	Source Source
	// External are the external parameters that are not empty.
	External map[string]json.RawMessage

	schema schema
}

// dependency is the part of a resource descriptor that is read here.
type dependency struct {
	URI string `json:"uri,omitzero"`
}

type provenanceV1 struct {
	BuildDefinition struct {
		BuildType            string                     `json:"buildType"`
		ExternalParameters   map[string]json.RawMessage `json:"externalParameters"`
		ResolvedDependencies []*dependency              `json:"resolvedDependencies,omitzero"`
	} `json:"buildDefinition"`
	RunDetails struct {
		Builder struct {
			ID string `json:"id"`
		} `json:"builder"`
	} `json:"runDetails"`
}

type provenanceV02 struct {
	Builder struct {
		ID string `json:"id"`
	} `json:"builder"`
	BuildType  string `json:"buildType"`
	Invocation struct {
		ConfigSource dependency      `json:"configSource,omitzero"`
		Parameters   json.RawMessage `json:"parameters,omitzero"`
	} `json:"invocation,omitzero"`
	Materials []*dependency `json:"materials,omitzero"`
}

// IsProvenance reports whether ReadProvenance reads predicates of a type.
func IsProvenance(predicateType string) bool {
	switch predicate.Canonical(predicateType) {
	case predicate.SLSAProvenanceV1, predicate.SLSAProvenanceV02:
		return true
	}
	return false
}

// ReadProvenance reads a predicate of a type that IsProvenance knows. Errors
// wrap ErrPredicate.
func ReadProvenance(predicateType string, raw []byte) (Provenance, error) {
	read := readV1
	if predicate.Canonical(predicateType) == predicate.SLSAProvenanceV02 {
		read = readV02
	}
	p, err := read(raw)
	switch {
	case err != nil:
		return Provenance{}, err
	case p.Builder == "":
		return Provenance{}, fmt.Errorf("%w: it names no builder", ErrPredicate)
	case p.BuildType == "":
		return Provenance{}, fmt.Errorf("%w: it names no build type", ErrPredicate)
	}
	return p, nil
}

func readV1(raw []byte) (Provenance, error) {
	var w provenanceV1
	if err := decode(raw, &w); err != nil {
		return Provenance{}, err
	}
	b := w.BuildDefinition
	p := Provenance{Builder: w.RunDetails.Builder.ID, BuildType: b.BuildType, External: b.ExternalParameters, schema: schemaOf(b.BuildType)}
	return p.complete(b.ResolvedDependencies)
}

func readV02(raw []byte) (Provenance, error) {
	var w provenanceV02
	if err := decode(raw, &w); err != nil {
		return Provenance{}, err
	}
	p := Provenance{Builder: w.Builder.ID, BuildType: w.BuildType, External: map[string]json.RawMessage{}}
	switch given := w.Invocation.Parameters; {
	case isEmpty(given):
	case json.Unmarshal(given, &p.External) != nil:
		// v0.2 leaves the form open; what is no object is one parameter.
		p.External = map[string]json.RawMessage{"parameters": given}
	}
	uri := w.Invocation.ConfigSource.URI
	p.schema = schema{source: func(map[string]json.RawMessage, []*dependency) (Source, bool) {
		s, err := ParseSource(uri)
		return s, err == nil
	}}
	return p.complete(w.Materials)
}

// complete drops parameters that say nothing and finds the source.
func (p Provenance) complete(dependencies []*dependency) (Provenance, error) {
	maps.DeleteFunc(p.External, func(_ string, value json.RawMessage) bool { return isEmpty(value) })
	found, ok := p.schema.source(p.External, dependencies)
	if ok && agrees(found, dependencies) {
		p.Source = found
	}
	return p, nil
}

// agrees reports whether the dependencies, if any of them is a repository, have
// the source among them: two that contradict each other are no source.
func agrees(s Source, dependencies []*dependency) bool {
	some := false
	for _, d := range dependencies {
		if d == nil || !strings.HasPrefix(d.URI, "git+") {
			continue
		}
		got, err := ParseSource(d.URI)
		if err == nil && got.Repository == s.Repository && (got.Ref == s.Ref || got.Ref == "" || s.Ref == "") {
			return true
		}
		some = true
	}
	return !some
}

// Unexpected are the external parameters, in order, that neither the build
// type's definition fixes (they are where the source and the build's own
// instructions stand) nor expected names: whoever started the build chose them.
func (p Provenance) Unexpected(expected []string) []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(p.External)) {
		if !slices.Contains(p.schema.fixed, name) && !slices.Contains(expected, name) {
			names = append(names, name)
		}
	}
	return names
}

// decode reads a predicate whose writers may add fields.
func decode(raw []byte, v any) error {
	err := strictjson.UnmarshalOpen(raw, v)
	var at *strictjson.FieldError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &at):
		return fmt.Errorf("%w: %s %s", ErrPredicate, at.Pointer, at.Problem)
	default:
		return fmt.Errorf("%w: it is not a well-formed JSON object", ErrPredicate)
	}
}
