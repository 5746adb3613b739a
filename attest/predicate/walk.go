package predicate

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/countersign/countersign/internal/limits"
)

// errEnough ends a walk that has found limits.FieldErrors faults.
var errEnough = errors.New("enough faults")

// walker reads a document once, token by token, and judges it by a rule.
type walker struct {
	dec    *jsontext.Decoder
	faults FieldErrors
}

// found is what a walk over one value tells the rule around it.
type found struct {
	present bool
	// text is that of a string or number, or of an object's title.
	text string
}

func walk(document []byte, r *rule) error {
	w := &walker{dec: jsontext.NewDecoder(bytes.NewBuffer(document))}
	err := w.document(r)
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	if len(w.faults) > 0 {
		return w.faults
	}
	return nil
}

func (w *walker) document(r *rule) error {
	if kind := w.dec.PeekKind(); kind != jsontext.KindBeginObject && kind != jsontext.KindInvalid {
		return w.fault("", "is not an object: want a JSON object in braces")
	}
	if _, err := w.value(r); err != nil {
		return err
	}
	if _, err := w.dec.ReadToken(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: data after the document, at byte %d", ErrPredicate, w.dec.InputOffset())
	}
	return nil
}

// fault notes a fault at a place.
func (w *walker) fault(pointer, problem string) error {
	w.faults = append(w.faults, &FieldError{Pointer: pointer, Problem: problem})
	if len(w.faults) >= limits.FieldErrors {
		return errEnough
	}
	return nil
}

// here notes a fault of the value whose last or first token was just read.
func (w *walker) here(problem string) error { return w.fault(string(w.dec.StackPointer()), problem) }

// broken describes what the decoder could not read.
func (w *walker) broken(err error) error {
	var syntax *jsontext.SyntacticError
	if errors.As(err, &syntax) && errors.Is(err, jsontext.ErrDuplicateName) {
		return FieldErrors{{Pointer: string(syntax.JSONPointer), Problem: "is there twice: keep one, since readers differ in which they take"}}
	}
	return fmt.Errorf("%w: malformed JSON at byte %d", ErrPredicate, w.dec.InputOffset())
}

// value reads one value and judges it.
func (w *walker) value(r *rule) (found, error) {
	kind := w.dec.PeekKind()
	switch {
	case kind == jsontext.KindNull:
		return found{}, w.skip()
	case kind == jsontext.KindInvalid:
		_, err := w.dec.ReadToken()
		return found{}, w.broken(err)
	case kindsOf(kind)&r.kinds == 0:
		return w.otherKind(kind, r)
	case kind == jsontext.KindBeginObject:
		return w.object(r)
	case kind == jsontext.KindBeginArray:
		return w.list(r)
	}
	return w.scalar(kind, r)
}

func kindsOf(kind jsontext.Kind) kinds {
	switch kind {
	case jsontext.KindString:
		return aText
	case jsontext.KindNumber:
		return aNumber
	case jsontext.KindTrue, jsontext.KindFalse:
		return aBoolean
	case jsontext.KindBeginArray:
		return anArray
	case jsontext.KindBeginObject:
		return anObject
	}
	return 0
}

// otherKind passes over a value of a type that may not stand here. It counts as
// present, so that one mistake is one fault.
func (w *walker) otherKind(kind jsontext.Kind, r *rule) (found, error) {
	if err := w.skip(); err != nil {
		return found{}, err
	}
	return found{present: true}, w.here("is " + kindsOf(kind).String() + ": want " + r.want)
}

// skip reads one value, whatever it is.
func (w *walker) skip() error {
	depth := w.dec.StackDepth()
	for {
		if _, err := w.dec.ReadToken(); err != nil {
			return w.broken(err)
		}
		if err := w.checkDepth(); err != nil {
			return err
		}
		if w.dec.StackDepth() <= depth {
			return nil
		}
	}
}

func (w *walker) checkDepth() error {
	if w.dec.StackDepth() > limits.JSONDepth {
		return fmt.Errorf("%w: nested deeper than %d levels", ErrPredicate, limits.JSONDepth)
	}
	return nil
}

func (w *walker) scalar(kind jsontext.Kind, r *rule) (found, error) {
	raw, err := w.dec.ReadValue()
	if err != nil {
		return found{}, w.broken(err)
	}
	f := found{present: true}
	switch kind {
	case jsontext.KindString:
		f.text, f.present = unquote(raw), r.blank || len(raw) > len(`""`)
	case jsontext.KindNumber:
		f.text = string(raw)
	}
	if f.present && r.value != nil && !r.value(f.text) {
		return f, w.here("is invalid: want " + r.want)
	}
	return f, nil
}

// unquote is the text of a string that the decoder accepted.
func unquote(raw jsontext.Value) string {
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1])
	}
	plain, err := jsontext.AppendUnquote(nil, raw)
	if err != nil {
		return ""
	}
	return string(plain)
}

// open reads the bracket that opens a list or object.
func (w *walker) open() error {
	if _, err := w.dec.ReadToken(); err != nil {
		return w.broken(err)
	}
	return w.checkDepth()
}

