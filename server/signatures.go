package server

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/countersign/countersign/server/api"
	"github.com/countersign/countersign/signer"
)

// SignHeaders are of every call that signs.
type SignHeaders struct {
	IdempotencyKey string `header:"Idempotency-Key" doc:"Makes the call safe to repeat: the same key and body give the same answer."`
	Prefer         string `header:"Prefer" maxLength:"256" doc:"respond-async answers 202 with an operation."`
}

type signInput struct {
	SignHeaders
	Body api.SignatureRequest
}

// rawOutput is an answer whose bytes are made elsewhere and must not change.
type rawOutput struct {
	Status      int
	ContentType string `header:"Content-Type" hidden:"true"`
	Location    string `header:"Location"`
	Replayed    string `header:"Idempotency-Replayed"`
	Applied     string `header:"Preference-Applied"`
	RetryAfter  string `header:"Retry-After"`
	Body        []byte
}

type signatureFilter struct {
	PageInput
	Digest     string `query:"digest" maxLength:"128" doc:"Only signatures of this digest."`
	Repository string `query:"repository" maxLength:"512" doc:"Only signatures in this HOST/REPOSITORY."`
	Key        string `query:"key" maxLength:"128" doc:"Only signatures by this key."`
	Identity   string `query:"identity" maxLength:"1024" doc:"Only signatures with a certificate of this subject."`
}

// IDInput is the path of one object with an id.
type IDInput struct {
	ID string `path:"id" maxLength:"64"`
}

type bodyOutput[T any] struct{ Body T }

func (s *Server) signatureRoutes() {
	register(s, huma.Operation{
		OperationID: "createSignature", Method: http.MethodPost, Path: "/v1/signatures", Tags: []string{"Sign"},
		Summary: "Sign an image", DefaultStatus: http.StatusCreated,
		Description: "Signs, logs, timestamps and attaches to the registry. A tag is resolved once.",
		Responses: map[string]*huma.Response{
			"201": schemaOf[api.Signature](s, "The signature."),
			"202": schemaOf[api.Operation](s, "The operation, begun or still pending; Location names it."),
		},
	}, s.createSignature)
	register(s, huma.Operation{
		OperationID: "listSignatures", Method: http.MethodGet, Path: "/v1/signatures", Tags: []string{"Sign"},
		Summary: "List signatures, newest first",
	}, s.listSignatures)
	register(s, huma.Operation{
		OperationID: "getSignature", Method: http.MethodGet, Path: "/v1/signatures/{id}", Tags: []string{"Sign"},
		Summary: "Get a signature", Responses: map[string]*huma.Response{"200": schemaOf[api.Signature](s, "The signature.")},
	}, s.getSignature)
}

// schemaOf documents a JSON answer that a handler writes as bytes.
func schemaOf[T any](s *Server, description string) *huma.Response {
	var zero T
	return &huma.Response{Description: description, Content: map[string]*huma.MediaType{
		"application/json": {Schema: s.api.OpenAPI().Components.Schemas.Schema(typeOf(zero), true, "")},
	}}
}

func (s *Server) createSignature(ctx context.Context, in *signInput) (*rawOutput, error) {
	return s.sign(ctx, in.SignHeaders, "/v1/signatures/", signer.Request{
		Image: in.Body.Image, Key: in.Body.Key, Annotations: in.Body.Annotations,
		Recursive: in.Body.Recursive, Formats: in.Body.Formats,
	})
}

