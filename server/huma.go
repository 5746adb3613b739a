package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humagin"
	"github.com/gin-gonic/gin"

	"github.com/countersign/countersign/internal/strictjson"
	"github.com/countersign/countersign/server/api"
)

// maxFieldProblems bounds the faulty places of one answer.
const maxFieldProblems = 16

// huma keeps its error constructors in package variables; they are replaced
// once, before the first server exists, and never again.
var replaceErrors sync.Once //nolint:gochecknoglobals // guards the only hook that huma offers

// newAPI puts huma on the engine with its unsafe defaults replaced: strict
// decoding, problems that repeat nothing, no documentation pages of a CDN and
// no $schema in bodies.
func newAPI(engine *gin.Engine) huma.API {
	replaceErrors.Do(func() {
		huma.NewErrorWithContext = humaError
		huma.NewError = func(status int, message string, errs ...error) huma.StatusError {
			return humaProblem(context.Background(), status, message, errs)
		}
	})
	cfg := huma.DefaultConfig("Countersign", "1")
	cfg.Info.Description = "Signs container images and provenance, logs every signature, and answers whether an image may run. Errors are RFC 9457 problem documents; their codes are in docs/problems.md."
	cfg.Info.License = &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"}
	cfg.OpenAPIPath, cfg.DocsPath, cfg.SchemasPath = "", "", ""
	cfg.CreateHooks = nil
	cfg.RejectUnknownQueryParameters = true
	format := huma.Format{Marshal: marshal, Unmarshal: unmarshal}
	cfg.Formats = map[string]huma.Format{"application/json": format, "json": format}
	cfg.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token": {Type: "http", Scheme: "bearer", Description: "An API token (cst_…) or a JWT of a configured issuer."},
	}
	return humagin.New(engine, cfg)
}

func marshal(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// unmarshal decodes strictly. huma calls it twice: into an any, to check the
// document against the schema, and into the request's type. null is refused on
// the first pass: no field of this API has it for a value, and a decoder would
// take it for absence.
func unmarshal(b []byte, v any) error {
	if err := strictjson.Unmarshal(b, v); err != nil {
		return err
	}
	if document, ok := v.(*any); ok {
		return refuseNull(*document, "")
	}
	if foreign := foreignParts(v); foreign != nil {
		return strictjson.NoNull(b, foreign...)
	}
	return nil
}

// foreignParts are the parts of a request whose form is somebody else's, who
// may write null. Such a body is not checked against a schema (a bill of
// materials as a tree of Go values is many times its size), so what must hold
// of it is checked by its handler.
func foreignParts(v any) []string {
	switch v.(type) {
	case *api.AttestationRequest:
		return []string{"/predicate"}
	case *api.BlobRequest:
		return []string{"/bundle"}
	case *api.ProvenanceRequest:
		return []string{"/externalParameters", "/resolvedDependencies", "/byproducts"}
	}
	return nil
}

func refuseNull(v any, pointer string) error {
	switch v := v.(type) {
	case nil:
		return &strictjson.FieldError{Pointer: pointer, Problem: "must not be null"}
	case map[string]any:
		for name, member := range v {
			if err := refuseNull(member, pointer+"/"+strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")); err != nil {
				return err
			}
		}
	case []any:
		for i, member := range v {
			if err := refuseNull(member, pointer+"/"+strconv.Itoa(i)); err != nil {
				return err
			}
		}
	}
	return nil
}

// humaError makes the problem of what huma itself refuses.
func humaError(ctx huma.Context, status int, message string, errs ...error) huma.StatusError {
	p := humaProblem(ctx.Context(), status, message, errs)
	ctx.SetHeader("Content-Type", api.ProblemType)
	setHeaders(ctx.SetHeader, p)
	return p
}

func humaProblem(ctx context.Context, status int, message string, errs []error) *api.Problem {
	joined := errors.Join(errs...)
	cause := humaCause(status, joined)
	r := find(problemTable(), cause)
	req := requestOf(ctx)
	req.code, req.cause = r.code, fmt.Errorf("%w: %s", cause, message)
	p := r.problem(req.id)
	if errors.Is(cause, errRequest) {
		p.Errors = humaFields(errs)
	} else {
		req.cause = errors.Join(req.cause, joined)
	}
	return p
}

// humaCause translates huma's status. Its 422 for a document that does not fit
// the schema is our 400 invalid_request.
func humaCause(status int, err error) error {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge), status == http.StatusRequestEntityTooLarge:
		return errTooLarge
	case status == http.StatusUnprocessableEntity, status == http.StatusBadRequest:
		return errRequest
	case status == http.StatusUnsupportedMediaType:
		return errMediaType
	case status == http.StatusNotAcceptable:
		return errNotAcceptable
	case status == http.StatusRequestTimeout:
		return errReadTimeout
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, context.Canceled):
		return errReadTimeout
	}
	return errInternal
}

