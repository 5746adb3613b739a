package admission

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/countersign/countersign/internal/limits"
)

// step is one step of a path: into the member of that name, or with name empty
// into every element.
type step struct{ name string }

// parsePath reads a path:
//
//	path = name *( "." name / "[*]" )
//
// A name has no dot, bracket, asterisk, quotation mark, white space or control
// character.
func parsePath(text string) ([]step, error) {
	if text == "" || len(text) > limits.AdmissionPath {
		return nil, fault("path", fmt.Sprintf("want 1 to %d bytes", limits.AdmissionPath))
	}
	var steps []step
	for _, part := range strings.Split(text, ".") {
		name, rest, starred := strings.Cut(part, "[*]")
		if name == "" || strings.ContainsFunc(name, notInName) {
			return nil, fault("path", "want names separated by dots, with [*] after a name for every element")
		}
		steps = append(steps, step{name})
		for starred {
			steps = append(steps, step{})
			name, rest, starred = strings.Cut(rest, "[*]")
			if name != "" || !starred && rest != "" {
				return nil, fault("path", "want nothing but a dot or another [*] after [*]")
			}
		}
	}
	if len(steps) > limits.AdmissionSteps {
		return nil, fault("path", fmt.Sprintf("want at most %d steps", limits.AdmissionSteps))
	}
	return steps, nil
}

func notInName(r rune) bool {
	return strings.ContainsRune("[]*'\"`", r) || unicode.IsSpace(r) || unicode.IsControl(r) || r == unicode.ReplacementChar
}

type leaf int

const (
	leafNone leaf = iota
	// leafImage is an image reference.
	leafImage
	// leafPod is a pod specification.
	leafPod
)

// node is a place on the way to images, so that one pass over an object serves
// all of its paths.
type node struct {
	members map[string]*node
	every   *node
	leaf    leaf
}

// names are of the members that lead somewhere.
func (n *node) names() []string {
	names := make([]string, 0, len(n.members))
	for name := range n.members {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// plant adds a path. What one path takes for a value another must not take for
// a place with more below, nor for a list if that takes it for an object.
func (n *node) plant(path string, l leaf) error {
	steps, err := parsePath(path)
	if err != nil {
		return err
	}
	for _, s := range steps {
		if n.leaf != leafNone || s.name == "" && len(n.members) > 0 || s.name != "" && n.every != nil {
			return fault("path", "contradicts another path of the same kind")
		}
		n = n.step(s)
	}
	if n.leaf != leafNone || len(n.members) > 0 || n.every != nil {
		return fault("path", "contradicts or repeats another path of the same kind")
	}
	n.leaf = l
	return nil
}

func (n *node) step(s step) *node {
	if s.name == "" {
		if n.every == nil {
			n.every = &node{}
		}
		return n.every
	}
	if n.members == nil {
		n.members = map[string]*node{}
	}
	if n.members[s.name] == nil {
		n.members[s.name] = &node{}
	}
	return n.members[s.name]
}
