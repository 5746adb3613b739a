package server

import (
	"net/http"

	"github.com/gin-gonic/gin"
)

func (s *Server) trustRoutes() {
	s.engine.GET("/v1/trust/trusted_root.json", func(c *gin.Context) {
		s.trustDocument(c, s.cfg.Trust().MarshalTrustedRoot)
	})
	s.engine.GET("/v1/trust/signing_config.json", func(c *gin.Context) {
		s.trustDocument(c, s.cfg.Trust().MarshalSigningConfig)
	})
	s.document(foreign{http.MethodGet, "/v1/trust/trusted_root.json", "getTrustedRoot", "Trust", "Sigstore trusted root: our log and authorities", "", "application/json", http.StatusOK})
	s.document(foreign{http.MethodGet, "/v1/trust/signing_config.json", "getSigningConfig", "Trust", "Sigstore signing configuration for stock clients", "", "application/json", http.StatusOK})
}

// trustDocument answers bytes that stock clients read, unchanged.
func (s *Server) trustDocument(c *gin.Context, marshal func() ([]byte, error)) {
	document, err := marshal()
	if err != nil {
		s.fail(c, err)
		return
	}
	c.Header("Cache-Control", cacheNever)
	c.Data(http.StatusOK, "application/json", document)
}
