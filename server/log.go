package server

import (
	"context"
	"io"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gin-gonic/gin"

	"github.com/countersign/countersign/tlog"
)

// Cache rules of the log's read side: a checkpoint changes, a full tile never
// does. A partial tile does not change either, but is soon of no use.
const (
	cacheNever   = "no-cache"
	cacheShort   = "public, max-age=60"
	cacheForever = "public, max-age=31536000, immutable"
)

type entryInput struct {
	Index uint64 `path:"index" doc:"Position in the log, from 0."`
}

func (s *Server) logRoutes() {
	register(s, huma.Operation{
		OperationID: "getLogEntry", Method: http.MethodGet, Path: "/v1/log/entries/{index}", Tags: []string{"Log"},
		Summary:   "Get an entry with a fresh inclusion proof, as a Sigstore TransparencyLogEntry",
		Responses: map[string]*huma.Response{"200": anyObject("The entry.")},
	}, s.logEntry)
	s.engine.GET("/api/v2/checkpoint", s.checkpoint)
	s.engine.GET("/api/v2/tile/*path", s.tile)
	s.engine.POST("/api/v2/log/entries", s.addLogEntry)
	s.document(foreign{http.MethodGet, "/api/v2/checkpoint", "getCheckpoint", "Log", "The log's signed checkpoint", "", "text/plain", http.StatusOK})
	s.document(foreign{http.MethodGet, "/api/v2/tile/{path}", "getTile", "Log", "A tile or entry bundle of the tlog-tiles layout: {L}/{N} or entries/{N}", "", "application/octet-stream", http.StatusOK})
	s.document(foreign{http.MethodPost, "/api/v2/log/entries", "addLogEntry", "Log", "Rekor v2: log a hashedrekord v0.0.2", "application/json", "application/json", http.StatusCreated})
}

func anyObject(description string) *huma.Response {
	return &huma.Response{Description: description, Content: map[string]*huma.MediaType{
		"application/json": {Schema: &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}},
	}}
}

func (s *Server) logEntry(ctx context.Context, in *entryInput) (*rawOutput, error) {
	entry, err := s.cfg.Log.Entry(ctx, in.Index)
	if err != nil {
		return nil, err
	}
	body, err := tlog.MarshalEntry(entry)
	if err != nil {
		return nil, err
	}
	return &rawOutput{Status: http.StatusOK, ContentType: "application/json", Body: body}, nil
}

func (s *Server) checkpoint(c *gin.Context) {
	note, err := s.cfg.Log.Checkpoint(c.Request.Context())
	if err != nil {
		s.fail(c, err)
		return
	}
	c.Header("Cache-Control", cacheNever)
	c.Data(http.StatusOK, "text/plain; charset=utf-8", note)
}

func (s *Server) tile(c *gin.Context) {
	path := "tile" + c.Param("path")
	tile, err := s.cfg.Log.ReadTile(c.Request.Context(), path)
	if err != nil {
		s.fail(c, err)
		return
	}
	cache := cacheForever
	if strings.Contains(path, ".p/") {
		cache = cacheShort
	}
	c.Header("Cache-Control", cache)
	c.Data(http.StatusOK, "application/octet-stream", tile)
}

// addLogEntry is Rekor v2's POST: the answer stands when a published
// checkpoint covers the entry.
func (s *Server) addLogEntry(c *gin.Context) {
	request, err := io.ReadAll(c.Request.Body)
	if err != nil {
		s.fail(c, readError(err))
		return
	}
	body, err := tlog.HashedRekordV002FromRequest(request)
	if err != nil {
		s.fail(c, err)
		return
	}
	entry, err := s.cfg.Log.Append(c.Request.Context(), body)
	if err != nil {
		s.fail(c, err)
		return
	}
	answer, err := tlog.MarshalEntry(entry)
	if err != nil {
		s.fail(c, err)
		return
	}
	c.Data(http.StatusCreated, "application/json", answer)
}
