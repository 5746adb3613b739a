package api

import (
	"context"
	"net/http"
	"time"
)

// LogModeRequest is the body of PUT /v1/log/mode.
type LogModeRequest struct {
	ReadOnly bool   `json:"readOnly"`
	Reason   string `json:"reason,omitempty" maxLength:"1024" doc:"For the journal, and for who asks why nothing is signed."`
}

// LogMode says whether the log takes entries.
type LogMode struct {
	ReadOnly bool      `json:"readOnly"`
	Reason   string    `json:"reason,omitempty"`
	Since    time.Time `json:"since,omitzero" doc:"When it was set; absent if it never was."`
}

// LogMode tells whether the log takes entries.
func (c *Client) LogMode(ctx context.Context) (m LogMode, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "v1/log/mode", out: &m})
	return m, err
}

// SetLogMode makes the log read-only, or ends that.
func (c *Client) SetLogMode(ctx context.Context, r LogModeRequest) (m LogMode, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodPut, path: "v1/log/mode", body: r, out: &m})
	return m, err
}
