package attest_test

import (
	"encoding/json"

	"github.com/go-json-experiment/json/jsontext"
)

// normal is a JSON value without white space and with each string in one
// spelling.
func normal(raw json.RawMessage) string {
	v := jsontext.Value(raw).Clone()
	if err := v.Format(jsontext.ReorderRawObjects(true)); err != nil {
		return "invalid: " + string(raw)
	}
	return string(v)
}
