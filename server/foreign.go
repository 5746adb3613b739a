package server

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
)

// foreign describes a route of somebody else's protocol in openapi.json; its
// documents are specified there, not here.
type foreign struct {
	method, path, id, tag, summary string
	// accepts and answers are media types; accepts is empty without a body.
	accepts, answers string
	status           int
}

// document adds a plain route to openapi.json.
func (s *Server) document(f foreign) {
	op := &huma.Operation{
		OperationID: f.id, Method: f.method, Path: f.path, Tags: []string{f.tag}, Summary: f.summary,
		Responses: map[string]*huma.Response{
			strconv.Itoa(f.status): {Description: http.StatusText(f.status), Content: foreignContent(f.answers)},
			"default":              problemResponse(s),
		},
	}
	if f.accepts != "" {
		op.RequestBody = &huma.RequestBody{Required: true, Content: foreignContent(f.accepts)}
	}
	for _, name := range pathParameters(f.path) {
		op.Parameters = append(op.Parameters, &huma.Param{Name: name, In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString}})
	}
	s.api.OpenAPI().AddOperation(op)
}

func foreignContent(mediaType string) map[string]*huma.MediaType {
	schema := &huma.Schema{Type: huma.TypeString, Format: "binary"}
	switch mediaType {
	case "application/json":
		schema = &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}
	case "text/plain", pemType:
		schema = &huma.Schema{Type: huma.TypeString}
	}
	return map[string]*huma.MediaType{mediaType: {Schema: schema}}
}

func pathParameters(path string) []string {
	var names []string
	for start := 0; start < len(path); start++ {
		if path[start] != '{' {
			continue
		}
		for end := start; end < len(path); end++ {
			if path[end] == '}' {
				names = append(names, path[start+1:end])
				start = end
				break
			}
		}
	}
	return names
}

// readError is what a failed read of a request's body means.
func readError(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return err
	}
	return fmt.Errorf("%w: %w", errReadTimeout, err)
}
