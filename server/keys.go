package server

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/server/api"
)

// KeyInput is the path of one key.
type KeyInput struct {
	Name string `path:"name" maxLength:"128"`
}

type getKeyInput struct {
	KeyInput
	GetInput
}

type createKeyInput struct{ Body api.KeyRequest }

type rotateKeyInput struct {
	KeyInput
	Body *api.RotateRequest
}

type revokeKeyInput struct {
	KeyInput
	Body api.RevokeRequest
}

type publicKeyOutput struct {
	ContentType string `header:"Content-Type" hidden:"true"`
	Body        []byte
}

const pemType = "application/x-pem-file"

func (s *Server) keyRoutes() {
	tags := []string{"Keys"}
	register(s, huma.Operation{
		OperationID: "createKey", Method: http.MethodPost, Path: "/v1/keys", Tags: tags,
		Summary: "Create a key", DefaultStatus: http.StatusCreated,
	}, s.createKey)
	register(s, huma.Operation{
		OperationID: "listKeys", Method: http.MethodGet, Path: "/v1/keys", Tags: tags, Summary: "List keys",
	}, s.listKeys)
	register(s, huma.Operation{
		OperationID: "getKey", Method: http.MethodGet, Path: "/v1/keys/{name}", Tags: tags, Summary: "Get a key",
		Responses: notModifiedResponse(),
	}, s.getKey)
	register(s, huma.Operation{
		OperationID: "getPublicKey", Method: http.MethodGet, Path: "/v1/keys/{name}/public", Tags: tags,
		Summary: "Get the current public half as PEM",
		Responses: map[string]*huma.Response{"200": {Description: "The public key.", Content: map[string]*huma.MediaType{
			pemType: {Schema: &huma.Schema{Type: huma.TypeString}},
		}}},
	}, s.publicKey)
	for _, verb := range []struct {
		name, summary string
		do            func(context.Context, string) (keys.Key, error)
	}{
		{"suspend", "Stop signing for a while", s.cfg.Keys.Suspend},
		{"resume", "Sign again", s.cfg.Keys.Resume},
		{"retire", "Stop signing for good; what was signed stays good", s.cfg.Keys.Retire},
	} {
		register(s, huma.Operation{
			OperationID: verb.name + "Key", Method: http.MethodPost, Path: "/v1/keys/{name}/" + verb.name,
			Tags: tags, Summary: verb.summary,
		}, func(ctx context.Context, in *KeyInput) (*managedOutput[api.Key], error) {
			return s.changeKey(ctx, verb.name, in.Name, nil, func() (keys.Key, error) { return verb.do(ctx, in.Name) })
		})
	}
	register(s, huma.Operation{
		OperationID: "rotateKey", Method: http.MethodPost, Path: "/v1/keys/{name}/rotate", Tags: tags,
		Summary: "Make a new current version; the one before is deactivated",
		Description: "A key in another back end than file is not changed there: the new version is what is behind its reference now, " +
			"or behind the reference in the body.",
	}, s.rotateKey)
	register(s, huma.Operation{
		OperationID: "revokeKey", Method: http.MethodPost, Path: "/v1/keys/{name}/revoke", Tags: tags,
		Summary: "Revoke the current version: what it signed since compromisedAt is not believed",
	}, s.revokeKey)
}

func notModifiedResponse() map[string]*huma.Response {
	return map[string]*huma.Response{"304": {Description: "The caller has the current revision."}}
}

func (s *Server) createKey(ctx context.Context, in *createKeyInput) (*managedOutput[api.Key], error) {
	for _, p := range in.Body.Purposes {
		// Every other purpose belongs to the service's own keys, which this
		// route must not be able to make.
		if p != keys.PurposeSign {
			return nil, &refusal{cause: errUnsupported, fields: fieldProblem("body.purposes", "only sign is available")}
		}
	}
	spec := keys.Spec{
		Name: in.Body.Name, Algorithm: keys.Algorithm(in.Body.Algorithm), Backend: in.Body.Backend,
		Ref: in.Body.Ref, Purposes: in.Body.Purposes,
	}
	detail := refDetail(map[string]string{"algorithm": in.Body.Algorithm, "backend": in.Body.Backend}, in.Body.Ref)
	out, err := s.changeKey(ctx, "create", in.Body.Name, detail, func() (keys.Key, error) { return s.cfg.Keys.Create(ctx, spec) })
	if err != nil {
		return nil, err
	}
	out.Status, out.Location = http.StatusCreated, "/v1/keys/"+out.Body.Name
	return out, nil
}

