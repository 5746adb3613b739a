package server

import (
	"context"
	"errors"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/countersign/countersign/audit"
	"github.com/countersign/countersign/identity"
)

// Authenticator recognises the secret of a bearer token. Whatever it does not
// recognise is an error, and the error never holds the secret. Its answer must
// not depend on state older than the call: a revoked token fails at once.
type Authenticator interface {
	Authenticate(ctx context.Context, secret string) (identity.Identity, error)
}

// maxBearer bounds the Authorization header; a JWT of a CI system has up to
// 8 KiB.
const maxBearer = 16 << 10

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
	caller, err := s.authenticate(c.Request.Context(), c.Request.Header.Values("Authorization"))
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

// authenticate reads the one Authorization header there may be.
func (s *Server) authenticate(ctx context.Context, headers []string) (identity.Identity, error) {
	if len(headers) == 0 {
		return identity.Identity{}, errNoCredentials
	}
	if len(headers) > 1 || len(headers[0]) > maxBearer {
		return identity.Identity{}, errBadCredentials
	}
	scheme, secret, found := strings.Cut(headers[0], " ")
	if !found || !strings.EqualFold(scheme, "Bearer") || secret == "" {
		return identity.Identity{}, errBadCredentials
	}
	caller, err := s.cfg.Authenticator.Authenticate(ctx, secret)
	if err != nil {
		return identity.Identity{}, err
	}
	if caller.IsZero() {
		return identity.Identity{}, errBadCredentials
	}
	return caller, nil
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
