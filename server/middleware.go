package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/countersign/countersign/audit"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/signer"
)

// maxRequestID bounds an X-Request-Id that a caller brings.
const maxRequestID = 64

// use installs the middleware in the order a request meets it.
func (s *Server) use() {
	s.engine.Use(
		s.identify,
		s.observe,
		s.recover,
		s.secure,
		s.canonical,
		s.authorise,
		s.bound,
	)
}

// identify gives the request its id. A caller's own X-Request-Id is kept if it
// is short and of harmless characters, since it goes into logs and answers.
func (s *Server) identify(c *gin.Context) {
	id := c.GetHeader("X-Request-Id")
	if !validRequestID(id) {
		id = s.cfg.NewID()
	}
	c.Header("X-Request-Id", id)
	trace := traceID(c.GetHeader("Traceparent"))
	if trace != "" {
		c.Header("Traceparent", c.GetHeader("Traceparent"))
	}
	ctx := audit.WithRequestID(c.Request.Context(), id)
	ctx = context.WithValue(ctx, requestKey{}, &request{id: id, trace: trace})
	c.Request = c.Request.WithContext(ctx)
	c.Next()
}

func validRequestID(id string) bool {
	if id == "" || len(id) > maxRequestID {
		return false
	}
	for _, r := range id {
		if !isIDChar(r) {
			return false
		}
	}
	return true
}

func isIDChar(r rune) bool {
	return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '-' || r == '_' || r == '.'
}

// traceID is the trace id of a W3C Trace Context header (version 00), or "".
func traceID(header string) string {
	parts := strings.Split(header, "-")
	if len(header) != 55 || len(parts) != 4 || parts[0] != "00" || len(parts[1]) != 32 || len(parts[2]) != 16 {
		return ""
	}
	for _, r := range parts[1] + parts[2] + parts[3] {
		if !strings.ContainsRune("0123456789abcdef", r) {
			return ""
		}
	}
	return parts[1]
}

// observe counts the answer and writes the one log line of the request.
func (s *Server) observe(c *gin.Context) {
	start := s.cfg.Clock.Now()
	s.metrics.inFlight.Inc()
	c.Next()
	s.metrics.inFlight.Dec()
	took := s.cfg.Clock.Now().Sub(start)
	s.metrics.request(c.Request.Method, c.FullPath(), c.Writer.Status(), took)
	r := requestOf(c.Request.Context())
	attrs := []slog.Attr{
		slog.String("request", r.id), slog.String("method", methodLabel(c.Request.Method)),
		slog.String("route", routeLabel(c.FullPath())), slog.Int("status", c.Writer.Status()),
		slog.Duration("took", took), slog.String("caller", r.caller.String()),
	}
	if r.trace != "" {
		attrs = append(attrs, slog.String("trace", r.trace))
	}
	level := slog.LevelInfo
	if r.cause != nil {
		attrs = append(attrs, slog.String("code", r.code), slog.String("cause", r.cause.Error()))
	}
	// That the server is not ready is an answer; the probe has warned of why.
	if c.Writer.Status() >= http.StatusInternalServerError && c.FullPath() != readyPath {
		level = slog.LevelError
	}
	s.cfg.Logger.LogAttrs(c.Request.Context(), level, "request", attrs...)
}

// errPanic stands for a handler that panicked.
var errPanic = errors.New("handler panicked")

// recover turns a panic into 500 and keeps the process alive. The stack goes
// to the log; http.ErrAbortHandler passes on, as net/http asks.
func (s *Server) recover(c *gin.Context) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			panic(v)
		}
		s.cfg.Logger.LogAttrs(c.Request.Context(), slog.LevelError, "panic",
			slog.String("request", requestOf(c.Request.Context()).id), slog.String("stack", string(debug.Stack())))
		if !c.Writer.Written() {
			s.fail(c, fmt.Errorf("%w: %v", errPanic, v))
		}
		c.Abort()
	}()
	c.Next()
}

// secure sets the headers of every answer, and refuses what a browser sends
// across sites.
func (s *Server) secure(c *gin.Context) {
	h := c.Writer.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	if err := s.crossOrigin.Check(c.Request); err != nil {
		s.fail(c, errCrossOrigin)
		return
	}
	c.Next()
}

// canonical refuses every second spelling of a path before it is authorised,
// so that what a proxy in front believes it passed is what is answered here.
func (s *Server) canonical(c *gin.Context) {
	if !canonicalPath(c.Request.URL.EscapedPath()) {
		s.fail(c, errNoRoute)
		return
	}
	c.Next()
}

// canonicalPath reports whether an escaped path is the only spelling of its
// route: no empty or dot segments, and no escape for a character that changes
// the path's meaning.
func canonicalPath(escaped string) bool {
	if !strings.HasPrefix(escaped, "/") {
		return false
	}
	if escaped == "/" {
		return true
	}
	for segment := range strings.SplitSeq(escaped[1:], "/") {
		if segment == "" || segment == "." || segment == ".." {
			return false
		}
	}
	lower := strings.ToLower(escaped)
	for _, bad := range []string{"%2e", "%2f", "%5c", "%25", "%00", "%0a", "%0d", "%3b", "%3f", "%23", "\\", ";"} {
		if strings.Contains(lower, bad) {
			return false
		}
	}
	return true
}

// isLarge takes a length that is not known for a large one.
func isLarge(length int64) bool { return length < 0 || length > limits.RequestBody }

// bound caps the body and the time of a request.
func (s *Server) bound(c *gin.Context) {
	a := s.access[route{c.Request.Method, c.FullPath()}]
	most := a.body
	if most == 0 {
		most = limits.RequestBody
	}
	c.Request.Body = http.MaxBytesReader(c.Writer, c.Request.Body, most)
	if most >= limits.AttestationBody && isLarge(c.Request.ContentLength) {
		select {
		case s.large <- struct{}{}:
			defer func() { <-s.large }()
		default:
			s.fail(c, signer.ErrBusy)
			return
		}
	}
	if a.stream {
		c.Next()
		return
	}
	ctx, cancel := context.WithTimeout(c.Request.Context(), limits.RequestTimeout)
	defer cancel()
	c.Request = c.Request.WithContext(ctx)
	c.Next()
}
