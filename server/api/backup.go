package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Backup writes the service's backup archive to w. It is whole only if
// backup.Read says so: a service that fails half-way can only stop sending.
func (c *Client) Backup(ctx context.Context, w io.Writer) error {
	resp, err := c.send(ctx, call{method: http.MethodPost, path: "/v1/backup"})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || strings.HasPrefix(resp.Header.Get("Content-Type"), ProblemType) {
		body, err := io.ReadAll(io.LimitReader(resp.Body, MaxAnswer))
		if err != nil {
			return fmt.Errorf("%w: reading the answer: %w", ErrServer, err)
		}
		return parseProblem(resp, body)
	}
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("%w: reading the answer: %w", ErrServer, err)
	}
	return nil
}
