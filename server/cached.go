package server

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"
)

// cachedDocument is an answer of the log's read side. Anybody may ask for it as often
// as they like, so it can be had from a cache.
type cachedDocument struct {
	contentType string
	// cache is the Cache-Control rule.
	cache   string
	content []byte
	// compress offers gzip, as C2SP tlog-tiles asks for entry bundles. Hashes do
	// not get smaller.
	compress bool
}

// compressFrom is the size from which compressing is worth its time.
const compressFrom = 256

// serveCached answers a document, or 304 to who has it already. The tag is weak
// (RFC 9110 §8.8.1) because it is of the content, whichever way it is encoded.
func (s *Server) serveCached(c *gin.Context, d cachedDocument) {
	sum := sha256.Sum256(d.content)
	tag := `W/"` + hex.EncodeToString(sum[:16]) + `"`
	c.Header("ETag", tag)
	c.Header("Cache-Control", d.cache)
	if d.compress {
		c.Header("Vary", "Accept-Encoding")
	}
	if hasTag(c.Request.Header.Values("If-None-Match"), tag) {
		c.Status(http.StatusNotModified)
		c.Writer.WriteHeaderNow()
		return
	}
	if d.compress && len(d.content) >= compressFrom && acceptsGzip(c.Request.Header.Values("Accept-Encoding")) {
		if packed, err := compressed(d.content); err == nil {
			c.Header("Content-Encoding", "gzip")
			d.content = packed
		}
	}
	c.Data(http.StatusOK, d.contentType, d.content)
}

func compressed(content []byte) ([]byte, error) {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(content); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// hasTag compares weakly (RFC 9110 §13.1.2).
func hasTag(headers []string, tag string) bool {
	for _, header := range headers {
		for candidate := range strings.SplitSeq(header, ",") {
			candidate = strings.TrimSpace(candidate)
			if candidate == "*" || strings.TrimPrefix(candidate, "W/") == strings.TrimPrefix(tag, "W/") {
				return true
			}
		}
	}
	return false
}

// acceptsGzip reads Accept-Encoding (RFC 9110 §12.5.3). A client that says
// nothing of gzip does not get it.
func acceptsGzip(headers []string) bool {
	for _, header := range headers {
		for coding := range strings.SplitSeq(header, ",") {
			name, parameters, _ := strings.Cut(coding, ";")
			if !strings.EqualFold(strings.TrimSpace(name), "gzip") {
				continue
			}
			weight, weighed := strings.CutPrefix(strings.ToLower(strings.TrimSpace(parameters)), "q=")
			if q, err := strconv.ParseFloat(weight, 64); !weighed || err == nil && q > 0 {
				return true
			}
		}
	}
	return false
}
