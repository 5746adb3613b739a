package server_test

import (
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/countersign/countersign/server/api"
)

// awaitIndexed waits until a search finds that many entries of the first shard.
func (h *house) awaitIndexed(size uint64) {
	h.t.Helper()
	for range 400 {
		found, err := h.client("").SearchLog(h.t.Context(), api.LogFilter{Key: strings.Repeat("0", 64)})
		h.must(err)
		if len(found.IndexedTo) > 0 && found.IndexedTo[0].Size >= size {
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	h.t.Fatalf("%d entries are not indexed", size)
}

// TestLogSearch: what was signed is found by the artifact, by the key, and by
// nothing that fits only in part (row B3).
func TestLogSearch(t *testing.T) {
	h := open(t)
	builder := h.furnish()
	image := h.push("searched")
	signed, _, err := builder.Sign(t.Context(), api.SignatureRequest{Image: image, Key: "release", Formats: []string{"bundle", "legacy"}}, api.SignOptions{})
	h.must(err)
	other, _, err := builder.Sign(t.Context(), api.SignatureRequest{Image: h.push("another"), Key: "release"}, api.SignOptions{})
	h.must(err)
	h.must(firstError(h.client(h.secret).AddLogEntry(t.Context(), []byte(hashedRekord(t, "a stranger's")))))
	h.awaitIndexed(uint64(h.settled()))
	anybody := h.client("")

	byDigest, err := anybody.SearchLog(t.Context(), api.LogFilter{Digest: signed.Digest})
	h.must(err)
	if len(byDigest.Items) != 2 {
		t.Fatalf("by artifact: %+v", byDigest)
	}
	for _, item := range byDigest.Items {
		if !slices.Equal(item.Subjects, []string{signed.Digest}) || item.KeyID != signed.Signer.KeyID || item.Kind != "hashedrekord" ||
			item.TimeSource != "firstSeen" || time.Since(item.Time) > time.Hour || item.Shard != 1 || item.Identity != nil {
			t.Errorf("by artifact: %+v", item)
		}
		entry, err := anybody.LogEntryOf(t.Context(), item.LogID, item.LogIndex)
		h.must(err)
		body, err := base64.StdEncoding.DecodeString(field(t, entry, "canonicalizedBody"))
		h.must(err)
		logged := ""
		if item.Version == "0.0.1" {
			logged = field(t, body, "spec", "data", "hash", "value")
		} else {
			raw, err := base64.StdEncoding.DecodeString(field(t, body, "spec", "hashedRekordV002", "data", "digest"))
			h.must(err)
			logged = hex.EncodeToString(raw)
		}
		if item.Digest != "sha256:"+logged {
			t.Errorf("entry %d is of %s, the search says %s", item.LogIndex, logged, item.Digest)
		}
		byLogged, err := anybody.SearchLog(t.Context(), api.LogFilter{Digest: item.Digest})
		h.must(err)
		if len(byLogged.Items) != 1 || byLogged.Items[0].LogIndex != item.LogIndex {
			t.Errorf("by what was signed: %+v", byLogged.Items)
		}
	}
	for name, c := range map[string]struct {
		filter api.LogFilter
		want   int
	}{
		"key":                       {api.LogFilter{Key: signed.Signer.KeyID}, 3},
		"key and digest":            {api.LogFilter{Key: signed.Signer.KeyID, Digest: other.Digest}, 1},
		"row B3: another key":       {api.LogFilter{Key: strings.Repeat("0", 64), Digest: other.Digest}, 0},
		"row B3: another digest":    {api.LogFilter{Key: signed.Signer.KeyID, Digest: "sha256:" + strings.Repeat("0", 64)}, 0},
		"row B3: not the identity":  {api.LogFilter{Key: signed.Signer.KeyID, Identity: "somebody"}, 0},
		"since":                     {api.LogFilter{Key: signed.Signer.KeyID, Since: time.Now().Add(-time.Hour)}, 3},
		"later":                     {api.LogFilter{Key: signed.Signer.KeyID, Since: time.Now().Add(time.Hour)}, 0},
		"until":                     {api.LogFilter{Key: signed.Signer.KeyID, Until: time.Now().Add(time.Hour)}, 3},
		"earlier":                   {api.LogFilter{Key: signed.Signer.KeyID, Until: time.Now().Add(-time.Hour)}, 0},
		"pattern is not a wildcard": {api.LogFilter{Identity: "%"}, 0},
	} {
		found, err := anybody.SearchLog(t.Context(), c.filter)
		if err != nil || len(found.Items) != c.want {
			t.Errorf("%s: %d, %v; want %d", name, len(found.Items), err, c.want)
		}
	}
	var indices []int64
	for cursor := ""; ; {
		page, err := anybody.SearchLog(t.Context(), api.LogFilter{Key: signed.Signer.KeyID, ListOptions: api.ListOptions{Limit: 1, Cursor: cursor}})
		h.must(err)
		for _, item := range page.Items {
			indices = append(indices, item.LogIndex)
		}
		if cursor = page.NextCursor; cursor == "" {
			break
		}
	}
	if len(indices) != 3 || !slices.IsSortedFunc(indices, func(a, b int64) int { return cmp.Compare(b, a) }) {
		t.Errorf("pages: %v", indices)
	}
}

func TestLogSearchRefusals(t *testing.T) {
	h := open(t)
	for _, query := range []string{
		"", "digest=", "digest=sha256:AA", "digest=sha256:" + strings.Repeat("A", 64), "digest=sha512:" + strings.Repeat("a", 64),
		"key=zz", "issuer=https://a.example", "since=2026-01-01T00:00:00Z", "identity=" + strings.Repeat("a", 1025), "identity=a&since=yesterday",
		"identity=a&cursor=x", "identity=a&limit=0", "identity=a&limit=201", "identity=a&surprise=1",
	} {
		if got := h.ask("GET", "/v1/log/entries?"+query, "", ""); got.status != http.StatusBadRequest {
			t.Errorf("%q: %d %s", query, got.status, got.body)
		}
	}
	if got := h.ask("GET", "/v1/log/entries?identity="+url.QueryEscape("a job"), "", ""); got.status != http.StatusOK || !strings.Contains(string(got.body), `"items":[]`) {
		t.Errorf("control: %d %s", got.status, got.body)
	}
}

func TestLogConsistency(t *testing.T) {
	h := open(t)
	writer := h.client(h.secret)
	h.settled()
	for i := range 5 {
		h.must(firstError(writer.AddLogEntry(t.Context(), []byte(hashedRekord(t, string(rune('a'+i)))))))
	}
	anybody := h.client("")
	whole, err := anybody.LogConsistency(t.Context(), "", 2, 0)
	h.must(err)
	part, err := anybody.LogConsistency(t.Context(), whole.LogID, 2, 4)
	h.must(err)
	for _, c := range []api.LogConsistency{whole, part} {
		var hashes [][]byte
		for _, text := range append([]string{c.FromRoot, c.ToRoot}, c.Hashes...) {
			raw, err := hex.DecodeString(text)
			h.must(err)
			hashes = append(hashes, raw)
		}
		if err := proof.VerifyConsistency(rfc6962.DefaultHasher, c.From, c.To, hashes[2:], hashes[0], hashes[1]); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
	size := h.settled()
	if int(whole.To) != size || part.To != 4 || whole.FromRoot != part.FromRoot || !strings.HasPrefix(whole.Checkpoint, fmt.Sprintf("127.0.0.1\n%d\n", size)) {
		t.Errorf("%+v, %+v", whole, part)
	}
	for query, status := range map[string]int{
		"from=3&to=2": 400, fmt.Sprintf("from=%d", size+1): 400, "to=3": 400, "from=-1": 400, "from=x": 400, "from=1&to=0": 400, "from=1&logId=x": 400,
		fmt.Sprintf("from=1&to=%d", size+1): 404, "from=99&to=100": 404, "from=1&logId=" + strings.Repeat("0", 64): 404, "from=0": 200, fmt.Sprintf("from=%d", size): 200, "from=1&to=1": 200,
	} {
		if got := h.ask("GET", "/v1/log/consistency?"+query, "", ""); got.status != status {
			t.Errorf("%s: %d %s", query, got.status, got.body)
		}
	}
}
