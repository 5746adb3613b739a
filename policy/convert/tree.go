package convert

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
)

// readTrees reads JSON, or YAML of one or more documents, as maps, lists,
// strings, booleans, numbers and nil. What begins with `{` is JSON and nothing
// else. Of YAML, aliases, anchors, tags and duplicate keys are refused: they let
// a document grow, or mean one thing to this reader and another to the next.
func readTrees(b []byte) ([]any, error) {
	if len(b) > limits.ForeignPolicy {
		return nil, fmt.Errorf("larger than %d bytes", limits.ForeignPolicy)
	}
	var trees []any
	var err error
	if bytes.HasPrefix(bytes.TrimLeft(b, " \t\r\n"), []byte("{")) {
		var tree any
		err = strictjson.Unmarshal(b, &tree)
		trees = []any{tree}
	} else {
		trees, err = yamlTrees(b)
	}
	if err != nil {
		return nil, err
	}
	count := 0
	for _, tree := range trees {
		if _, isMap := tree.(map[string]any); !isMap {
			return nil, errors.New("is not an object")
		}
		if count += countLeaves(tree); count > limits.ForeignFields {
			return nil, fmt.Errorf("has more than %d fields", limits.ForeignFields)
		}
	}
	return trees, nil
}

func countLeaves(v any) int {
	n := 1
	switch v := v.(type) {
	case map[string]any:
		for _, member := range v {
			n += countLeaves(member)
		}
	case []any:
		for _, member := range v {
			n += countLeaves(member)
		}
	}
	return n
}

func yamlTrees(b []byte) ([]any, error) {
	dec := yaml.NewDecoder(bytes.NewReader(b))
	var trees []any
	for {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, errors.New("malformed YAML")
		}
		if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 || doc.Content[0].ShortTag() == "!!null" {
			continue // nothing between two separators
		}
		if len(trees) == limits.ForeignDocuments {
			return nil, fmt.Errorf("more than %d documents", limits.ForeignDocuments)
		}
		tree, err := plain(doc.Content[0], 0)
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", len(trees)+1, err)
		}
		trees = append(trees, tree)
	}
	if len(trees) == 0 {
		return nil, errors.New("empty document")
	}
	return trees, nil
}

func plain(n *yaml.Node, depth int) (any, error) {
	switch {
	case depth > limits.JSONDepth:
		return nil, fmt.Errorf("line %d is nested deeper than %d", n.Line, limits.JSONDepth)
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		return nil, fmt.Errorf("line %d uses a YAML alias or anchor", n.Line)
	case n.Style&yaml.TaggedStyle != 0:
		return nil, fmt.Errorf("line %d uses a YAML tag", n.Line)
	}
	switch n.Kind {
	case yaml.MappingNode:
		return plainMap(n, depth)
	case yaml.SequenceNode:
		list := make([]any, 0, len(n.Content))
		for _, c := range n.Content {
			v, err := plain(c, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case yaml.ScalarNode:
		return plainScalar(n)
	default:
		return nil, fmt.Errorf("line %d is not a value", n.Line)
	}
}

func plainMap(n *yaml.Node, depth int) (any, error) {
	m := make(map[string]any, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode || k.ShortTag() != "!!str" || k.Anchor != "" {
			return nil, fmt.Errorf("line %d has a key that is not a string", k.Line)
		}
		if _, twice := m[k.Value]; twice {
			return nil, fmt.Errorf("line %d has a key that is there twice", k.Line)
		}
		value, err := plain(v, depth+1)
		if err != nil {
			return nil, err
		}
		m[k.Value] = value
	}
	return m, nil
}

var decimal = regexp.MustCompile(`^(0|-?[1-9][0-9]{0,14})$`)

// plainScalar takes what YAML 1.1 and 1.2 read alike. Times and numbers of other
// forms are texts; no field that restricts has one.
func plainScalar(n *yaml.Node) (any, error) {
	switch tag := n.ShortTag(); {
	case tag == "!!null":
		return nil, nil
	case tag == "!!bool" && (n.Value == "true" || n.Value == "false"):
		return n.Value == "true", nil
	case tag == "!!int" && decimal.MatchString(n.Value):
		return strconv.ParseFloat(n.Value, 64)
	case tag == "!!bool":
		return nil, fmt.Errorf("line %d is neither true nor false (quote it if it is meant as text)", n.Line)
	default:
		return n.Value, nil
	}
}

// escape is a name as one reference token of an RFC 6901 pointer.
func escape(name string) string {
	return strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
}
