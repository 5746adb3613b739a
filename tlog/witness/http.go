package witness

import (
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/countersign/countersign/tlog"
)

// sizeType is the media type of a stale answer (C2SP tlog-witness).
const sizeType = "text/x.tlog.size"

// Handler serves the protocol, /healthz and /metrics.
func (w *Witness) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /add-checkpoint", w.serve)
	mux.HandleFunc("GET /healthz", w.health)
	mux.Handle("GET /metrics", w.metrics.handler())
	return mux
}

func (w *Witness) serve(out http.ResponseWriter, in *http.Request) {
	line, err := w.answer(out, in)
	var stale *StaleError
	status, result := statusOf(err)
	w.metrics.answers.WithLabelValues(result).Inc()
	switch {
	case err == nil:
		out.Header().Set("Content-Type", "text/plain; charset=utf-8")
	case errors.As(err, &stale):
		out.Header().Set("Content-Type", sizeType)
		line = fmt.Appendf(nil, "%d\n", stale.Size)
	default:
		out.Header().Set("Content-Type", "text/plain; charset=utf-8")
		line = fmt.Appendf(nil, "%s\n", result)
	}
	if status >= http.StatusInternalServerError {
		w.cfg.Logger.ErrorContext(in.Context(), "a checkpoint was not cosigned", "cause", err)
	}
	out.WriteHeader(status)
	_, _ = out.Write(line) //nolint:gosec // plain text, and none of the caller's; if he is gone the state says what was cosigned
}

func (w *Witness) answer(out http.ResponseWriter, in *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(out, in.Body, tlog.WitnessRequestBytes))
	if err != nil {
		return nil, fmt.Errorf("%w: reading it: %w", ErrRequest, err)
	}
	request, err := tlog.ParseWitnessRequest(body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	return w.AddCheckpoint(in.Context(), request)
}

// statusOf is the one table from errors to answers. What is not in it is the
// witness's own trouble, of which the caller is told nothing.
func statusOf(err error) (status int, result string) {
	var stale *StaleError
	switch {
	case err == nil:
		return http.StatusOK, "cosigned"
	case errors.As(err, &stale):
		return http.StatusConflict, "stale"
	case errors.Is(err, ErrRequest):
		return http.StatusBadRequest, "malformed"
	case errors.Is(err, ErrUnknownLog):
		return http.StatusNotFound, "unknown_log"
	case errors.Is(err, ErrSignature):
		return http.StatusForbidden, "bad_signature"
	case errors.Is(err, ErrFork):
		return http.StatusUnprocessableEntity, "fork"
	case errors.Is(err, ErrProof):
		return http.StatusUnprocessableEntity, "bad_proof"
	default:
		return http.StatusServiceUnavailable, "unavailable"
	}
}

// health says whether states can be read.
func (w *Witness) health(out http.ResponseWriter, in *http.Request) {
	for origin := range w.logs {
		if _, err := w.last(in.Context(), origin); err != nil {
			w.cfg.Logger.ErrorContext(in.Context(), "not healthy", "cause", err)
			http.Error(out, "unavailable", http.StatusServiceUnavailable)
			return
		}
	}
	_, _ = io.WriteString(out, "ok\n") // nobody is left to tell
}
