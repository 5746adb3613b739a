package server

import (
	"context"
	"crypto"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/countersign/countersign/authority"
	"github.com/countersign/countersign/server/api"
	"github.com/countersign/countersign/trust"
)

// Errors of Authorities.
var (
	// ErrAuthority: there is no authority of that name.
	ErrAuthority = errors.New("no such authority")
	// ErrChain: a certificate chain that cannot be used to issue with.
	ErrChain = errors.New("unusable certificate chain")
	// ErrUnpublished: the next key of the log is made but not yet used, because
	// people must sign the TUF targets that tell of it.
	ErrUnpublished = errors.New("the new key is not published yet")
	// ErrUncosigned: the next key of the log is made but not yet used, because the
	// log's witnesses do not know it.
	ErrUncosigned = errors.New("the witnesses do not cosign under the new key yet")
)

// Authorities replaces the keys of the service's own authorities.
type Authorities interface {
	// Rotate makes a new key for log, ca, ct, tsa or journal and publishes it; the one
	// before stays trusted with its end. Another name is ErrAuthority. The log's
	// is used only once it is published and its witnesses know it: ErrUnpublished and
	// ErrUncosigned say to repeat the call.
	Rotate(ctx context.Context, name string) error
	// Request makes a key and a PKCS #10 request (PEM) for an issuing
	// certificate of somebody else's authority.
	Request(ctx context.Context) ([]byte, error)
	// Import issues with such a certificate from now on: PEM, it first, its
	// root last. One that cannot be used is ErrChain and changes nothing.
	Import(ctx context.Context, chain []byte) error
	Revoker
}

func (s *Server) authorityRoutes() {
	if s.cfg.Authorities == nil {
		return
	}
	tags := []string{"Trust"}
	register(s, huma.Operation{
		OperationID: "listAuthorities", Method: http.MethodGet, Path: "/v1/authorities", Tags: tags,
		Summary: "List the service's own authorities, retired ones too, with their windows",
	}, s.listAuthorities)
	register(s, huma.Operation{
		OperationID: "rotateAuthority", Method: http.MethodPost, Path: "/v1/authorities/{name}/rotate", Tags: tags,
		Summary: "Make a new key for log, ca, ct, tsa or journal; the one before stays trusted with its end",
	}, s.rotateAuthority)
	register(s, huma.Operation{
		OperationID: "requestAuthority", Method: http.MethodPost, Path: "/v1/authorities/ca/request", Tags: tags,
		Summary: "Make a key and a certificate request, to issue under somebody else's root",
	}, s.requestAuthority)
	register(s, huma.Operation{
		OperationID: "importAuthority", Method: http.MethodPost, Path: "/v1/authorities/ca/import", Tags: tags,
		Summary: "Issue with the certificate that was given for such a request from now on",
	}, s.importAuthority)
	s.revocationRoute()
}

func (s *Server) requestAuthority(ctx context.Context, _ *struct{}) (*bodyOutput[api.AuthorityRequest], error) {
	var request []byte
	err := s.change(ctx, "authority.request", "authority/ca", nil, func() (err error) {
		request, err = s.cfg.Authorities.Request(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &bodyOutput[api.AuthorityRequest]{Body: api.AuthorityRequest{Request: string(request)}}, nil
}

type importAuthorityInput struct{ Body api.AuthorityChain }

func (s *Server) importAuthority(ctx context.Context, in *importAuthorityInput) (*bodyOutput[api.AuthorityList], error) {
	err := s.change(ctx, "authority.import", "authority/ca", nil, func() error {
		return s.cfg.Authorities.Import(ctx, []byte(in.Body.Chain))
	})
	if err != nil {
		return nil, err
	}
	return s.authorities(ctx)
}

func (s *Server) listAuthorities(ctx context.Context, _ *struct{}) (*bodyOutput[api.AuthorityList], error) {
	return s.authorities(ctx)
}

func (s *Server) rotateAuthority(ctx context.Context, in *NameInput) (*bodyOutput[api.AuthorityList], error) {
	err := s.change(ctx, "authority.rotate", "authority/"+in.Name, nil, func() error {
		return s.cfg.Authorities.Rotate(ctx, in.Name)
	})
	if err != nil {
		return nil, err
	}
	return s.authorities(ctx)
}

func wireAuthorities(root trust.Root) api.AuthorityList {
	list := api.AuthorityList{Items: []api.Authority{}}
	add := func(name, id, subject string, start time.Time, end *time.Time) {
		list.Items = append(list.Items, api.Authority{Name: name, ID: id, Subject: subject, Start: start, End: end})
	}
	for _, l := range root.Logs {
		add("log", publicID(l.Public), l.BaseURL, l.Start, l.End)
	}
	for _, a := range root.CertificateAuthorities {
		add("ca", a.Chain[0].SerialNumber.Text(16), a.Chain[0].Subject.String(), a.Start, a.End)
	}
	for _, l := range root.CTLogs {
		add("ct", publicID(l.Public), l.BaseURL, l.Start, l.End)
	}
	for _, a := range root.TimestampAuthorities {
		add("tsa", a.Chain[0].SerialNumber.Text(16), a.Chain[0].Subject.String(), a.Start, a.End)
	}
	return list
}

// publicID is the hexadecimal log id of one of our own logs, whose keys are
// ECDSA.
func publicID(public crypto.PublicKey) string { return authority.CTLog{Public: public}.ID() }
