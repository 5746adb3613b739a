package main

import (
	"context"
	"log/slog"

	"k8s.io/klog/v2"
)

// logger writes structured lines to standard error.
func (a *app) logger(level, form string) *slog.Logger {
	var threshold slog.Level
	if err := threshold.UnmarshalText([]byte(level)); err != nil {
		threshold = slog.LevelInfo
	}
	options := &slog.HandlerOptions{Level: threshold}
	if form == "json" {
		return slog.New(slog.NewJSONHandler(a.err, options))
	}
	return slog.New(slog.NewTextHandler(a.err, options))
}

// adoptStorageLog sends what the log's storage driver says to logger: it logs
// through klog, which is global. Call it before the log is opened, once.
func adoptStorageLog(logger *slog.Logger) {
	klog.SetSlogLogger(slog.New(quieter{logger.Handler()}).With("component", "log storage"))
}

// quieter makes a chatty library's routine lines debug lines, and its warnings,
// which name nothing to be done (a first start has no old checkpoint), too.
// Errors stay what they are.
type quieter struct{ slog.Handler }

// Enabled asks for the level the record will have.
func (q quieter) Enabled(ctx context.Context, level slog.Level) bool {
	return q.Handler.Enabled(ctx, lowered(level))
}

// Handle passes the record on at its lowered level.
func (q quieter) Handle(ctx context.Context, record slog.Record) error {
	record.Level = lowered(record.Level)
	return q.Handler.Handle(ctx, record)
}

// WithAttrs keeps the levels lowered.
func (q quieter) WithAttrs(attrs []slog.Attr) slog.Handler {
	return quieter{q.Handler.WithAttrs(attrs)}
}

// WithGroup keeps the levels lowered.
func (q quieter) WithGroup(name string) slog.Handler { return quieter{q.Handler.WithGroup(name)} }

func lowered(level slog.Level) slog.Level {
	if level >= slog.LevelError {
		return level
	}
	return slog.LevelDebug
}
