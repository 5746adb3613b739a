package provenance

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
)

// PredicateType is the predicate type of what Build writes.
const PredicateType = "https://slsa.dev/provenance/v1"

// Input is what a provenance is made of.
type Input struct {
	// Identity is the verified caller.
	Identity identity.Identity
	// Rules are the operator's for the identity's issuer, as Validate accepts
	// them. The zero value is no rules.
	Rules Rules
	// ExternalParameters is a JSON object of the caller, or empty. Each member
	// that is not equal to what the claims say is added and lowers the level.
	ExternalParameters json.RawMessage
	// ResolvedDependencies and Byproducts are in-toto resource descriptors of
	// the caller.
	ResolvedDependencies, Byproducts []json.RawMessage
	// FinishedAt is when the build finished, or zero when that is not known.
	FinishedAt time.Time
}

// Result is a provenance.
type Result struct {
	// Predicate is the JSON of the predicate; equal inputs give equal bytes.
	Predicate []byte
	// Level is the SLSA build level, 0 to 3, that the claims support.
	Level int
	// Reasons say why it is not higher, or why it is 3: at least one sentence,
	// always in one order. Codes are the same as stable words.
	Reasons, Codes []string
	// Builder is runDetails.builder.id.
	Builder string
	// BuildType is buildDefinition.buildType.
	BuildType string
	// Source is the repository, as git+https://HOST/PATH without a ref.
	Source string
	// Ref is the full git ref (refs/heads/main), or empty when the token has
	// none.
	Ref string
	// Commit is the git commit, or empty when the token has none.
	Commit string
}

// predicate has its fields in the order of the specification.
type predicate struct {
	BuildDefinition buildDefinition `json:"buildDefinition"`
	RunDetails      runDetails      `json:"runDetails"`
}

type buildDefinition struct {
	BuildType            string         `json:"buildType"`
	ExternalParameters   map[string]any `json:"externalParameters"`
	InternalParameters   map[string]any `json:"internalParameters"`
	ResolvedDependencies []any          `json:"resolvedDependencies"`
}

type runDetails struct {
	Builder struct {
		ID string `json:"id"`
	} `json:"builder"`
	Metadata   metadata `json:"metadata,omitzero"`
	Byproducts []any    `json:"byproducts,omitempty"`
}

type metadata struct {
	InvocationID string `json:"invocationId,omitempty"`
	FinishedOn   string `json:"finishedOn,omitempty"`
}

// descriptor is the part of an in-toto resource descriptor that is written
// here.
type descriptor struct {
	Name   string            `json:"name,omitempty"`
	URI    string            `json:"uri"`
	Digest map[string]string `json:"digest,omitempty"`
}

// workflow is externalParameters.workflow: where the build's definition is.
type workflow struct {
	Ref        string `json:"ref,omitempty"`
	Repository string `json:"repository"`
	Path       string `json:"path,omitempty"`
	// Pipeline names the definition where it is not a file in a repository.
	Pipeline string `json:"pipeline,omitempty"`
}

// source is externalParameters.source: what is built, when the workflow is of
// another repository or ref.
type source struct {
	Ref        string `json:"ref,omitempty"`
	Repository string `json:"repository"`
}

// Build writes the provenance of the identity's job. Errors are a
// *MismatchError, or wrap ErrNoClaims, ErrInput or ErrRules.
func Build(in Input) (Result, error) {
	if err := in.Rules.Validate(in.Identity.Kind); err != nil {
		return Result{}, err
	}
	f, err := factsOf(in.Identity, in.Rules)
	if err != nil {
		return Result{}, err
	}
	additions, err := readAdditions(in, f)
	if err != nil {
		return Result{}, err
	}
	grade := f.grade(in.Rules, len(additions.parameters) > 0)
	b, err := strictjson.Marshal(f.predicate(additions, grade, in.FinishedAt))
	if err != nil {
		return Result{}, fmt.Errorf("encoding a provenance: %w", err)
	}
	if len(b) > limits.Provenance {
		return Result{}, fmt.Errorf("%w: the provenance has more than %d bytes", ErrInput, limits.Provenance)
	}
	return Result{
		Predicate: b, Level: grade.level, Reasons: grade.reasons, Codes: grade.codes,
		Builder: f.builderID(), BuildType: f.buildType, Source: f.sourceURI(), Ref: f.ref, Commit: f.commit,
	}, nil
}

func (f facts) predicate(a additions, g grade, finished time.Time) predicate {
	p := predicate{BuildDefinition: buildDefinition{
		BuildType:          f.buildType,
		ExternalParameters: f.external(),
		InternalParameters: map[string]any{"countersign": internal{
			BuildLevel: g.level, Reasons: g.codes, CallerParameters: a.names(), CallerDependencies: len(a.dependencies),
		}},
	}}
	for name, value := range a.parameters {
		p.BuildDefinition.ExternalParameters[name] = value
	}
	if len(f.internal) > 0 {
		p.BuildDefinition.InternalParameters[f.kind] = f.internal
	}
	for _, d := range f.dependencies() {
		p.BuildDefinition.ResolvedDependencies = append(p.BuildDefinition.ResolvedDependencies, d)
	}
	for _, d := range a.dependencies {
		p.BuildDefinition.ResolvedDependencies = append(p.BuildDefinition.ResolvedDependencies, d)
	}
	for _, d := range a.byproducts {
		p.RunDetails.Byproducts = append(p.RunDetails.Byproducts, d)
	}
	p.RunDetails.Builder.ID = f.builderID()
	p.RunDetails.Metadata.InvocationID = f.invocation
	if !finished.IsZero() {
		p.RunDetails.Metadata.FinishedOn = finished.UTC().Format(time.RFC3339)
	}
	return p
}

// internal is internalParameters.countersign: the level as it was granted, so
// that it is signed with the rest, and what of the predicate the caller said.
type internal struct {
	BuildLevel         int      `json:"buildLevel"`
	Reasons            []string `json:"reasons"`
	CallerParameters   []string `json:"callerParameters,omitempty"`
	CallerDependencies int      `json:"callerDependencies,omitzero"`
}
