package server

import (
	"context"
	"crypto/x509"
	"errors"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/countersign/countersign/audit"
	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/identity/oidc"
	"github.com/countersign/countersign/identity/token"
	"github.com/countersign/countersign/internal/limits"
)

// Authenticator recognises the secret of a bearer token. Whatever it does not
// recognise is an error, and the error never holds the secret. Its answer must
// not depend on state older than the call: a revoked token fails at once.
type Authenticator interface {
	Authenticate(ctx context.Context, secret string) (identity.Identity, error)
}

// IdentityTokens recognises the JWTs of configured issuers. The law of
// Authenticator holds for it too.
type IdentityTokens interface {
	AuthenticateFor(ctx context.Context, jwt string, demand oidc.Demand) (identity.Identity, error)
}

// ClientCertificates recognises the certificate that a client proved in TLS to
// hold, first of the chain that it sent. The law of Authenticator holds for it
// too.
type ClientCertificates interface {
	Authenticate(ctx context.Context, chain []*x509.Certificate) (identity.Identity, error)
}

// maxBearer bounds the Authorization header: a scheme and a JWT.
const maxBearer = limits.IDToken + 64

// authorise authenticates the caller and asks the role table. What is not in
// the table is refused.
func (s *Server) authorise(c *gin.Context) {
	path := c.FullPath()
	if path == "" {
		c.Next() // the 404 and 405 handlers
		return
	}
	a, listed := s.access[route{c.Request.Method, path}]
	if !listed {
		s.fail(c, errNoRoute)
		return
	}
	if a.itself {
		c.Next()
		return
	}
	caller, err := s.authenticate(c.Request, a.demand(c))
	requestOf(c.Request.Context()).caller = caller
	switch {
	case a.anonymous && len(c.Request.Header.Values("Authorization")) == 0:
		c.Next()
	case err != nil:
		s.fail(c, err)
	case !a.permits(caller):
		s.denied(c, caller, a)
	default:
		c.Next()
	}
}

// demand is what the route asks of a single-use token. A repetition under the
// same Idempotency-Key is the same use: it can only have the same answer again.
func (a access) demand(c *gin.Context) oidc.Demand {
	d := oidc.Demand{Once: a.once}
	if key := c.GetHeader("Idempotency-Key"); a.once && key != "" {
		d.Use = c.Request.Method + " " + c.FullPath() + " " + key
	}
	return d
}

// authenticate reads the one Authorization header there may be. Without one
// the client certificate of the connection counts, if there is one: a header is
// said for this request, a certificate for whatever the connection is used for,
// so a header that is wrong is not healed by a certificate.
func (s *Server) authenticate(r *http.Request, demand oidc.Demand) (identity.Identity, error) {
	if headers := r.Header.Values("Authorization"); len(headers) > 0 {
		return s.bearer(r.Context(), headers, demand)
	}
	if s.cfg.ClientCertificates == nil || r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return identity.Identity{}, errNoCredentials
	}
	caller, err := s.cfg.ClientCertificates.Authenticate(r.Context(), r.TLS.PeerCertificates)
	if err == nil && caller.IsZero() {
		err = errBadCredentials
	}
	if err != nil {
		return identity.Identity{}, err
	}
	return caller, nil
}

// bearer reads a token: what begins like an API token is one; anything else is
// a JWT of an issuer.
func (s *Server) bearer(ctx context.Context, headers []string, demand oidc.Demand) (identity.Identity, error) {
	if len(headers) > 1 || len(headers[0]) > maxBearer {
		return identity.Identity{}, errBadCredentials
	}
	scheme, secret, found := strings.Cut(headers[0], " ")
	if !found || !strings.EqualFold(scheme, "Bearer") || secret == "" {
		return identity.Identity{}, errBadCredentials
	}
	caller, err := s.recognise(ctx, secret, demand)
	if err != nil {
		return identity.Identity{}, err
	}
	if caller.IsZero() {
		return identity.Identity{}, errBadCredentials
	}
	return caller, nil
}

func (s *Server) recognise(ctx context.Context, secret string, demand oidc.Demand) (identity.Identity, error) {
	switch {
	case strings.HasPrefix(secret, token.Prefix):
		return s.cfg.Authenticator.Authenticate(ctx, secret)
	case s.cfg.IdentityTokens == nil || strings.Count(secret, ".") != 2:
		return identity.Identity{}, errBadCredentials
	}
	return s.cfg.IdentityTokens.AuthenticateFor(ctx, secret, demand)
}

// denied answers a caller whose roles do not suffice. An attempt to change
// something is journalled; the answer is a refusal whether or not that works.
func (s *Server) denied(c *gin.Context, caller identity.Identity, a access) {
	err := error(&refusal{cause: errRole, detail: "This call needs one of the roles: " + a.names() + "."})
	if a.changes {
		_, journal := s.cfg.Journal.Append(c.Request.Context(), audit.Record{
			Actor: caller.String(), ActorIssuer: caller.Issuer, ActorSubject: caller.Subject,
			Action: "request.denied", Resource: c.Request.Method + " " + c.FullPath(), Outcome: "denied",
			RequestID: requestOf(c.Request.Context()).id,
		})
		err = errors.Join(err, journal)
	}
	s.fail(c, err)
}
