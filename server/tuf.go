package server

import (
	"context"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/countersign/countersign/trust/tuf"
)

// TUF is the TUF repository as the door serves it.
type TUF interface {
	// ReadFile returns a published file by its path within the repository,
	// which it parses strictly.
	ReadFile(ctx context.Context, path string) ([]byte, error)
}

const tufPath = "/tuf/*path"

// tufRoutes serves the TUF repository to everybody: it is public, and stock
// clients send no credentials.
func (s *Server) tufRoutes() {
	if s.cfg.TUF == nil {
		return
	}
	s.engine.GET(tufPath, s.tufFile)
	s.document(foreign{http.MethodGet, "/tuf/{path}", "getTUFFile", "Trust", "TUF repository: root.json, timestamp.json, N.root.json, N.snapshot.json, N.targets.json or targets/HASH.NAME", "", "application/json", http.StatusOK})
}

// tufFile answers 404 for whatever is not a file of the repository: clients
// take a 404 for the end of the chain of roots, and any other status for a
// failure.
func (s *Server) tufFile(c *gin.Context) {
	path := strings.TrimPrefix(c.Param("path"), "/")
	// A path with an escaped spelling is not the one spelling of any file.
	if c.Request.URL.RawPath != "" {
		s.fail(c, tuf.ErrPath)
		return
	}
	content, err := s.cfg.TUF.ReadFile(c.Request.Context(), path)
	if err != nil {
		s.fail(c, err)
		return
	}
	cache := cacheNever
	if file, err := tuf.ParsePath(path); err == nil && file.Immutable() {
		cache = cacheForever
	}
	c.Header("Cache-Control", cache)
	c.Data(http.StatusOK, "application/json", content)
}
