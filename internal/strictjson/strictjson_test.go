package strictjson_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
)

type inner struct {
	Count int    `json:"count"`
	Text  string `json:"text,omitzero"`
}

type outer struct {
	Name  string            `json:"name"`
	Inner *inner            `json:"inner,omitzero"`
	List  []inner           `json:"list,omitzero"`
	Map   map[string]string `json:"map,omitzero"`
	Raw   json.RawMessage   `json:"raw,omitzero"`
}

const control = `{"name":"n","inner":{"count":1,"text":"t"},"list":[{"count":2}],"map":{"a":"b"},"raw":{"x":[1,null]}}`

func TestUnmarshal(t *testing.T) {
	want := outer{
		Name: "n", Inner: &inner{1, "t"}, List: []inner{{Count: 2}},
		Map: map[string]string{"a": "b"}, Raw: json.RawMessage(`{"x":[1,null]}`),
	}
	for name, unmarshal := range map[string]func([]byte, any) error{
		"closed": strictjson.Unmarshal, "open": strictjson.UnmarshalOpen,
	} {
		var got outer
		if err := unmarshal([]byte(" \n"+control+"\t\r\n "), &got); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// Rows A9, H7, H9: what both decoders refuse. Each case edits the control.
func TestBothRefuse(t *testing.T) {
	tests := []struct{ name, old, new string }{
		{"duplicate", `{"name"`, `{"name":"m","name"`},
		{"duplicate below", `"count":1`, `"count":0,"count":1`},
		{"duplicate in a map", `"a":"b"`, `"a":"c","a":"b"`},
		{"duplicate by escape", `"a":"b"`, `"\u0061":"c","a":"b"`},
		{"duplicate where nobody looks", `{"x":[1,null]}`, `{"x":1,"x":2}`},
		{"name in two cases", `"name":"n"`, `"Name":"m","name":"n"`},
		{"name in two cases below", `"count":1`, `"COUNT":0,"count":1`},
		{"name in another case", `"count":1`, `"Count":1`},
		{"name in another punctuation", `"count":1`, `"cou_nt":1`},
		{"name in a Unicode case", `"list":`, `"li\u017ft":`},
		{"trailing value", `]}}`, `]}}{}`},
		{"trailing brace", `]}}`, `]}}}`},
		{"trailing comma", `"count":1,`, `"count":1,,`},
		{"comment", `"count":1`, `/**/"count":1`},
		{"not UTF-8", `"n"`, "\"\xff\""},
		{"lone surrogate", `"n"`, `"\ud800"`},
		{"control character", `"n"`, "\"\x01\""},
		{"byte order mark", `{"name"`, "\ufeff{\"name\""},
		{"wrong type", `"count":1`, `"count":"1"`},
		{"fraction for a whole number", `"count":1`, `"count":1.5`},
		{"overflow", `"count":1`, `"count":99999999999999999999`},
		{"leading zero", `"count":1`, `"count":01`},
		{"single quotes", `"n"`, `'n'`},
		{"cut short", `]}}`, `]`},
		{"H9 too deep", `[1,null]`, strings.Repeat("[", limits.JSONDepth) + strings.Repeat("]", limits.JSONDepth)},
	}
	for _, tt := range tests {
		for name, unmarshal := range map[string]func([]byte, any) error{
			"closed": strictjson.Unmarshal, "open": strictjson.UnmarshalOpen,
		} {
			text := strings.Replace(control, tt.old, tt.new, 1)
			if text == control {
				t.Fatalf("the control has no %q", tt.old)
			}
			var got outer
			if err := unmarshal([]byte(text), &got); !errors.Is(err, strictjson.ErrInvalid) {
				t.Errorf("%s, %s: %v", tt.name, name, err)
			}
		}
	}
	for _, text := range []string{"", " ", "nul", "{", "[]x", "\x00"} {
		if err := strictjson.Check([]byte(text)); !errors.Is(err, strictjson.ErrInvalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestUnknownNames(t *testing.T) {
	text := strings.Replace(control, `"name":"n"`, `"name":"n","other":{"y":1}`, 1)
	var got outer
	if err := strictjson.UnmarshalOpen([]byte(text), &got); err != nil || got.Name != "n" {
		t.Errorf("open: %+v, %v", got, err)
	}
	err := strictjson.Unmarshal([]byte(text), &got)
	at, ok := errors.AsType[*strictjson.FieldError](err)
	if !ok || at.Pointer != "/other" || !errors.Is(err, strictjson.ErrInvalid) {
		t.Errorf("closed: %v", err)
	}
}

// The decoder of a wide part of our peers takes what UnmarshalOpen refuses, so
// the refusal is not idle.
func TestOtherReadersDisagree(t *testing.T) {
	var theirs outer
	if err := json.Unmarshal([]byte(`{"name":"ours","NAME":"theirs"}`), &theirs); err != nil || theirs.Name != "theirs" {
		t.Skipf("encoding/json reads %q, %v", theirs.Name, err)
	}
	var ours outer
	if err := strictjson.UnmarshalOpen([]byte(`{"name":"ours","NAME":"theirs"}`), &ours); err == nil {
		t.Errorf("read %q", ours.Name)
	}
}

func TestUnmarshalOpenReplaces(t *testing.T) {
	got := outer{Name: "before", Map: map[string]string{"old": "x"}}
	if err := strictjson.UnmarshalOpen([]byte(`{"map":{"a":"b"}}`), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(outer{Map: map[string]string{"a": "b"}}, got); diff != "" {
		t.Error(diff)
	}
	kept := outer{Name: "before"}
	if err := strictjson.UnmarshalOpen([]byte(`{"name":"n","Name":"m"}`), &kept); err == nil || kept.Name != "before" {
		t.Errorf("%+v, %v", kept, err)
	}
	for _, target := range []any{nil, outer{}, (*outer)(nil)} {
		if err := strictjson.UnmarshalOpen([]byte(`{}`), target); !errors.Is(err, strictjson.ErrInvalid) {
			t.Errorf("%T: %v", target, err)
		}
	}
}

// The depth bound is exact.
func TestDepth(t *testing.T) {
	nested := func(n int) []byte { return []byte(strings.Repeat("[", n) + strings.Repeat("]", n)) }
	if err := strictjson.Check(nested(limits.JSONDepth)); err != nil {
		t.Error(err)
	}
	if err := strictjson.Check(nested(limits.JSONDepth + 1)); err == nil {
		t.Error("one too many")
	}
	if err := strictjson.Check(nested(100_000)); err == nil {
		t.Error("far too many")
	}
}

func TestErrorsDoNotRepeatValues(t *testing.T) {
	for _, text := range []string{`{"name":["canary"]}`, `{"inner":"canary"}`, `{"name":"canary`, `{"map":{"a":{"canary":1}}}`} {
		var got outer
		err := strictjson.Unmarshal([]byte(text), &got)
		if at, ok := errors.AsType[*strictjson.FieldError](err); ok {
			err = errors.New(at.Problem)
		}
		if err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestNoNull(t *testing.T) {
	tests := []struct {
		text, pointer string
		except        []string
	}{
		{`{"a":1,"b":[{"c":"null"}],"null":false}`, "", nil},
		{`"x"`, "", nil},
		{`null`, "", nil}, // at the root: pointer "" and an error, see below
		{`{"a":{"b":null}}`, "/a/b", nil},
		{`{"a":[1,null]}`, "/a/1", nil},
		{`{"a":[{"x~/":null}]}`, "/a/0/x~0~1", nil},
		{`{"a":null}`, "", []string{"/a"}},
		{`{"a":{"b":[null]},"c":1}`, "", []string{"/a"}},
		{`{"a":{"b":[null]},"c":null}`, "/c", []string{"/a"}},
		{`{"ab":null}`, "/ab", []string{"/a"}},
		{`{"x":{"a":null}}`, "/x/a", []string{"/a"}},
		{`{"k":"/a","a":null}`, "", []string{"/a"}},
		{`{"a":"a","b":null}`, "/b", []string{"/a"}},
		{`["/a",null]`, "/1", []string{"/0"}},
	}
	for _, tt := range tests {
		err := strictjson.NoNull([]byte(tt.text), tt.except...)
		at, refused := errors.AsType[*strictjson.FieldError](err)
		if want := tt.pointer != "" || tt.text == "null"; refused != want || (refused && at.Pointer != tt.pointer) {
			t.Errorf("%s except %v: %v", tt.text, tt.except, err)
		}
	}
	for _, text := range []string{`{"a":`, `{"a":1`, `{"a":tru}`, `[1,`} {
		if err := strictjson.NoNull([]byte(text), "/a"); !errors.Is(err, strictjson.ErrInvalid) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestMarshalAndCanonical(t *testing.T) {
	b, err := strictjson.Marshal(map[string]any{"b": 1, "a": []string{"<&>"}})
	if err != nil || string(b) != `{"a":["<&>"],"b":1}` {
		t.Errorf("%s, %v", b, err)
	}
	in := []byte(`{ "b": 1.0, "a": "\u0041" }`)
	b, err = strictjson.Canonical(in)
	if err != nil || string(b) != `{"a":"A","b":1}` || string(in) != `{ "b": 1.0, "a": "\u0041" }` {
		t.Errorf("%s from %s, %v", b, in, err)
	}
	if _, err := strictjson.Canonical([]byte(`{"a":1,"a":1}`)); !errors.Is(err, strictjson.ErrInvalid) {
		t.Errorf("duplicate: %v", err)
	}
}

// What decodes marshals back to an equal value, passes Check, and means the
// same to encoding/json; what the closed decoder takes the open one takes.
func FuzzUnmarshal(f *testing.F) {
	f.Add([]byte(control))
	f.Add([]byte(`{"name":"\ud83d\ude00\u0000","map":{"":""}}`))
	f.Add([]byte(`{"name":"a","Name":"b"}`))
	f.Add([]byte(`{"inner":null,"raw":1e400}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var got, open, again, theirs outer
		if err := strictjson.Unmarshal(b, &got); err != nil {
			if !errors.Is(err, strictjson.ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		if err := strictjson.Check(b); err != nil {
			t.Fatal(err)
		}
		if err := strictjson.UnmarshalOpen(b, &open); err != nil || !reflect.DeepEqual(got, open) {
			t.Fatalf("open: %v %s", err, cmp.Diff(got, open))
		}
		if err := json.Unmarshal(b, &theirs); err != nil || cmp.Diff(got, theirs) != "" {
			t.Fatalf("encoding/json: %v %s", err, cmp.Diff(got, theirs))
		}
		marshalled, err := strictjson.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		if err := strictjson.Unmarshal(marshalled, &again); err != nil {
			t.Fatalf("%s: %v", marshalled, err)
		}
		second, err := strictjson.Marshal(again)
		if err != nil || string(second) != string(marshalled) {
			t.Fatalf("%s, then %s: %v", marshalled, second, err)
		}
	})
}

// What the open decoder takes means the same to encoding/json.
func FuzzUnmarshalOpen(f *testing.F) {
	f.Add([]byte(control))
	f.Add([]byte(`{"name":"a","later":{"Name":1}}`))
	f.Add([]byte(`{"NAME":"b"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var got, theirs outer
		if err := strictjson.UnmarshalOpen(b, &got); err != nil {
			if !errors.Is(err, strictjson.ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		if err := json.Unmarshal(b, &theirs); err != nil || cmp.Diff(got, theirs) != "" {
			t.Fatalf("encoding/json: %v %s", err, cmp.Diff(got, theirs))
		}
	})
}

// NoNull agrees with a decoder into any.
func FuzzNoNull(f *testing.F) {
	f.Add([]byte(`{"a":[{"b":null}]}`))
	f.Add([]byte(control))
	f.Fuzz(func(t *testing.T, b []byte) {
		var tree any
		if strictjson.Check(b) != nil || json.Unmarshal(b, &tree) != nil {
			return
		}
		if err := strictjson.NoNull(b); (err != nil) != holdsNull(tree) {
			t.Fatalf("%v", err)
		}
	})
}

func holdsNull(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case map[string]any:
		for _, member := range v {
			if holdsNull(member) {
				return true
			}
		}
	case []any:
		for _, member := range v {
			if holdsNull(member) {
				return true
			}
		}
	}
	return false
}
