package server

import (
	"context"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/countersign/countersign/server/api"
)

// LogModes remembers whether the log takes entries.
type LogModes interface {
	LogMode(ctx context.Context) (api.LogMode, error)
	// SetLogMode brings a mode into force and fills its Since.
	SetLogMode(ctx context.Context, mode api.LogMode) (api.LogMode, error)
}

const logModePath = "/v1/log/mode"

type logModeInput struct{ Body api.LogModeRequest }

func (s *Server) logModeRoutes() {
	if s.cfg.LogModes == nil {
		return
	}
	register(s, huma.Operation{
		OperationID: "getLogMode", Method: http.MethodGet, Path: logModePath, Tags: []string{"Log"},
		Summary: "Does the log take entries?",
	}, func(ctx context.Context, _ *struct{}) (*bodyOutput[api.LogMode], error) {
		mode, err := s.cfg.LogModes.LogMode(ctx)
		return &bodyOutput[api.LogMode]{Body: mode}, err
	})
	register(s, huma.Operation{
		OperationID: "setLogMode", Method: http.MethodPut, Path: logModePath, Tags: []string{"Log"},
		Summary:     "Make the log read-only, or end that",
		Description: "While it is read-only nothing is signed, and everything that is there is verified and read as before. It stays so across restarts.",
	}, s.setLogMode)
}

func (s *Server) setLogMode(ctx context.Context, in *logModeInput) (*bodyOutput[api.LogMode], error) {
	out := &bodyOutput[api.LogMode]{}
	detail := map[string]string{"readOnly": strconv.FormatBool(in.Body.ReadOnly), "reason": in.Body.Reason}
	err := s.change(ctx, "log.mode", "log", detail, func() (err error) {
		out.Body, err = s.cfg.LogModes.SetLogMode(ctx, api.LogMode{ReadOnly: in.Body.ReadOnly, Reason: in.Body.Reason})
		return err
	})
	return out, err
}
