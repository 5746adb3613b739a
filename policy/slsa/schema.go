package slsa

import (
	"encoding/json"
	"strings"
)

// schema is what is known of a build type.
type schema struct {
	source func(external map[string]json.RawMessage, dependencies []*dependency) (Source, bool)
	// fixed are the external parameters that say what is built by which
	// definition, and not what the caller of the build wants.
	fixed []string
}

func schemaOf(buildType string) schema {
	switch buildType {
	case "https://actions.github.io/buildtypes/workflow/v1",
		"https://slsa-framework.github.io/github-actions-buildtypes/workflow/v1",
		"https://countersign.dev/buildtypes/gitlab/v1",
		"https://countersign.dev/buildtypes/buildkite/v1",
		"https://countersign.dev/buildtypes/circleci/v1",
		"https://countersign.dev/buildtypes/kubernetes/v1",
		"https://countersign.dev/buildtypes/generic/v1":
		return schema{source: fromMembers("source", "workflow"), fixed: []string{"source", "workflow"}}
	case "https://slsa.dev/container-based-build/v0.1", "https://slsa.dev/container-based-build/v0.1?draft":
		return schema{source: fromURI, fixed: []string{"source"}}
	case "https://cloud.google.com/build/gcb-buildtypes/google-worker/v1":
		return schema{source: fromMembers("buildConfigSource"), fixed: []string{"buildConfigSource"}}
	case "https://docs.gitlab.com/ci/pipeline_security/slsa/provenance_v1":
		return schema{source: fromURI, fixed: []string{"source"}}
	}
	switch {
	case strings.HasPrefix(buildType, "https://gitlab.com/gitlab-org/gitlab-runner/-/blob/") && strings.HasSuffix(buildType, "/PROVENANCE.md"):
		return schema{source: fromURI, fixed: []string{"source"}}
	case strings.HasPrefix(buildType, "https://github.com/slsa-framework/slsa-github-generator/delegator-"):
		return schema{source: fromFirstDependency}
	}
	return schema{source: fromOnlyDependency}
}

// fromMembers reads {repository, ref} of the first of the parameters that is
// there.
func fromMembers(parameters ...string) func(map[string]json.RawMessage, []*dependency) (Source, bool) {
	return func(external map[string]json.RawMessage, _ []*dependency) (Source, bool) {
		for _, name := range parameters {
			raw, ok := external[name]
			if !ok {
				continue
			}
			var w struct {
				Repository string `json:"repository"`
				Ref        string `json:"ref,omitzero"`
			}
			if decode(raw, &w) != nil {
				return Source{}, false
			}
			s, err := ParseSource(w.Repository)
			if err != nil || s.Ref != "" {
				return Source{}, false
			}
			s.Ref = w.Ref
			return s, true
		}
		return Source{}, false
	}
}

// fromURI reads the parameter source: a URI, or an object with one.
func fromURI(external map[string]json.RawMessage, dependencies []*dependency) (Source, bool) {
	raw := external["source"]
	var uri string
	if json.Unmarshal(raw, &uri) != nil {
		var w dependency
		if len(raw) == 0 || decode(raw, &w) != nil {
			return Source{}, false
		}
		uri = w.URI
	}
	s, err := ParseSource(uri)
	if err != nil {
		return Source{}, false
	}
	if s.Ref == "" {
		if only, ok := fromOnlyDependency(external, dependencies); ok && only.Repository == s.Repository {
			s.Ref = only.Ref
		}
	}
	return s, true
}

func fromFirstDependency(_ map[string]json.RawMessage, dependencies []*dependency) (Source, bool) {
	if len(dependencies) == 0 || dependencies[0] == nil {
		return Source{}, false
	}
	s, err := ParseSource(dependencies[0].URI)
	return s, err == nil
}

// fromOnlyDependency is the git dependency when there is one: of several, a
// tenant could have added the one that is wanted.
func fromOnlyDependency(_ map[string]json.RawMessage, dependencies []*dependency) (Source, bool) {
	var found Source
	n := 0
	for _, d := range dependencies {
		if d == nil || !strings.HasPrefix(d.URI, "git+") {
			continue
		}
		n++
		s, err := ParseSource(d.URI)
		if err != nil {
			return Source{}, false
		}
		found = s
	}
	return found, n == 1
}
