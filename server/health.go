package server

import (
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gin-gonic/gin"

	"github.com/countersign/countersign/server/api"
)

// ErrDegraded marks what Config.Ready says of a part that is damaged and whose
// damage does not keep the server from its work: it is told and the server is
// ready all the same.
var ErrDegraded = errors.New("a part is damaged")

type healthOutput struct {
	Status int
	Body   api.Health
}

const readyPath = "/readyz"

func (s *Server) healthRoutes() {
	tags := []string{"Operation"}
	register(s, huma.Operation{
		OperationID: "healthz", Method: http.MethodGet, Path: "/healthz", Tags: tags, Summary: "Does the process run?",
	}, func(context.Context, *struct{}) (*healthOutput, error) {
		return &healthOutput{Status: http.StatusOK, Body: api.Health{Status: "ok", Version: s.cfg.Version}}, nil
	})
	register(s, huma.Operation{
		OperationID: "readyz", Method: http.MethodGet, Path: readyPath, Tags: tags, Summary: "Can the server do its work?",
		Responses: map[string]*huma.Response{"503": schemaOf[api.Health](s, "It cannot; checks names the part.")},
	}, s.ready)
	s.engine.GET("/metrics", gin.WrapH(s.metrics.handler()))
	s.engine.GET("/openapi.json", func(c *gin.Context) {
		c.Header("Cache-Control", cacheShort)
		c.Data(http.StatusOK, "application/vnd.oai.openapi+json;version=3.1", s.openapi)
	})
	s.document(foreign{http.MethodGet, "/metrics", "getMetrics", "Operation", "Prometheus metrics", "", "text/plain", http.StatusOK})
	s.document(foreign{http.MethodGet, "/openapi.json", "getOpenAPI", "Operation", "This document", "", "application/vnd.oai.openapi+json", http.StatusOK})
}

// ready tells anybody which part fails and only the log why.
func (s *Server) ready(ctx context.Context, _ *struct{}) (*healthOutput, error) {
	out := &healthOutput{Status: http.StatusOK, Body: api.Health{Status: "ok", Checks: map[string]string{}}}
	if s.cfg.Ready == nil {
		return out, nil
	}
	for name, err := range s.cfg.Ready(ctx) {
		out.Body.Checks[name] = "ok"
		switch {
		case errors.Is(err, ErrDegraded):
			out.Body.Checks[name] = "damaged"
			s.cfg.Logger.WarnContext(ctx, "damaged", "part", name, "cause", err)
		case err != nil:
			out.Status, out.Body.Status, out.Body.Checks[name] = http.StatusServiceUnavailable, "unavailable", "unavailable"
			s.cfg.Logger.WarnContext(ctx, "not ready", "part", name, "cause", err)
		}
	}
	return out, nil
}
