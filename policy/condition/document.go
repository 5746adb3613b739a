package condition

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strconv"
	"sync"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/countersign/countersign/internal/limits"
)

// Document is a JSON document that passed strictjson.Check, as expressions see
// it. What they visit is indexed once, for all of them. It is safe for
// concurrent use.
type Document struct{ root ref.Val }

// NewDocument presents raw, which must not be changed.
func NewDocument(raw []byte) *Document {
	return &Document{root: valueOf(bytes.TrimLeft(raw, " \t\r\n"))}
}

func (d *Document) value() ref.Val {
	if d == nil {
		return types.NullValue
	}
	return d.root
}

// Text is the text at a path of member names, if there is one.
func (d *Document) Text(path ...string) (string, bool) {
	v := d.value()
	for _, name := range path {
		o, ok := v.(*object)
		if !ok {
			return "", false
		}
		if v, ok = o.Find(types.String(name)); !ok {
			return "", false
		}
	}
	text, ok := v.(types.String)
	return string(text), ok
}

const (
	textInexact = "a whole number that a double does not hold exactly"
	textCrowded = "an object or list with too many members"
	textLong    = "a text that is too long"
	textWhole   = "an object or list that is too large to be compared as a whole"
	// exact is from where on doubles do not hold every whole number.
	exact = 1 << 53
	// heavy is from which size on the index of a member is kept with its
	// parent: below, making it again costs less than keeping it.
	heavy = 4 << 10
)

// valueOf is one JSON value, which begins with its first byte.
func valueOf(raw []byte) ref.Val {
	if len(raw) == 0 {
		return types.NullValue
	}
	switch raw[0] {
	case '{':
		return &object{node{raw: raw}}
	case '[':
		return &list{node{raw: raw}}
	case '"':
		if len(raw) > limits.ConditionText {
			return types.NewErr(textLong)
		}
		text, err := jsontext.AppendUnquote(nil, raw)
		if err != nil {
			return types.NewErr("malformed text")
		}
		return types.String(text)
	case 't', 'f':
		return types.Bool(raw[0] == 't')
	case 'n':
		return types.NullValue
	default:
		return numberOf(raw)
	}
}

// numberOf is a double, as the specification of CEL maps JSON.
func numberOf(raw []byte) ref.Val {
	n, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || math.Abs(n) >= exact && !bytes.ContainsAny(raw, ".eE") {
		return types.NewErr(textInexact)
	}
	return types.Double(n)
}

// span is where a member stands in its parent's bytes.
type span struct{ from, to int32 }

// node is an object or list whose members are decoded when they are asked for.
type node struct {
	raw []byte

	once sync.Once
	// err, spans and names are set by once: the members in their order, and
	// their places by name.
	err   error
	spans []span
	names map[string]int32
	order []string

	mu sync.Mutex
	// kept are the heavy members that were visited; guarded by mu.
	kept map[int]ref.Val
}

func (n *node) index() error {
	n.once.Do(func() { n.err = n.read() })
	return n.err
}

func (n *node) read() error {
	dec := jsontext.NewDecoder(bytes.NewBuffer(n.raw))
	open, err := dec.ReadToken()
	if err != nil {
		return err
	}
	isObject := open.Kind() == jsontext.KindBeginObject
	for dec.PeekKind() != jsontext.KindEndObject && dec.PeekKind() != jsontext.KindEndArray {
		if len(n.spans) >= limits.ConditionMembers {
			return errors.New(textCrowded)
		}
		if isObject {
			name, err := dec.ReadToken()
			if err != nil {
				return err
			}
			n.order = append(n.order, name.String())
		}
		value, err := dec.ReadValue()
		if err != nil {
			return err
		}
		to := dec.InputOffset()
		n.spans = append(n.spans, span{int32(to) - int32(len(value)), int32(to)}) //nolint:gosec // documents are below limits.Bundle
	}
	if isObject {
		n.names = make(map[string]int32, len(n.order))
		for i, name := range n.order {
			n.names[name] = int32(i)
		}
	}
	return nil
}

// member decodes the i-th member; the index must have been made.
func (n *node) member(i int) ref.Val {
	at := n.spans[i]
	raw := n.raw[at.from:at.to]
	if len(raw) < heavy {
		return valueOf(raw)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if v, ok := n.kept[i]; ok {
		return v
	}
	if n.kept == nil {
		n.kept = make(map[int]ref.Val)
	}
	v := valueOf(raw)
	n.kept[i] = v
	return v
}

// whole decodes all of it, for the rare operation that needs that: what CEL
// charges for one does not grow with the parts of the parts.
func (n *node) whole() ref.Val {
	if len(n.raw) > limits.ConditionText {
		return types.NewErr(textWhole)
	}
	var tree any
	if err := json.Unmarshal(n.raw, &tree); err != nil {
		return types.NewErr("malformed document")
	}
	return types.DefaultTypeAdapter.NativeToValue(tree)
}

func (n *node) size() ref.Val {
	if err := n.index(); err != nil {
		return types.WrapErr(err)
	}
	return types.Int(len(n.spans))
}

// object is a JSON object as CEL's map.
type object struct{ node }

// Find is a member by name.
func (o *object) Find(key ref.Val) (ref.Val, bool) {
	name, ok := key.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(key), false
	}
	if err := o.index(); err != nil {
		return types.WrapErr(err), false
	}
	i, ok := o.names[string(name)]
	if !ok {
		return nil, false
	}
	v := o.member(int(i))
	return v, !types.IsError(v)
}

