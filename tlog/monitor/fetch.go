package monitor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"

	"github.com/countersign/countersign/internal/limits"
)

// FetchURL reads a log under a base URL: as a Rekor v2 service (BASE/api/v2/…)
// or, where that has no checkpoint, as any tlog-tiles log (BASE/…). client may be
// nil.
func FetchURL(client *http.Client, base string) Fetch {
	if client == nil {
		client = &http.Client{Timeout: limits.MonitorFetch}
	}
	base = strings.TrimSuffix(base, "/")
	return func(ctx context.Context, path string) ([]byte, error) {
		raw, err := get(ctx, client, base+"/api/v2/"+path)
		if errors.Is(err, fs.ErrNotExist) {
			return get(ctx, client, base+"/"+path)
		}
		return raw, err
	}
}

func get(ctx context.Context, client *http.Client, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotFound, resp.StatusCode == http.StatusGone:
		return nil, fmt.Errorf("%w: %s", fs.ErrNotExist, url)
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s answers %d", url, resp.StatusCode)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, limits.MonitorFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", url, err)
	}
	if len(raw) > limits.MonitorFile {
		return nil, fmt.Errorf("%s is larger than %d bytes", url, limits.MonitorFile)
	}
	return raw, nil
}
