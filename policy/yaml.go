package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
)

// documentJSON is a YAML or JSON document as JSON without null. A document
// that begins with `{` is JSON and nothing else.
//
// Of YAML it takes what has one reading: block and flow collections, strings,
// whole decimal numbers, true and false. Aliases, anchors, tags, merge keys,
// several documents, duplicate keys, and null (an empty value) are refused:
// they let a document grow when it is read, or mean one thing to this reader
// and another to the next.
func documentJSON(b []byte) ([]byte, error) {
	if len(b) > limits.PolicyDocument {
		return nil, fmt.Errorf("larger than %d bytes", limits.PolicyDocument)
	}
	if !bytes.HasPrefix(bytes.TrimLeft(b, " \t\r\n"), []byte("{")) {
		var err error
		if b, err = yamlToJSON(b); err != nil {
			return nil, err
		}
	}
	if err := strictjson.Check(b); err != nil {
		return nil, err
	}
	return b, strictjson.NoNull(b)
}

func yamlToJSON(b []byte) ([]byte, error) {
	dec := yaml.NewDecoder(bytes.NewReader(b))
	var doc yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, errors.New("empty document")
	} else if err != nil {
		return nil, yamlError(err)
	}
	var second yaml.Node
	if err := dec.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one YAML document")
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return nil, errors.New("empty document")
	}
	tree, err := plain(doc.Content[0], "", 0)
	if err != nil {
		return nil, err
	}
	return strictjson.Marshal(tree)
}

var yamlLine = regexp.MustCompile(`^yaml: (line \d+)`)

// yamlError keeps the line and leaves away the library's text, which may
// quote the document.
func yamlError(err error) error {
	if at := yamlLine.FindStringSubmatch(err.Error()); at != nil {
		return fmt.Errorf("malformed YAML near %s", at[1])
	}
	return errors.New("malformed YAML")
}

// plain is a node as maps, slices, strings, booleans and numbers.
func plain(n *yaml.Node, at string, depth int) (any, error) {
	switch {
	case depth > limits.JSONDepth:
		return nil, fault(at, "is nested deeper than %d", limits.JSONDepth)
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		return nil, fault(at, "uses a YAML alias or anchor")
	case n.Style&yaml.TaggedStyle != 0:
		return nil, fault(at, "uses a YAML tag")
	}
	switch n.Kind {
	case yaml.MappingNode:
		return plainMap(n, at, depth)
	case yaml.SequenceNode:
		list := make([]any, 0, len(n.Content))
		for i, c := range n.Content {
			v, err := plain(c, fmt.Sprintf("%s/%d", at, i), depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case yaml.ScalarNode:
		return plainScalar(n, at)
	default:
		return nil, fault(at, "is not a value")
	}
}

func plainMap(n *yaml.Node, at string, depth int) (any, error) {
	m := make(map[string]any, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		key, err := plain(k, at, depth+1)
		if err != nil {
			return nil, err
		}
		name, ok := key.(string)
		if !ok {
			return nil, fault(at, "has a key that is not a string (quote it)")
		}
		below := at + "/" + escapePointer(name)
		if _, twice := m[name]; twice {
			return nil, fault(below, "is there twice")
		}
		if m[name], err = plain(v, below, depth+1); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// escapePointer is a name as one reference token of an RFC 6901 pointer.
func escapePointer(name string) string {
	return strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
}

var wholeNumber = regexp.MustCompile(`^(0|-?[1-9][0-9]{0,8})$`)

// plainScalar takes a scalar as YAML 1.2's JSON schema does, and refuses what
// other schemas read otherwise (octal, yes and no stay strings, dates).
func plainScalar(n *yaml.Node, at string) (any, error) {
	switch tag := n.ShortTag(); {
	case tag == "!!str":
		return n.Value, nil
	case tag == "!!bool" && (n.Value == "true" || n.Value == "false"):
		return n.Value == "true", nil
	case tag == "!!int" && wholeNumber.MatchString(n.Value):
		return number(n.Value), nil
	case tag == "!!null":
		return nil, fault(at, "is empty")
	default:
		return nil, fault(at, "is not a string, a whole number, true or false (quote it if it is meant as text)")
	}
}

// number is a JSON number in the digits it was written in.
type number string

// MarshalJSON is the digits.
func (n number) MarshalJSON() ([]byte, error) { return []byte(n), nil }
