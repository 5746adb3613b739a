package provenance

import (
	"fmt"
	"slices"
	"strings"

	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/internal/glob"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
)

// Rules are what an operator says about the builds of one issuer: the links
// that its tokens lack, and how far its builders are trusted. In Source, Ref,
// Commit, Workflow, Invocation and Builder, `{claim}` stands for a claim.
type Rules struct {
	// Source is the repository that is built, as git+https://HOST/PATH, for
	// kinds whose tokens do not name it.
	Source string `json:"source,omitempty"`
	// Links are sources of single subjects; the first that matches counts, and
	// Source when none does.
	Links []Link `json:"links,omitempty"`
	// Ref, Commit, Workflow and Invocation are of the kind generic: the git ref
	// ({ref} by default), the commit ({sha}), the URI of the build's definition
	// ({buildConfigUri}) and that of the run ({runUri}).
	Ref        string `json:"ref,omitempty"`
	Commit     string `json:"commit,omitempty"`
	Workflow   string `json:"workflow,omitempty"`
	Invocation string `json:"invocation,omitempty"`
	// Builder is the builder id of kinds whose tokens name none.
	Builder string `json:"builder,omitempty"`
	// BuildType replaces the build type of such kinds.
	BuildType string `json:"buildType,omitempty"`
	// Builders say how far builders are trusted; the first that matches counts.
	// A builder that none matches is trusted to level 2 when its runner is
	// hosted, to level 1 otherwise.
	Builders []BuilderRule `json:"builders,omitempty"`
}

// Link says which repository a subject builds.
type Link struct {
	// Subject is a pattern over the whole identity subject, Claims are patterns
	// over claims; all must match, and there is at least one.
	Subject string            `json:"subject,omitempty"`
	Claims  map[string]string `json:"claims,omitempty"`
	// Source is as in Rules; Builder too, when it is not empty.
	Source  string `json:"source"`
	Builder string `json:"builder,omitempty"`
}

// BuilderRule says how far builders are trusted.
type BuilderRule struct {
	// Builder is a pattern over the whole builder id: `*` within a segment
	// between slashes, `**` across them.
	Builder string `json:"builder"`
	// MaxLevel is the highest level, 0 to 3, that they are granted. It is the
	// operator's word that they are isolated, which no token proves.
	MaxLevel int `json:"maxLevel"`
}

// IsZero reports whether nothing is said.
func (r Rules) IsZero() bool {
	return r.Source == "" && len(r.Links) == 0 && r.Ref == "" && r.Commit == "" && r.Workflow == "" &&
		r.Invocation == "" && r.Builder == "" && r.BuildType == "" && len(r.Builders) == 0
}

// Tidy is nil when nothing is said, and else the rules without empty lists, so
// that two ways to write the same rules are the same value.
func (r Rules) Tidy() *Rules {
	if r.IsZero() {
		return nil
	}
	r.Links, r.Builders = slices.Clone(r.Links), slices.Clone(r.Builders)
	if len(r.Links) == 0 {
		r.Links = nil
	}
	if len(r.Builders) == 0 {
		r.Builders = nil
	}
	for i := range r.Links {
		if len(r.Links[i].Claims) == 0 {
			r.Links[i].Claims = nil
		}
	}
	return &r
}

// allowed are the fields of Rules that a kind of issuer may use. Nothing may
// override what its tokens say.
func allowed(kind string) []string {
	switch kind {
	case "github", "gitlab", "circleci":
		return nil
	case "buildkite":
		return []string{"source", "links"}
	case "kubernetes":
		return []string{"source", "links", "builder", "buildType"}
	default:
		return []string{"source", "links", "ref", "commit", "workflow", "invocation", "builder", "buildType"}
	}
}

// Validate checks the rules of an issuer of that kind. Errors wrap ErrRules,
// with the place as a *strictjson.FieldError.
func (r Rules) Validate(kind string) error {
	if err := r.validate(kind); err != nil {
		return fmt.Errorf("%w: %w", ErrRules, err)
	}
	return nil
}

