package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
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

// TLSAuthority returns the authority of the server's own TLS certificate, in
// PEM; a *Problem with status 404 says that it makes none.
func (c *Client) TLSAuthority(ctx context.Context) (bundle []byte, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "v1/trust/tls-ca.pem", out: &bundle})
	return bundle, err
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

// LogFilter selects entries of the log. At least one of Digest, Identity and Key
// is named; what is named must match as a whole, all of it.
type LogFilter struct {
	ListOptions
	// Digest is of an artifact, or of the bytes that were signed.
	Digest string
	// Identity and Issuer are of the certificate.
	Identity string
	Issuer   string
	// Key is the hexadecimal SHA-256 of the key's SubjectPublicKeyInfo.
	Key string
	// Since is the first moment that counts, Until the first that does not; zero
	// is no bound.
	Since time.Time
	Until time.Time
}

// SearchLog finds entries of the log, newest first.
func (c *Client) SearchLog(ctx context.Context, f LogFilter) (l LogSearch, err error) {
	q := f.query()
	set(q, "digest", f.Digest)
	set(q, "identity", f.Identity)
	set(q, "issuer", f.Issuer)
	set(q, "key", f.Key)
	for name, moment := range map[string]time.Time{"since": f.Since, "until": f.Until} {
		if !moment.IsZero() {
			q.Set(name, moment.UTC().Format(time.RFC3339Nano))
		}
	}
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "v1/log/entries", query: q, out: &l})
	return l, err
}

// LogConsistency proves that the tree of from entries is the beginning of the
// tree of to entries; 0 for to is the published tree, an empty logID the shard
// that is written.
func (c *Client) LogConsistency(ctx context.Context, logID string, from, to uint64) (proof LogConsistency, err error) {
	q := url.Values{"from": {strconv.FormatUint(from, 10)}}
	if to > 0 {
		q.Set("to", strconv.FormatUint(to, 10))
	}
	set(q, "logId", logID)
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "v1/log/consistency", query: q, out: &proof})
	return proof, err
}