// Get is a member by name, or an error.
func (o *object) Get(key ref.Val) ref.Val {
	v, found := o.Find(key)
	switch {
	case found, v != nil:
		return v
	default:
		return types.ValOrErr(key, "no such key")
	}
}

// Contains reports whether there is such a member.
func (o *object) Contains(key ref.Val) ref.Val {
	v, found := o.Find(key)
	if !found && v != nil {
		return v
	}
	return types.Bool(found)
}

// Size is the number of members.
func (o *object) Size() ref.Val { return o.size() }

// Iterator walks the names.
func (o *object) Iterator() traits.Iterator {
	err := o.index()
	return &iterator{n: len(o.order), err: err, at: func(i int) ref.Val { return types.String(o.order[i]) }}
}

// ConvertToNative decodes the whole object.
func (o *object) ConvertToNative(t reflect.Type) (any, error) { return o.whole().ConvertToNative(t) }

// ConvertToType decodes the whole object.
func (o *object) ConvertToType(t ref.Type) ref.Val { return o.whole().ConvertToType(t) }

// Equal compares the whole object.
func (o *object) Equal(other ref.Val) ref.Val { return equal(o.whole(), other) }

// Type is CEL's map.
func (o *object) Type() ref.Type { return types.MapType }

// Value is the decoded object.
func (o *object) Value() any { return o.whole().Value() }

// list is a JSON list as CEL's.
type list struct{ node }

// Get is a member by place, or an error.
func (l *list) Get(index ref.Val) ref.Val {
	i, ok := whole(index)
	if !ok {
		return types.ValOrErr(index, "no such overload: index is not a whole number")
	}
	if err := l.index(); err != nil {
		return types.WrapErr(err)
	}
	if i < 0 || i >= len(l.spans) {
		return types.NewErr("no such key: index out of range")
	}
	return l.member(i)
}

// whole is a number that may be an index, whatever CEL's type of it.
func whole(index ref.Val) (int, bool) {
	switch n := index.(type) {
	case types.Int:
		return int(n), int64(n) == int64(int32(n)) //nolint:gosec // compared with itself
	case types.Uint:
		return int(int32(n)), n <= math.MaxInt32 //nolint:gosec // compared with the largest
	case types.Double:
		return int(n), float64(n) == math.Trunc(float64(n)) && math.Abs(float64(n)) <= math.MaxInt32
	}
	return 0, false
}

// Contains reports whether a member equals the value.
func (l *list) Contains(value ref.Val) ref.Val {
	if types.IsUnknownOrError(value) {
		return value
	}
	if err := l.index(); err != nil {
		return types.WrapErr(err)
	}
	for i := range l.spans {
		v := l.member(i)
		if types.IsError(v) {
			return v
		}
		if types.Equal(value, v) == types.True {
			return types.True
		}
	}
	return types.False
}

// Add is a list of the members of both.
func (l *list) Add(other ref.Val) ref.Val {
	whole, ok := l.whole().(traits.Adder)
	if !ok {
		return l.whole()
	}
	return whole.Add(other)
}

// Size is the number of members.
func (l *list) Size() ref.Val { return l.size() }

// Iterator walks the members.
func (l *list) Iterator() traits.Iterator {
	err := l.index()
	return &iterator{n: len(l.spans), err: err, at: l.member}
}

// ConvertToNative decodes the whole list.
func (l *list) ConvertToNative(t reflect.Type) (any, error) { return l.whole().ConvertToNative(t) }

// ConvertToType decodes the whole list.
func (l *list) ConvertToType(t ref.Type) ref.Val { return l.whole().ConvertToType(t) }

// Equal compares the whole list.
func (l *list) Equal(other ref.Val) ref.Val { return equal(l.whole(), other) }

// Type is CEL's list.
func (l *list) Type() ref.Type { return types.ListType }

// Value is the decoded list.
func (l *list) Value() any { return l.whole().Value() }

func equal(a, b ref.Val) ref.Val {
	switch v := b.(type) {
	case *object:
		b = v.whole()
	case *list:
		b = v.whole()
	}
	if types.IsUnknownOrError(a) {
		return a
	}
	return a.Equal(b)
}

// iterator walks n values. CEL's has no place for an error, so that a document
// that cannot be read is one value that is an error.
type iterator struct {
	ref.Val // never asked
	n, next int
	err     error
	at      func(int) ref.Val
}

// HasNext reports whether Next has one.
func (i *iterator) HasNext() ref.Val {
	if i.err != nil {
		return types.Bool(i.next == 0)
	}
	return types.Bool(i.next < i.n)
}

// Next is the next value.
func (i *iterator) Next() ref.Val {
	i.next++
	if i.err != nil {
		return types.WrapErr(i.err)
	}
	return i.at(i.next - 1)
}

var (
	_ traits.Mapper   = (*object)(nil)
	_ traits.Lister   = (*list)(nil)
	_ traits.Iterator = (*iterator)(nil)
)
