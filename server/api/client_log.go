package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// LogEntry returns an entry of the shard that is written with a fresh inclusion
// proof, as the JSON of a Sigstore TransparencyLogEntry.
func (c *Client) LogEntry(ctx context.Context, index int64) (entry []byte, err error) {
	return c.LogEntryOf(ctx, "", index)
}

// LogEntryOf is LogEntry for the shard with that log id, in hexadecimal.
func (c *Client) LogEntryOf(ctx context.Context, logID string, index int64) (entry []byte, err error) {
	query := url.Values{}
	if logID != "" {
		query.Set("logId", logID)
	}
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "v1/log/entries/" + strconv.FormatInt(index, 10), query: query, out: &entry})
	return entry, err
}

// Shard reads one shard of the log, by its number from 1: a path of the
// tlog-tiles layout, `checkpoint` included.
func (c *Client) Shard(ctx context.Context, number int, path string) (content []byte, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "shards/" + strconv.Itoa(number) + "/api/v2/" + path, out: &content})
	return content, err
}

// Checkpoint returns the log's signed checkpoint.
func (c *Client) Checkpoint(ctx context.Context) (note []byte, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "api/v2/checkpoint", out: &note})
	return note, err
}

// Tile returns a tile or entry bundle by its tlog-tiles path, such as
// tile/0/000 or tile/entries/000.p/5.
func (c *Client) Tile(ctx context.Context, path string) (tile []byte, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "api/v2/" + strings.TrimPrefix(path, "/"), out: &tile})
	return tile, err
}

// AddLogEntry writes a Rekor v2 create-entry request to the log and returns
// the TransparencyLogEntry as JSON.
func (c *Client) AddLogEntry(ctx context.Context, request []byte) (entry []byte, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodPost, path: "api/v2/log/entries", body: request, out: &entry})
	return entry, err
}

// Timestamp sends an RFC 3161 query and returns the DER answer.
func (c *Client) Timestamp(ctx context.Context, query []byte) (answer []byte, err error) {
	header := http.Header{"Content-Type": {"application/timestamp-query"}}
	_, _, err = c.do(ctx, call{method: http.MethodPost, path: "api/v1/timestamp", header: header, body: query, out: &answer})
	return answer, err
}

// TimestampChain returns the timestamp authority's certificates as PEM.
func (c *Client) TimestampChain(ctx context.Context) (pem []byte, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "api/v1/timestamp/certchain", out: &pem})
	return pem, err
}

// TrustedRoot returns trusted_root.json.
func (c *Client) TrustedRoot(ctx context.Context) (document []byte, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "v1/trust/trusted_root.json", out: &document})
	return document, err
}

// SigningConfig returns signing_config.json.
func (c *Client) SigningConfig(ctx context.Context) (document []byte, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "v1/trust/signing_config.json", out: &document})
	return document, err
}

// Health asks whether the server runs.
func (c *Client) Health(ctx context.Context) (h Health, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "healthz", out: &h})
	return h, err
}

// Ready asks whether the server can do its work. When it cannot, status is
// 503 and the health names what is missing.
func (c *Client) Ready(ctx context.Context) (h Health, status int, err error) {
	status, _, err = c.do(ctx, call{method: http.MethodGet, path: "readyz", out: &h, also: http.StatusServiceUnavailable})
	return h, status, err
}