// closed reads the bracket that closes what was opened.
func (w *walker) closed() error {
	if _, err := w.dec.ReadToken(); err != nil {
		return w.broken(err)
	}
	return nil
}

func (w *walker) list(r *rule) (found, error) {
	if err := w.open(); err != nil {
		return found{}, err
	}
	var texts []string
	n := 0
	for ; w.more(jsontext.KindEndArray); n++ {
		f, err := w.item(r)
		if err != nil {
			return found{}, err
		}
		if r.items != nil {
			texts = append(texts, f.text)
		}
	}
	if err := w.closed(); err != nil {
		return found{}, err
	}
	if r.items != nil {
		if at, problem := r.items(texts); problem != "" {
			if err := w.fault(string(w.dec.StackPointer())+"/"+strconv.Itoa(at), problem); err != nil {
				return found{}, err
			}
		}
	}
	return found{present: n > 0 || !r.filled}, nil
}

func (w *walker) item(r *rule) (found, error) {
	if r.each == nil {
		return found{}, w.skip()
	}
	f, err := w.value(r.each)
	if err == nil && !f.present {
		err = w.here("is null or empty: want " + r.each.want)
	}
	return f, err
}

// more reports whether another item or member comes. On broken input it is true:
// what reads next says what is broken.
func (w *walker) more(end jsontext.Kind) bool { return w.dec.PeekKind() != end }

func (w *walker) object(r *rule) (found, error) {
	if err := w.open(); err != nil {
		return found{}, err
	}
	h := held{rule: r}
	n := 0
	for ; w.more(jsontext.KindEndObject); n++ {
		if err := w.member(r, &h); err != nil {
			return found{}, err
		}
	}
	if err := w.closed(); err != nil {
		return found{}, err
	}
	if err := w.missing(h); err != nil {
		return found{}, err
	}
	if err := w.whole(h); err != nil {
		return found{}, err
	}
	return found{present: n > 0 || !r.filled, text: h.texts[r.title]}, nil
}

func (w *walker) whole(h held) error {
	if h.rule.whole == nil {
		return nil
	}
	var enough error
	h.rule.whole(h, func(name, problem string) {
		if enough == nil {
			enough = w.fault(w.below(name), problem)
		}
	})
	return enough
}

// below is the pointer of a member of the object that was just closed.
func (w *walker) below(name string) string {
	if name == "" {
		return string(w.dec.StackPointer())
	}
	return string(w.dec.StackPointer().AppendToken(name))
}

// missing notes each required member that the object lacks.
func (w *walker) missing(h held) error {
	var names []string
	for name, m := range h.rule.members {
		if m.required && h.bits&m.bit == 0 {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		return bits.TrailingZeros64(h.rule.members[a].bit) - bits.TrailingZeros64(h.rule.members[b].bit)
	})
	for _, name := range names {
		if err := w.fault(w.below(name), "is missing or empty: want "+h.rule.members[name].rule.want); err != nil {
			return err
		}
	}
	return nil
}

// member reads one name and its value.
func (w *walker) member(r *rule, h *held) error {
	raw, err := w.dec.ReadValue()
	if err != nil {
		return w.broken(err)
	}
	name := raw[1 : len(raw)-1]
	if bytes.IndexByte(name, '\\') >= 0 {
		name = []byte(unquote(raw))
	}
	m, known := r.members[string(name)]
	if !known {
		return w.other(r, name)
	}
	f, err := w.value(m.rule)
	if err != nil || !f.present {
		return err
	}
	h.bits |= m.bit
	if m.keep && f.text != "" {
		if h.texts == nil {
			h.texts = map[string]string{}
		}
		h.texts[m.name] = f.text
	}
	return nil
}

// other reads the value of a member that no rule knows by name.
func (w *walker) other(r *rule, name []byte) error {
	if known := r.near(name); known != "" {
		if err := w.here("differs from " + known + " only in case: readers disagree whether it is meant"); err != nil {
			return err
		}
	}
	if r.each == nil {
		return w.skip()
	}
	key := ""
	if r.pair != nil {
		key = string(name)
	}
	f, err := w.value(r.each)
	if err == nil && r.dense && !f.present {
		err = w.here("is null or empty: want " + r.each.want)
	}
	if err != nil || r.pair == nil {
		return err
	}
	if want := r.pair(key, f.text); want != "" {
		return w.here("is invalid: want " + want)
	}
	return nil
}

// near is the known name that a reader would take a name for who matches names
// in any case, or empty.
func (r *rule) near(name []byte) string {
	lower := make([]byte, 0, maxFolded)
	for _, c := range name {
		switch {
		case c >= utf8.RuneSelf:
			return r.nearUnicode(string(name))
		case len(lower) == maxFolded:
			return ""
		case 'A' <= c && c <= 'Z':
			c |= 0x20
		}
		lower = append(lower, c)
	}
	return r.folded[string(lower)]
}

// maxFolded is longer than any known name.
const maxFolded = 32

func (r *rule) nearUnicode(name string) string {
	for known := range r.members {
		if strings.EqualFold(known, name) {
			return known
		}
	}
	return ""
}
