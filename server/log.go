package server

import (
	"context"
	"encoding/hex"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gin-gonic/gin"

	"github.com/countersign/countersign/tlog"
	"github.com/countersign/countersign/tlog/sequencer"
)

// Cache rules of the log's read side: a checkpoint changes, a full tile never
// does. A partial tile does not change either, but is soon of no use.
const (
	cacheNever   = "no-cache"
	cacheShort   = "public, max-age=60"
	cacheForever = "public, max-age=31536000, immutable"
)

// shardsPath is where each shard is served under a name that it keeps: the
// trusted root gives frozen ones this URL, and they are read as any tile log.
const shardsPath = "/shards/:shard"

type entryInput struct {
	Index uint64 `path:"index" doc:"Position in its shard of the log, from 0."`
	LogID string `query:"logId" pattern:"^[0-9a-f]{64}$" doc:"The shard, by the log id that answers name an entry with; the one that is written without it."`
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
	s.engine.GET(shardsPath+"/api/v2/checkpoint", s.checkpoint)
	s.engine.GET(shardsPath+"/api/v2/tile/*path", s.tile)
	s.engine.POST(shardsPath+"/api/v2/log/entries", s.refuseLogEntry)
	s.document(foreign{http.MethodGet, "/api/v2/checkpoint", "getCheckpoint", "Log", "The log's signed checkpoint", "", "text/plain", http.StatusOK})
	s.document(foreign{http.MethodGet, "/api/v2/tile/{path}", "getTile", "Log", "A tile or entry bundle of the tlog-tiles layout: {L}/{N} or entries/{N}", "", "application/octet-stream", http.StatusOK})
	s.document(foreign{http.MethodGet, "/shards/{shard}/api/v2/checkpoint", "getShardCheckpoint", "Log", "The signed checkpoint of a shard, by its number from 1", "", "text/plain", http.StatusOK})
	s.document(foreign{http.MethodGet, "/shards/{shard}/api/v2/tile/{path}", "getShardTile", "Log", "A tile or entry bundle of a shard", "", "application/octet-stream", http.StatusOK})
	s.document(foreign{http.MethodPost, "/shards/{shard}/api/v2/log/entries", "addShardLogEntry", "Log", "Refused: shards under their own URL are for reading", "application/json", "application/json", http.StatusCreated})
	s.document(foreign{http.MethodPost, "/api/v2/log/entries", "addLogEntry", "Log", "Rekor v2: log a hashedrekord v0.0.2", "application/json", "application/json", http.StatusCreated})
}

func anyObject(description string) *huma.Response {
	return &huma.Response{Description: description, Content: map[string]*huma.MediaType{
		"application/json": {Schema: &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}},
	}}
}

func (s *Server) logEntry(ctx context.Context, in *entryInput) (*rawOutput, error) {
	read := s.cfg.Log.Entry
	if in.LogID != "" {
		id, err := hex.DecodeString(in.LogID)
		if err != nil {
			return nil, sequencer.ErrNotFound
		}
		shard, err := s.cfg.Log.ShardOf(id)
		if err != nil {
			return nil, err
		}
		read = shard.Entry
	}
	entry, err := read(ctx, in.Index)
	if err != nil {
		return nil, err
	}
	body, err := tlog.MarshalEntry(entry)
	if err != nil {
		return nil, err
	}
	return &rawOutput{Status: http.StatusOK, ContentType: "application/json", Body: body}, nil
}

// logOf is the shard that a path names, or the log. A number has one spelling.
func (s *Server) logOf(c *gin.Context) (logReader, error) {
	text := c.Param("shard")
	if text == "" {
		return s.cfg.Log, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || strconv.Itoa(n) != text {
		return nil, sequencer.ErrNotFound
	}
	shard, err := s.cfg.Log.Shard(n)
	if err != nil {
		return nil, err
	}
	return shard, nil
}

func (s *Server) checkpoint(c *gin.Context) {
	log, err := s.logOf(c)
	if err != nil {
		s.fail(c, err)
		return
	}
	note, err := log.Checkpoint(c.Request.Context())
	if err != nil {
		s.fail(c, err)
		return
	}
	s.serveCached(c, cachedDocument{contentType: "text/plain; charset=utf-8", cache: cacheNever, content: note})
}

func (s *Server) tile(c *gin.Context) {
	log, err := s.logOf(c)
	if err != nil {
		s.fail(c, err)
		return
	}
	path := "tile" + c.Param("path")
	tile, err := log.ReadTile(c.Request.Context(), path)
	if err != nil {
		s.fail(c, err)
		return
	}
	cache := cacheForever
	if strings.Contains(path, ".p/") {
		cache = cacheShort
	}
	s.serveCached(c, cachedDocument{
		contentType: "application/octet-stream", cache: cache, content: tile, compress: strings.HasPrefix(path, "tile/entries/"),
	})
}

// refuseLogEntry answers 405 as Rekor v2 has it for a frozen log. What is
// written goes to the log, which knows its older entries, and not to a shard.
func (s *Server) refuseLogEntry(c *gin.Context) {
	if _, err := s.logOf(c); err != nil {
		s.fail(c, err)
		return
	}
	c.Header("Allow", http.MethodGet)
	s.fail(c, sequencer.ErrFrozen)
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
