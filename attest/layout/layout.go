package layout

import (
	"errors"
	"fmt"
	"time"

	"github.com/in-toto/in-toto-golang/in_toto"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
)

// ErrLayout is wrapped by errors of Parse.
var ErrLayout = errors.New("invalid layout")

// Layout is a layout that can be judged by. It is immutable and safe for
// concurrent use.
type Layout struct {
	steps   []in_toto.Step
	edges   [][]edge
	keys    map[string]key
	expires time.Time
}

// Expires is from when on no link satisfies the layout.
func (l *Layout) Expires() time.Time { return l.expires }

// Parse reads a layout: the JSON that stands under `signed` in a layout file,
// with unknown fields, duplicate names and everything that the package says it
// refuses refused. Errors wrap ErrLayout and name the step.
func Parse(document []byte) (*Layout, error) {
	if len(document) > limits.PolicyDocument {
		return nil, fmt.Errorf("%w: larger than %d bytes", ErrLayout, limits.PolicyDocument)
	}
	var w in_toto.Layout
	if err := strictjson.Unmarshal(document, &w); err != nil {
		if field, ok := errors.AsType[*strictjson.FieldError](err); ok && field.Pointer == "/signed" {
			return nil, fmt.Errorf("%w: it is wrapped: give what stands under signed", ErrLayout)
		}
		return nil, fmt.Errorf("%w: %w", ErrLayout, err)
	}
	if err := checkLayout(w); err != nil {
		return nil, err
	}
	expires, err := time.Parse(in_toto.ISO8601DateSchema, w.Expires)
	if err != nil {
		return nil, fmt.Errorf("%w: expires: want a time in UTC, such as 2027-01-02T15:04:05Z", ErrLayout)
	}
	l := &Layout{steps: w.Steps, expires: expires}
	if l.keys, err = readKeys(w.Keys); err != nil {
		return nil, err
	}
	if err := l.checkSteps(); err != nil {
		return nil, err
	}
	if err := l.checkJoined(); err != nil {
		return nil, err
	}
	return l, nil
}

func checkLayout(w in_toto.Layout) error {
	switch {
	case w.Type != "layout":
		return fmt.Errorf("%w: _type: want layout", ErrLayout)
	case len(w.Inspect) > 0:
		return fmt.Errorf("%w: inspect: inspections run commands and are not taken; want []", ErrLayout)
	case len(w.RootCas) > 0 || len(w.IntermediateCas) > 0:
		return fmt.Errorf("%w: rootcas, intermediatecas: functionaries are named by keys here", ErrLayout)
	case len(w.Steps) == 0 || len(w.Steps) > limits.LayoutSteps:
		return fmt.Errorf("%w: steps: %d of them, want 1 to %d", ErrLayout, len(w.Steps), limits.LayoutSteps)
	case len(w.Keys) == 0 || len(w.Keys) > limits.LayoutKeys:
		return fmt.Errorf("%w: keys: %d of them, want 1 to %d", ErrLayout, len(w.Keys), limits.LayoutKeys)
	}
	return nil
}

func (l *Layout) checkSteps() error {
	rules := 0
	names := make(map[string]bool, len(l.steps))
	for _, s := range l.steps {
		if s.Name == "" || names[s.Name] {
			return fmt.Errorf("%w: steps: a name is empty or given twice", ErrLayout)
		}
		names[s.Name] = true
		rules += len(s.ExpectedMaterials) + len(s.ExpectedProducts)
	}
	if rules > limits.LayoutRules {
		return fmt.Errorf("%w: %d rules, at most %d", ErrLayout, rules, limits.LayoutRules)
	}
	for _, s := range l.steps {
		if err := l.checkStep(s); err != nil {
			return fmt.Errorf("%w: step %q: %w", ErrLayout, s.Name, err)
		}
		edges, err := checkRules(s, names)
		if err != nil {
			return fmt.Errorf("%w: step %q: %w", ErrLayout, s.Name, err)
		}
		l.edges = append(l.edges, edges)
	}
	return nil
}

// checkStep holds a step to a threshold that different keys can meet.
func (l *Layout) checkStep(s in_toto.Step) error {
	if s.Type != "step" || len(s.CertificateConstraints) > 0 {
		return errors.New("_type is not step, or there are certificate constraints")
	}
	seen := make(map[string]bool, len(s.PubKeys))
	for _, id := range s.PubKeys {
		if _, known := l.keys[id]; !known || seen[id] {
			return errors.New("pubkeys: an id is not among the layout's keys, or given twice")
		}
		seen[id] = true
	}
	if s.Threshold < 1 || s.Threshold > len(s.PubKeys) {
		return fmt.Errorf("threshold: %d of %d keys, want 1 to all of them", s.Threshold, len(s.PubKeys))
	}
	return nil
}

// checkJoined refuses steps that MATCH rules do not join, over whatever other
// steps, to the last one: links of another build could stand for them.
func (l *Layout) checkJoined() error {
	joined := map[string]bool{l.steps[len(l.steps)-1].Name: true}
	for range l.steps {
		for i, s := range l.steps {
			for _, e := range l.edges[i] {
				if joined[s.Name] || joined[e.from] {
					joined[s.Name], joined[e.from] = true, true
				}
			}
		}
	}
	for _, s := range l.steps {
		if !joined[s.Name] {
			return fmt.Errorf("%w: step %q: no MATCH rule joins it to the last step, so any link would do for it", ErrLayout, s.Name)
		}
	}
	return nil
}

// step is the step of a name.
func (l *Layout) step(name string) (in_toto.Step, bool) {
	for _, s := range l.steps {
		if s.Name == name {
			return s, true
		}
	}
	return in_toto.Step{}, false
}
