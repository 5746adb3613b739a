package testauthority

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// marshalCBOR writes CBOR in one way only: what UnfoldCOSE took apart and
// nothing changed, FoldCOSE writes as it was.
func marshalCBOR(v any) ([]byte, error) {
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return nil, err
	}
	return mode.Marshal(v)
}

// UnfoldCOSE writes an envelope as JSON, with the protected header unfolded, for
// what changes JSON at random. Bytes are {"bytes": BASE64}, tags {"tag": NUMBER,
// "value": ...}, and names that are numbers #NUMBER.
func UnfoldCOSE(tb testing.TB, envelope []byte) []byte {
	tb.Helper()
	var tag cbor.Tag
	must(tb, cbor.Unmarshal(envelope, &tag))
	parts, ok := tag.Content.([]any)
	if !ok || len(parts) != 4 {
		tb.Fatal("no COSE_Sign1")
	}
	raw, _ := parts[0].([]byte)
	var protected any
	must(tb, cbor.Unmarshal(raw, &protected))
	out, err := json.Marshal(object{
		"tag": tag.Number, "protected": plain(protected), "header": plain(parts[1]), "payload": plain(parts[2]), "signature": plain(parts[3]),
	})
	must(tb, err)
	return out
}

// FoldCOSE is the way back; ok is false for what cannot be written.
func FoldCOSE(document []byte) (envelope []byte, ok bool) {
	var tree map[string]any
	if json.Unmarshal(document, &tree) != nil {
		return nil, false
	}
	protected, err := marshalCBOR(colored(tree["protected"]))
	if err != nil {
		return nil, false
	}
	parts := []any{protected, colored(tree["header"]), colored(tree["payload"]), colored(tree["signature"])}
	for _, name := range others(tree) {
		parts = append(parts, colored(tree[name]))
	}
	number, ok := tree["tag"].(float64)
	if !ok || number < 0 || number > 1<<32 {
		envelope, err = marshalCBOR(parts)
	} else {
		envelope, err = marshalCBOR(cbor.Tag{Number: uint64(number), Content: parts})
	}
	return envelope, err == nil
}

// others are members that no envelope has.
func others(tree map[string]any) (out []string) {
	for name := range tree {
		if strings.HasSuffix(name, "x") {
			out = append(out, name)
		}
	}
	return out
}

func plain(v any) any {
	switch v := v.(type) {
	case map[any]any:
		out := object{}
		for name, value := range v {
			switch name := name.(type) {
			case string:
				out[name] = plain(value)
			case uint64:
				out["#"+strconv.FormatUint(name, 10)] = plain(value)
			case int64:
				out["#"+strconv.FormatInt(name, 10)] = plain(value)
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = plain(v[i])
		}
		return out
	case []byte:
		return object{"bytes": base64.StdEncoding.EncodeToString(v)}
	case time.Time:
		return object{"tag": 1, "value": v.Unix()}
	case cbor.Tag:
		return object{"tag": v.Number, "value": plain(v.Content)}
	default:
		return v
	}
}

func colored(v any) any {
	switch v := v.(type) {
	case map[string]any:
		if text, ok := v["bytes"].(string); ok && len(v) == 1 {
			if raw, err := base64.StdEncoding.DecodeString(text); err == nil {
				return raw
			}
		}
		if number, ok := v["tag"].(float64); ok && number >= 0 && number < 1<<32 {
			return cbor.Tag{Number: uint64(number), Content: colored(v["value"])}
		}
		out := map[any]any{}
		for name, value := range v {
			if number, err := strconv.ParseInt(strings.TrimPrefix(name, "#"), 10, 64); err == nil && strings.HasPrefix(name, "#") {
				out[number] = colored(value)
			} else {
				out[name] = colored(value)
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = colored(v[i])
		}
		return out
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			return int64(v)
		}
		return v
	default:
		return v
	}
}
