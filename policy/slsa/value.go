package slsa

import (
	"bytes"
	"encoding/json"

	"github.com/countersign/countersign/internal/strictjson"
)

// isEmpty reports whether a value says nothing: unset, null and empty are equal
// (SLSA, "Verifying artifacts").
func isEmpty(raw json.RawMessage) bool {
	var v any
	return len(raw) == 0 || json.Unmarshal(raw, &v) == nil && prune(v) == nil
}

// Equal reports whether two JSON values are the same: numbers by their value,
// objects in any order, and members that say nothing like members that are not
// there.
func Equal(a, b json.RawMessage) bool {
	x, okX := normal(a)
	y, okY := normal(b)
	return okX && okY && bytes.Equal(x, y)
}

func normal(raw json.RawMessage) ([]byte, bool) {
	if len(raw) == 0 {
		return []byte("null"), true
	}
	if strictjson.Check(raw) != nil {
		return nil, false
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if dec.Decode(&v) != nil {
		return nil, false
	}
	out, err := json.Marshal(prune(v))
	if err != nil {
		return nil, false
	}
	out, err = strictjson.Canonical(out)
	return out, err == nil
}

// prune is the value without what says nothing; nil when nothing is left. The
// places of a list are kept.
func prune(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			if member = prune(member); member == nil {
				delete(v, name)
			} else {
				v[name] = member
			}
		}
		if len(v) == 0 {
			return nil
		}
	case []any:
		for i := range v {
			v[i] = prune(v[i])
		}
		if len(v) == 0 {
			return nil
		}
	case string:
		if v == "" {
			return nil
		}
	}
	return v
}
