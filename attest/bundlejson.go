package attest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"

	bundlepb "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/countersign/countersign/internal/strictjson"
)

// unmarshalProto decodes a bundle and then asks whether what was read is all
// that the document says. protojson is a lax reader: it takes two spellings of
// every name, four of base64, numbers or strings, and null for absent. A
// document whose canonical form says something else than the document is
// refused, so that no reader of the same bytes can come to another bundle. Only
// the old versions may spell an absent member null: sigstore-js wrote them so.
func unmarshalProto(raw []byte) (*bundlepb.Bundle, error) {
	if err := strictjson.Check(raw); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBundle, err)
	}
	return unmarshalCut(raw)
}

// unmarshalChecked is unmarshalProto of what passed strictjson.Check.
func unmarshalChecked(raw []byte) (*bundlepb.Bundle, error) {
	message := new(bundlepb.Bundle)
	if err := protojson.Unmarshal(raw, message); err != nil {
		// The library's text quotes the document; the place is enough.
		return nil, fmt.Errorf("%w: not a bundle message", ErrBundle)
	}
	canonical, err := protojson.Marshal(message)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBundle, err)
	}
	version, err := parseVersion(message.GetMediaType())
	if err != nil {
		return nil, err
	}
	if same, err := sameCompact(raw, canonical); err != nil || same {
		return message, err
	}
	said, err := withoutDefaults(raw, version.spellsNull())
	if err != nil {
		return nil, err
	}
	read, err := withoutDefaults(canonical, false)
	if err != nil {
		return nil, err
	}
	if !reflect.DeepEqual(said, read) {
		return nil, fmt.Errorf("%w: not spelled as protobuf's JSON mapping spells it", ErrBundle)
	}
	return message, nil
}

// withoutDefaults is the document as a tree without members that hold
// protobuf's default values, which writers may spell out or leave away, and
// with numbers as strings, which the mapping writes 64-bit integers as. null
// is kept, since the mapping never writes it, unless it may stand for an absent
// member.
func withoutDefaults(raw []byte, nullIsAbsent bool) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var tree any
	if err := dec.Decode(&tree); err != nil {
		return nil, fmt.Errorf("%w: malformed", ErrBundle)
	}
	return prune(tree, nullIsAbsent), nil
}

func prune(v any, nullIsAbsent bool) any {
	switch v := v.(type) {
	case map[string]any:
		for k, member := range v {
			if member = prune(member, nullIsAbsent); isDefault(member) || nullIsAbsent && member == nil {
				delete(v, k)
			} else {
				v[k] = member
			}
		}
		return v
	case []any:
		for i := range v {
			v[i] = prune(v[i], nullIsAbsent)
		}
		return v
	case json.Number:
		return v.String()
	default:
		return v
	}
}

func isDefault(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		return len(v) == 0
	case []any:
		return len(v) == 0
	case string:
		return v == "" || v == "0"
	case bool:
		return !v
	default:
		return false
	}
}

// sameCompact reports whether two documents are the same but for white space,
// as what today's writers make is: there is nothing to compare any further.
func sameCompact(a, b []byte) (bool, error) {
	first, err := compactJSON(a)
	if err != nil {
		return false, err
	}
	second, err := compactJSON(b)
	return bytes.Equal(first, second), err
}

func compactJSON(raw []byte) ([]byte, error) {
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBundle, err)
	}
	return b.Bytes(), nil
}