// sign answers every call that signs; its results are found under a path.
func (s *Server) sign(ctx context.Context, in SignHeaders, path string, request signer.Request) (*rawOutput, error) {
	request.IdempotencyKey = in.IdempotencyKey
	if prefersAsync(in.Prefer) {
		op, err := s.cfg.Signer.Start(ctx, callerOf(ctx), request)
		if err != nil {
			return nil, err
		}
		out, err := s.accepted(ctx, op)
		if out != nil {
			out.Applied = "respond-async"
		}
		return out, err
	}
	result, replayed, err := s.cfg.Signer.Sign(ctx, callerOf(ctx), request)
	// Accepted, but not before an operator has made room: that is no 202.
	if pending := (*signer.PendingError)(nil); errors.As(err, &pending) && s.rowOf(err).code != codeExhausted {
		return s.pending(ctx, pending)
	}
	if err != nil {
		return nil, err
	}
	out := &rawOutput{Status: http.StatusCreated, ContentType: "application/json", Location: path + result.ID, Body: result.Body()}
	if replayed {
		out.Replayed = "true"
	}
	return out, nil
}

// prefersAsync reports whether a Prefer header (RFC 7240) asks for 202.
func prefersAsync(header string) bool {
	for preference := range strings.SplitSeq(header, ",") {
		token, _, _ := strings.Cut(preference, ";")
		if strings.EqualFold(strings.TrimSpace(token), "respond-async") {
			return true
		}
	}
	return false
}

// pending answers a call whose signatures are kept and go on by themselves
// with the operation. The call's own time may be over, so it is not asked.
func (s *Server) pending(ctx context.Context, p *signer.PendingError) (*rawOutput, error) {
	op, err := s.cfg.Signer.Operation(context.WithoutCancel(ctx), p.Operation)
	if err != nil {
		return nil, errors.Join(p, err)
	}
	return s.accepted(ctx, op)
}

func (s *Server) accepted(ctx context.Context, op signer.Operation) (*rawOutput, error) {
	body, err := encode(s.operation(ctx, op))
	if err != nil {
		return nil, err
	}
	return &rawOutput{
		Status: http.StatusAccepted, ContentType: "application/json", RetryAfter: "1",
		Location: "/v1/operations/" + op.ID, Body: body,
	}, nil
}

func (s *Server) listSignatures(ctx context.Context, in *signatureFilter) (*bodyOutput[api.SignatureList], error) {
	who, err := signedFilter(in.Key, in.Identity)
	if err != nil {
		return nil, err
	}
	filter := signer.Filter{Digest: in.Digest, Repository: in.Repository, Signer: who}
	results, next, err := s.cfg.Signer.Signatures(ctx, filter, in.page())
	if err != nil {
		return nil, err
	}
	return &bodyOutput[api.SignatureList]{Body: api.SignatureList{Items: each(results, signatureLine), NextCursor: next}}, nil
}

// signedFilter is the signer that a list is asked for: a key or an identity.
func signedFilter(key, identity string) (string, error) {
	if key != "" && identity != "" {
		return "", &refusal{cause: errRequest, fields: fieldProblem("query.identity", "ask for a key or an identity; nothing is signed by both")}
	}
	return key + identity, nil
}

func (s *Server) getSignature(ctx context.Context, in *IDInput) (*rawOutput, error) {
	result, err := s.cfg.Signer.Signature(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return &rawOutput{Status: http.StatusOK, ContentType: "application/json", Body: result.Body()}, nil
}

func signedBy(s signer.Signatory) api.SignedBy {
	out := api.SignedBy{Key: s.Key, KeyID: s.KeyID}
	if s.Identity != nil {
		out.Identity = &api.Identity{Issuer: s.Identity.Issuer, Subject: s.Identity.Subject}
	}
	return out
}

// signatureLine is a signature without its bundles.
func signatureLine(r signer.Result) api.Signature {
	return api.Signature{
		ID: r.ID, Image: r.Image, Digest: r.Digest, CreatedAt: r.CreatedAt,
		Signer: signedBy(r.Signer), Signatures: each(r.Signatures, itemLine),
	}
}

func itemLine(i signer.Signature) api.SignatureItem {
	return api.SignatureItem{
		Digest: i.Digest, Platform: i.Platform, Format: i.Format, Referrer: i.Referrer,
		LogEntry: &api.LogEntryRef{LogID: i.LogEntry.LogID, Index: i.LogEntry.Index},
	}
}