func (r Rules) validate(kind string) error {
	for _, field := range r.fields() {
		switch {
		case field.value == "":
		case !slices.Contains(allowed(kind), field.name):
			return fault("/"+field.name, "is not for this kind: its tokens say it, or say nothing of the sort")
		default:
			if err := field.check(field.value); err != nil {
				return fault("/"+field.name, err.Error())
			}
		}
	}
	if len(r.Links) > 0 && !slices.Contains(allowed(kind), "links") {
		return fault("/links", "is not for this kind: its tokens name the source")
	}
	if len(r.Links) > limits.Patterns {
		return fault("/links", fmt.Sprintf("must have at most %d links", limits.Patterns))
	}
	for i, l := range r.Links {
		if err := l.validate(kind, fmt.Sprintf("/links/%d", i)); err != nil {
			return err
		}
	}
	return r.validateBuilders()
}

type ruleField struct {
	name, value string
	check       func(string) error
}

func (r Rules) fields() []ruleField {
	return []ruleField{
		{"source", r.Source, checkSourceTemplate},
		{"ref", r.Ref, checkTemplate},
		{"commit", r.Commit, checkTemplate},
		{"workflow", r.Workflow, checkURITemplate},
		{"invocation", r.Invocation, checkURITemplate},
		{"builder", r.Builder, checkURITemplate},
		{"buildType", r.BuildType, checkURI},
	}
}

func (l Link) validate(kind, at string) error {
	if l.Subject == "" && len(l.Claims) == 0 {
		return fault(at, "matches everybody: want subject or claims, or source beside the links")
	}
	if l.Subject != "" {
		if _, err := glob.CompileText(l.Subject); err != nil {
			return fault(at+"/subject", err.Error())
		}
	}
	if len(l.Claims) > limits.Patterns {
		return fault(at+"/claims", fmt.Sprintf("must have at most %d claims", limits.Patterns))
	}
	for _, pattern := range l.Claims {
		if _, err := glob.CompileText(pattern); err != nil {
			return fault(at+"/claims", err.Error())
		}
	}
	if err := checkSourceTemplate(l.Source); err != nil {
		return fault(at+"/source", err.Error())
	}
	if l.Builder == "" {
		return nil
	}
	if !slices.Contains(allowed(kind), "builder") {
		return fault(at+"/builder", "is not for this kind: its tokens name the builder")
	}
	if err := checkURITemplate(l.Builder); err != nil {
		return fault(at+"/builder", err.Error())
	}
	return nil
}

func (r Rules) validateBuilders() error {
	if len(r.Builders) > limits.Patterns {
		return fault("/builders", fmt.Sprintf("must have at most %d rules", limits.Patterns))
	}
	for i, b := range r.Builders {
		if _, err := glob.CompileText(b.Builder); err != nil {
			return fault(fmt.Sprintf("/builders/%d/builder", i), err.Error())
		}
		if b.MaxLevel < 0 || b.MaxLevel > 3 {
			return fault(fmt.Sprintf("/builders/%d/maxLevel", i), "must be 0 to 3")
		}
	}
	return nil
}

// link is the source and the builder template of an identity.
func (r Rules) link(id identity.Identity) (source, builder string) {
	for _, l := range r.Links {
		if l.matches(id) {
			if l.Builder != "" {
				return l.Source, l.Builder
			}
			return l.Source, r.Builder
		}
	}
	return r.Source, r.Builder
}

func (l Link) matches(id identity.Identity) bool {
	if l.Subject != "" && !textMatches(l.Subject, id.Subject) {
		return false
	}
	for claim, pattern := range l.Claims {
		if !textMatches(pattern, id.Claims[claim]) {
			return false
		}
	}
	return l.Subject != "" || len(l.Claims) > 0
}

// textMatches treats a pattern that does not compile as one that matches
// nothing; Validate refuses it.
func textMatches(pattern, s string) bool {
	compiled, err := glob.CompileText(pattern)
	return err == nil && compiled.Match(s)
}

func fault(pointer, problem string) error {
	return &strictjson.FieldError{Pointer: pointer, Problem: strings.TrimSpace(problem)}
}