// changeKey journals and makes one step in a key's life. Only managed keys
// exist here; the service's others answer as if they did not.
func (s *Server) changeKey(ctx context.Context, verb, name string, detail map[string]string, do func() (keys.Key, error)) (*managedOutput[api.Key], error) {
	if verb != "create" {
		if _, err := s.managedKey(ctx, name); err != nil {
			return nil, err
		}
	}
	var key keys.Key
	err := s.change(ctx, "key."+verb, "key/"+name, detail, func() (err error) {
		key, err = do()
		return err
	})
	if err != nil {
		return nil, err
	}
	return keyOutput(key), nil
}

func (s *Server) managedKey(ctx context.Context, name string) (keys.Key, error) {
	key, err := s.cfg.Keys.Get(ctx, name)
	if err != nil {
		return keys.Key{}, err
	}
	if !key.Managed() {
		return keys.Key{}, keys.ErrNotFound
	}
	return key, nil
}

func (s *Server) listKeys(ctx context.Context, in *PageInput) (*bodyOutput[api.KeyList], error) {
	list, next, err := s.cfg.Keys.List(ctx, in.page())
	if err != nil {
		return nil, err
	}
	return &bodyOutput[api.KeyList]{Body: api.KeyList{Items: each(list, wireKey), NextCursor: next}}, nil
}

func (s *Server) getKey(ctx context.Context, in *getKeyInput) (*managedOutput[api.Key], error) {
	key, err := s.managedKey(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	return keyOutput(key).unless(in.GetInput, key.Revision), nil
}

func (s *Server) publicKey(ctx context.Context, in *KeyInput) (*publicKeyOutput, error) {
	key, err := s.managedKey(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	return &publicKeyOutput{ContentType: pemType, Body: []byte(key.CurrentVersion().PublicPEM)}, nil
}

func (s *Server) rotateKey(ctx context.Context, in *rotateKeyInput) (*managedOutput[api.Key], error) {
	ref := ""
	if in.Body != nil {
		ref = in.Body.Ref
	}
	return s.changeKey(ctx, "rotate", in.Name, refDetail(nil, ref), func() (keys.Key, error) {
		return s.cfg.Keys.RotateTo(ctx, in.Name, ref)
	})
}

// refDetail journals a well-formed reference; what is malformed could be
// anything, a PIN for example (row K1).
func refDetail(detail map[string]string, ref string) map[string]string {
	if _, err := keys.BackendOf(ref); err != nil {
		return detail
	}
	if detail == nil {
		detail = map[string]string{}
	}
	detail["ref"] = ref
	return detail
}

func (s *Server) revokeKey(ctx context.Context, in *revokeKeyInput) (*managedOutput[api.Key], error) {
	detail := map[string]string{"reason": in.Body.Reason}
	if in.Body.CompromisedAt != nil {
		detail["compromisedAt"] = in.Body.CompromisedAt.UTC().Format(time.RFC3339Nano)
	}
	return s.changeKey(ctx, "revoke", in.Name, detail, func() (keys.Key, error) {
		return s.cfg.Keys.Revoke(ctx, in.Name, in.Body.Reason, in.Body.CompromisedAt)
	})
}

func keyOutput(k keys.Key) *managedOutput[api.Key] {
	return &managedOutput[api.Key]{Status: http.StatusOK, ETag: etag(k.Revision), Body: wireKey(k)}
}

func wireKey(k keys.Key) api.Key {
	return api.Key{
		Name: k.Name, KeyID: k.CurrentVersion().KeyID, Algorithm: string(k.Algorithm), Backend: k.Backend, Ref: k.Ref,
		Purposes: each(k.Purposes, same), State: string(k.State), Version: k.Current, Revision: k.Revision,
		CreatedAt: k.CreatedAt, UpdatedAt: k.UpdatedAt,
		Versions: each(k.Versions, func(v keys.Version) api.KeyVersion {
			return api.KeyVersion{
				Version: v.Version, KeyID: v.KeyID, PublicKey: v.PublicPEM, State: string(v.State), CreatedAt: v.CreatedAt,
				ActivatedAt: v.ActivatedAt, DeactivatedAt: v.DeactivatedAt, RevokedAt: v.RevokedAt,
				CompromisedAt: v.CompromisedAt, RevokedReason: v.RevokedReason,
			}
		}),
	}
}