// humaFields keeps place and message of huma's details and drops the value,
// which may be a secret. A message that our decoder wrote as "pointer: text"
// is taken apart.
func humaFields(errs []error) []api.FieldProblem {
	var fields []api.FieldProblem
	for _, err := range errs {
		var detail *huma.ErrorDetail
		if !errors.As(err, &detail) || len(fields) == maxFieldProblems {
			continue
		}
		f := api.FieldProblem{Location: detail.Location, Code: "invalid", Detail: detail.Message}
		if pointer, text, ok := strings.Cut(detail.Message, ": "); ok && strings.HasPrefix(pointer, "/") {
			f.Location, f.Detail = location(pointer), text
		}
		fields = append(fields, f)
	}
	return fields
}

func setProblemHeaders(h http.Header, p *api.Problem) {
	setHeaders(func(name, value string) { h.Set(name, value) }, p)
}

// setHeaders adds what a status asks for: RFC 9110 §11.6.1 and §10.2.3.
func setHeaders(set func(name, value string), p *api.Problem) {
	if p.Status == http.StatusUnauthorized {
		set("WWW-Authenticate", `Bearer realm="countersign"`)
	}
	if p.RetryAfter > 0 {
		set("Retry-After", strconv.Itoa(int(p.RetryAfter.Seconds())))
	}
}

// problemError is a problem as huma's handlers return it.
type problemError struct{ *api.Problem }

// GetHeaders are the headers of the status.
func (p problemError) GetHeaders() http.Header {
	h := http.Header{}
	setProblemHeaders(h, p.Problem)
	return h
}

// Unwrap lets huma find the problem, which it writes.
func (p problemError) Unwrap() error { return p.Problem }

// register adds an operation whose errors go through the table.
func register[I, O any](s *Server, op huma.Operation, handle func(context.Context, *I) (*O, error)) {
	a := s.access[route{op.Method, ginPath(op.Path)}]
	op.MaxBodyBytes = -1 // the middleware bounds every body
	if op.Responses == nil {
		op.Responses = map[string]*huma.Response{}
	}
	op.Responses["default"] = problemResponse(s)
	if !a.anonymous || len(a.roles) > 0 {
		op.Security = []map[string][]string{{"token": {}}}
	}
	if len(a.roles) > 0 {
		op.Description = strings.TrimSpace(op.Description + "\n\nRoles: " + a.names() + ".")
	}
	huma.Register(s.api, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := handle(ctx, in)
		if err != nil {
			return nil, problemError{s.problem(ctx, err)}
		}
		return out, nil
	})
}

func problemResponse(s *Server) *huma.Response {
	return &huma.Response{Description: "A refusal.", Content: map[string]*huma.MediaType{
		api.ProblemType: {Schema: s.api.OpenAPI().Components.Schemas.Schema(typeOf(api.Problem{}), true, "")},
	}}
}

func ginPath(path string) string {
	return strings.ReplaceAll(strings.ReplaceAll(path, "{", ":"), "}", "")
}

// spec is openapi.json: the document that huma derives from the handlers.
func spec(humaAPI huma.API) ([]byte, error) {
	raw, err := json.Marshal(humaAPI.OpenAPI())
	if err != nil {
		return nil, fmt.Errorf("describing the API: %w", err)
	}
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		return nil, fmt.Errorf("describing the API: %w", err)
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}
