package policy

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/policy/slsa"
)

// provenance is what a policy expects of SLSA provenance.
type provenance struct {
	builder   *text
	buildType *text
	source    *text
	ref       *text
	// external are wanted values of external parameters, ignored are names of
	// others that may be there.
	external map[string]json.RawMessage
	ignored  []string
	minLevel int
	levels   []level
}

// level is how far a builder is trusted when an authority signs for it.
type level struct {
	by      string
	builder text
	level   int
}

type provenanceSpec struct {
	Builder                  *string                    `json:"builder,omitzero"`
	BuildType                *string                    `json:"buildType,omitzero"`
	Source                   *string                    `json:"source,omitzero"`
	Ref                      *string                    `json:"ref,omitzero"`
	ExternalParameters       map[string]json.RawMessage `json:"externalParameters,omitzero"`
	IgnoreExternalParameters []string                   `json:"ignoreExternalParameters,omitzero"`
	MinLevel                 *int                       `json:"minLevel,omitzero"`
	Levels                   []levelSpec                `json:"levels,omitzero"`
}

type levelSpec struct {
	By      string `json:"by"`
	Builder string `json:"builder"`
	Level   int    `json:"level"`
}

// Build levels of SLSA's build track.
const (
	leastLevel = 1
	// provenLevel is what a certificate proves at most: that a hosted builder
	// vouches, and not that the tenant could not reach into the build.
	provenLevel = 2
	mostLevel   = 3
)

func (s *provenanceSpec) compile(by []string, at string) (*provenance, error) {
	p := &provenance{external: s.ExternalParameters, ignored: s.IgnoreExternalParameters}
	if s.Builder == nil && s.BuildType == nil && s.Source == nil && s.Ref == nil && s.ExternalParameters == nil && s.MinLevel == nil {
		return nil, fault(at, "expects nothing: leave it out, or say which builder, buildType, source, ref, externalParameters or minLevel")
	}
	for _, field := range []struct {
		name  string
		given *string
		into  **text
	}{{"builder", s.Builder, &p.builder}, {"buildType", s.BuildType, &p.buildType}, {"ref", s.Ref, &p.ref}} {
		if field.given == nil {
			continue
		}
		compiled, err := compileExpected(*field.given)
		if err != nil {
			return nil, fault(at+"/"+field.name, "%s", err.Error())
		}
		*field.into = &compiled
	}
	for _, step := range []func(*provenanceSpec, string) error{p.readSource, p.readParameters} {
		if err := step(s, at); err != nil {
			return nil, err
		}
	}
	return p, p.readLevels(s, by, at)
}

// compileExpected refuses a pattern that everything matches: it reads as an
// expectation and is none.
func compileExpected(pattern string) (text, error) {
	if matchesEverything(pattern) {
		return text{}, fmt.Errorf("matches everything: leave it out")
	}
	return compileText(pattern)
}

// readSource takes the same spellings of a repository as the predicate.
func (p *provenance) readSource(s *provenanceSpec, at string) error {
	if s.Source == nil {
		return nil
	}
	source, err := slsa.ParseSource(*s.Source)
	switch {
	case err != nil:
		return fault(at+"/source", "is not a repository: want git+https://HOST/PATH, in which PATH may have wildcards")
	case source.Ref != "":
		return fault(at+"/source", "has a ref: want it as ref")
	case matchesEverything(strings.SplitN(source.Repository, "/", 4)[3]):
		return fault(at+"/source", "matches every repository of its host: say whose")
	}
	compiled, err := compileText(source.Repository)
	p.source = &compiled
	if err != nil {
		return fault(at+"/source", "%s", err.Error())
	}
	return nil
}

func (p *provenance) readParameters(s *provenanceSpec, at string) error {
	if n := len(s.ExternalParameters); s.ExternalParameters != nil && (n == 0 || n > limits.Patterns) {
		return fault(at+"/externalParameters", "has %d parameters, want 1 to %d, or leave it out", n, limits.Patterns)
	}
	if s.IgnoreExternalParameters == nil {
		return nil
	}
	if n := len(s.IgnoreExternalParameters); n == 0 || n > limits.Patterns {
		return fault(at+"/ignoreExternalParameters", "has %d names, want 1 to %d, or leave it out", n, limits.Patterns)
	}
	for i, name := range s.IgnoreExternalParameters {
		place := fmt.Sprintf("%s/ignoreExternalParameters/%d", at, i)
		_, expected := s.ExternalParameters[name]
		switch {
		case name == "" || strings.Contains(name, "*"):
			return fault(place, "is not the name of a parameter")
		case slices.Contains(s.IgnoreExternalParameters[:i], name):
			return fault(place, "is there twice")
		case expected:
			return fault(place, "is expected by externalParameters too")
		}
	}
	return nil
}

