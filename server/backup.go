package server

import (
	"context"
	"io"
	"net/http"

	"github.com/gin-gonic/gin"
)

const backupPath = "/v1/backup"

func (s *Server) backupRoutes() {
	if s.cfg.Backup == nil {
		return
	}
	s.engine.POST(backupPath, s.backup)
	s.document(foreign{http.MethodPost, backupPath, "createBackup", "Operation", "The data folder at one moment, without the master key, while the service goes on", "", "application/zstd", http.StatusOK})
}

// backup streams. What fails before the first byte is answered as a problem;
// after it the archive ends without its seal, and is none.
func (s *Server) backup(c *gin.Context) {
	ctx := c.Request.Context()
	out := &lateWriter{c: c}
	err := s.change(ctx, "backup.create", "backup", nil, func() error { return s.cfg.Backup(ctx, out) })
	switch {
	case err == nil:
	case out.begun:
		s.cfg.Logger.ErrorContext(ctx, "a backup was not finished", "cause", err)
	default:
		s.fail(c, err)
	}
}

// lateWriter begins the answer with the first byte.
type lateWriter struct {
	c     *gin.Context
	begun bool
}

func (w *lateWriter) Write(p []byte) (int, error) {
	if !w.begun {
		w.begun = true
		w.c.Header("Content-Type", "application/zstd")
		w.c.Header("Cache-Control", "no-store")
		w.c.Status(http.StatusOK)
	}
	return w.c.Writer.Write(p)
}

// Backup writes an archive of the data folder.
type Backup func(ctx context.Context, w io.Writer) error
