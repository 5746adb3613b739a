package server

import (
	"io"
	"mime"
	"net/http"

	"github.com/gin-gonic/gin"
)

// Media types of RFC 3161 §3.4.
const (
	timestampQueryType = "application/timestamp-query"
	timestampReplyType = "application/timestamp-reply"
)

func (s *Server) timestampRoutes() {
	s.engine.POST("/api/v1/timestamp", s.timestamp)
	s.engine.GET("/api/v1/timestamp/certchain", s.timestampChain)
	s.document(foreign{http.MethodPost, "/api/v1/timestamp", "timestamp", "Timestamp", "RFC 3161: stamp a digest", timestampQueryType, timestampReplyType, http.StatusOK})
	s.document(foreign{http.MethodGet, "/api/v1/timestamp/certchain", "getTimestampChain", "Timestamp", "The timestamp authority's certificates, leaf first", "", "application/pem-certificate-chain", http.StatusOK})
}

// timestamp answers 201 as the sigstore timestamp authority does: its clients
// look for it.
func (s *Server) timestamp(c *gin.Context) {
	mediaType, _, err := mime.ParseMediaType(c.GetHeader("Content-Type"))
	if err != nil || mediaType != timestampQueryType {
		s.fail(c, errMediaType)
		return
	}
	query, err := io.ReadAll(c.Request.Body)
	if err != nil {
		s.fail(c, readError(err))
		return
	}
	reply, err := s.cfg.Timestamper.Respond(c.Request.Context(), query)
	if err != nil {
		s.fail(c, err)
		return
	}
	c.Data(http.StatusOK, timestampReplyType, reply)
}

func (s *Server) timestampChain(c *gin.Context) {
	c.Header("Cache-Control", cacheShort)
	c.Data(http.StatusOK, "application/pem-certificate-chain", s.cfg.Timestamper.ChainPEM())
}
