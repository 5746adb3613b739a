package convert

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// reader walks foreign documents and keeps one line for each leaf.
type reader struct {
	options Options
	lines   map[string]Line
	// notes are lines of no leaf: about a field that is not there, or a policy.
	notes []Line
	// dropped are the places of authorities that are not produced and whose
	// refusal does not refuse the policy.
	dropped map[string]bool
	// after are refusals that do not hinder a policy: those that the caller
	// accepts, and what is still to be done for it.
	after  []Line
	drafts []*draft
	roots  []NamedRoot
	names  map[string]bool
}

func newReader(options Options) *reader {
	return &reader{options: options, lines: map[string]Line{}, dropped: map[string]bool{}, names: map[string]bool{}}
}

// field is one value of a document and its place. What is absent has a place too,
// so that it can be complained about.
type field struct {
	r    *reader
	at   string
	v    any
	here bool
}

func (r *reader) root(at string, v any) field { return field{r: r, at: at, v: v, here: true} }

// get is a member, absent when there is none or it is null.
func (f field) get(names ...string) field {
	for _, name := range names {
		m, _ := f.v.(map[string]any)
		v := m[name]
		f = field{r: f.r, at: f.at + "/" + escape(name), v: v, here: v != nil}
	}
	return f
}

func (f field) present() bool { return f.here }

// members are an object's members by name, null ones too.
func (f field) members() []field {
	m, _ := f.v.(map[string]any)
	out := make([]field, 0, len(m))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		out = append(out, field{r: f.r, at: f.at + "/" + escape(name), v: m[name], here: true})
	}
	return out
}

// name is the last step of a field's place.
func (f field) name() string {
	last := f.at[strings.LastIndex(f.at, "/")+1:]
	return strings.ReplaceAll(strings.ReplaceAll(last, "~1", "/"), "~0", "~")
}

// items are the members of a list.
func (f field) items() []field {
	list, _ := f.v.([]any)
	out := make([]field, 0, len(list))
	for i, v := range list {
		out = append(out, field{r: f.r, at: fmt.Sprintf("%s/%d", f.at, i), v: v, here: true})
	}
	return out
}

// text is a string, or "" when it is absent or something else.
func (f field) text() string {
	s, _ := f.v.(string)
	return s
}

// is reports whether the field is there and has one of the values.
func (f field) is(values ...any) bool {
	switch f.v.(type) {
	case map[string]any, []any:
		return false
	}
	return f.present() && slices.Contains(values, f.v)
}

// leaves are the places of what has nothing below it.
func (f field) leaves() []field {
	below := slices.Concat(f.members(), f.items())
	if len(below) == 0 {
		return []field{f}
	}
	var out []field
	for _, b := range below {
		out = append(out, b.leaves()...)
	}
	return out
}

func rank(o Outcome) int { return slices.Index([]Outcome{Exact, Narrowed, Refused}, o) }

// note says what became of a field and all below it. The worst word on a leaf
// stands.
func (f field) note(o Outcome, format string, args ...any) {
	if !f.present() {
		return
	}
	detail := fmt.Sprintf(format, args...)
	for _, leaf := range f.leaves() {
		if had, noted := f.r.lines[leaf.at]; !noted || rank(o) > rank(had.Outcome) {
			f.r.lines[leaf.at] = Line{Source: leaf.at, Outcome: o, Detail: detail}
		}
	}
}

func (f field) exact(format string, args ...any)    { f.note(Exact, format, args...) }
func (f field) narrowed(format string, args ...any) { f.note(Narrowed, format, args...) }
func (f field) refuse(format string, args ...any)   { f.note(Refused, format, args...) }

// want notes a field that may only have some values.
func (f field) want(detail string, values ...any) {
	if f.is(values...) {
		f.exact("%s", detail)
		return
	}
	f.refuse("want one of %v", values)
}

// remark adds a line about something that is not there, or about the whole.
func (f field) remark(o Outcome, below, format string, args ...any) {
	f.r.notes = append(f.r.notes, Line{Source: f.at + below, Outcome: o, Detail: fmt.Sprintf(format, args...)})
}

// sweep refuses every leaf that nothing was said of: nobody here knows what it
// restricts.
func (f field) sweep() {
	for _, leaf := range f.leaves() {
		switch _, noted := f.r.lines[leaf.at]; {
		case noted:
		case leaf.v == nil:
			leaf.exact("is null and says nothing")
		default:
			leaf.refuse("is not known here, so neither is what it restricts: remove it if it may go")
		}
	}
}

// sound sweeps and reports whether nothing below was refused, apart from
// authorities that were dropped.
func (f field) sound() bool {
	f.sweep()
	for _, leaf := range f.leaves() {
		if f.r.lines[leaf.at].Outcome == Refused && !f.r.isDropped(leaf.at, f.at) {
			return false
		}
	}
	return !slices.ContainsFunc(f.r.notes, func(l Line) bool {
		return l.Outcome == Refused && within(l.Source, f.at) && !f.r.isDropped(l.Source, f.at)
	})
}

func within(at, above string) bool { return at == above || strings.HasPrefix(at, above+"/") }

func (r *reader) isDropped(at, below string) bool {
	for place := range r.dropped {
		if within(at, place) && within(place, below) && place != below {
			return true
		}
	}
	return false
}

// void refuses all of a field that was not refused before: it belongs to
// something that is not produced.
func (f field) void(format string, args ...any) {
	f.sweep()
	f.refuse(format, args...)
}

// drop gives up one of several alternatives, which leaves fewer.
func (f field) drop(reason string) {
	f.void("%s", reason)
	f.r.dropped[f.at] = true
}

// result is the drafts that stand, and the report in the order of the documents.
func (r *reader) result(roots []field) Result {
	out := Result{Policies: []Document{}, TrustRoots: []NamedRoot{}, Report: []Line{}}
	r.withdraw()
	for _, d := range r.drafts {
		if document, ok := d.document(); ok {
			out.Policies = append(out.Policies, document)
		}
	}
	out.TrustRoots = append(out.TrustRoots, r.roots...)
	for _, root := range roots {
		root.sweep()
		for _, leaf := range root.leaves() {
			out.Report = append(out.Report, r.lines[leaf.at])
		}
	}
	slices.SortStableFunc(r.notes, func(a, b Line) int { return cmp.Compare(a.Source, b.Source) })
	out.Report = append(append(out.Report, r.notes...), r.after...)
	return out
}
