package main

import (
	"context"
	"log/slog"

	"k8s.io/klog/v2"
)

// logger writes structured lines to standard error, and takes over what the
// log's storage driver says: it logs through klog, which is global.
func (a *app) logger(level, form string) *slog.Logger {
	var threshold slog.Level
	if err := threshold.UnmarshalText([]byte(level)); err != nil {
		threshold = slog.LevelInfo
	}
	options := &slog.HandlerOptions{Level: threshold}
	var handler slog.Handler = slog.NewTextHandler(a.err, options)
	if form == "json" {
		handler = slog.NewJSONHandler(a.err, options)
	}
	klog.SetSlogLogger(slog.New(quieter{handler}).With("component", "log storage"))
	return slog.New(handler)
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