func (p *provenance) readLevels(s *provenanceSpec, by []string, at string) error {
	if s.MinLevel != nil {
		if p.minLevel = *s.MinLevel; p.minLevel < leastLevel || p.minLevel > mostLevel {
			return fault(at+"/minLevel", "must be %d to %d", leastLevel, mostLevel)
		}
	}
	if s.Levels == nil {
		return nil
	}
	if n := len(s.Levels); n == 0 || n > limits.Levels {
		return fault(at+"/levels", "has %d builders, want 1 to %d, or leave it out", n, limits.Levels)
	}
	if s.MinLevel == nil {
		return fault(at+"/levels", "is given, but no minLevel to reach")
	}
	for i, l := range s.Levels {
		place := fmt.Sprintf("%s/levels/%d", at, i)
		switch {
		case !slices.Contains(by, l.By):
			return fault(place+"/by", "is not among those whose provenance the requirement takes")
		case l.Level < leastLevel || l.Level > mostLevel:
			return fault(place+"/level", "must be %d to %d", leastLevel, mostLevel)
		}
		compiled, err := compileExpected(l.Builder)
		if err != nil {
			return fault(place+"/builder", "%s", err.Error())
		}
		p.levels = append(p.levels, level{by: l.By, builder: compiled, level: l.Level})
	}
	return nil
}

// reachable reports whether any provenance could have the level that is wanted.
func (p *provenance) reachable(authorities map[string]Authority, by []string) bool {
	most := leastLevel
	for _, l := range p.levels {
		most = max(most, l.level)
	}
	for _, name := range by {
		if authorities[name].Identity != nil {
			most = max(most, provenLevel)
		}
	}
	return p.minLevel <= most
}

// judge compares provenance with the expectations; nil when all hold.
func (p *provenance) judge(f *Fact) *Reason {
	got, err := f.Attestation.provenance()
	if err != nil {
		return reasonf(PredicateInvalid, "the provenance is not well-formed: %s", wordsOf(err, slsa.ErrPredicate))
	}
	switch {
	case p.buildType != nil && !p.buildType.match(got.BuildType):
		return reasonf(BuilderMismatch, "the provenance is of another build type than the policy expects")
	case p.builder != nil && !p.builder.match(got.Builder):
		return reasonf(BuilderMismatch, "the provenance names another builder than the policy expects")
	case (p.source != nil || p.ref != nil) && got.Source.IsZero():
		return reasonf(SourceMismatch, "the provenance does not say in one way which repository was built")
	case p.source != nil && !p.source.match(got.Source.Repository):
		return reasonf(SourceMismatch, "the provenance names another repository than the policy expects")
	case p.ref != nil && !p.ref.match(got.Source.Ref):
		return reasonf(SourceMismatch, "the provenance names another ref than the policy expects, or none")
	}
	if reason := p.judgeParameters(got); reason != nil {
		return reason
	}
	if have := p.levelOf(f, got); have < p.minLevel {
		return reasonf(BuildLevelTooLow, "the provenance counts as build level %d, and %d is needed", have, p.minLevel)
	}
	return nil
}

func (p *provenance) judgeParameters(got slsa.Provenance) *Reason {
	for _, name := range slices.Sorted(maps.Keys(p.external)) {
		if !slsa.Equal(p.external[name], got.External[name]) {
			return reasonf(ParameterMismatch, "the external parameter %s is not what the policy expects", name)
		}
	}
	known := slices.Concat(slices.Collect(maps.Keys(p.external)), p.ignored)
	if unexpected := got.Unexpected(known); len(unexpected) > 0 {
		return reasonf(ParameterMismatch,
			"the build had %d external parameters that the policy does not expect: name them in externalParameters or ignoreExternalParameters", len(unexpected))
	}
	return nil
}

// levelOf is the highest level that the policy gives the pair of signer and
// builder. For a pair that it does not name it is 2 when the signer's
// certificate proves what the provenance says, else 1 (SLSA, "Verifying
// artifacts", step 1).
func (p *provenance) levelOf(f *Fact, got slsa.Provenance) int {
	named := 0
	for _, l := range p.levels {
		if l.by == f.Authority && l.builder.match(got.Builder) {
			named = max(named, l.level)
		}
	}
	switch {
	case named > 0:
		return named
	case proves(f.Claims, got):
		return provenLevel
	default:
		return leastLevel
	}
}

// proves reports whether a verified certificate says the same as the
// provenance: the builder, the source, its ref, and a builder that its owner
// does not operate. Then it does not matter who wrote the provenance.
func proves(claims map[string]string, got slsa.Provenance) bool {
	hosted := []string{"github-hosted", "gitlab-hosted"}
	source, err := slsa.ParseSource(claims["repositoryUri"])
	return err == nil && slices.Contains(hosted, claims["runnerEnvironment"]) &&
		claims["buildSignerUri"] == got.Builder && source.Repository == got.Source.Repository &&
		source.Ref == "" && claims["ref"] == got.Source.Ref && got.Source.Ref != ""
}

func reasonf(code Code, format string, args ...any) *Reason {
	return &Reason{Code: code, Message: fmt.Sprintf(format, args...)}
}
