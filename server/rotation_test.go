package server_test

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	stocklog "github.com/sigstore/sigstore-go/pkg/tlog"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/signature"

	"github.com/countersign/countersign/server/api"
	"github.com/countersign/countersign/tlog/sequencer"
	"github.com/countersign/countersign/trust"
)

// workflow is the certificate subject of the test issuer's GitHub token.
const workflow = "https://github.com/acme/app/.github/workflows/release.yml@refs/heads/main"

const eitherPolicy = `apiVersion: countersign.dev/v1
kind: TrustPolicy
metadata: {name: production}
spec:
  match: {images: ["%s/**"]}
  authorities:
    release: {key: {name: release}}
    workflow: {identity: {issuer: "%s", subject: "` + workflow + `", trustRoot: self}}
  require:
    any: [{signature: {by: release}}, {signature: {by: workflow}}]
`

// signedImage is what one call made.
type signedImage struct {
	api.Signature
	key, format string
}

// TestRotationUnderLoad: the keys of all authorities rotate, the log's twice,
// while twenty callers sign with a key or their identity in either format. No
// call fails; everything that was signed before, meanwhile and after verifies,
// here and with the stock verifier, by the trusted root of the end, which keeps
// the old authorities with their ends.
func TestRotationUnderLoad(t *testing.T) {
	h := open(t)
	h.furnish()
	ctx := t.Context()
	issuer := h.believe("ci", "github")
	_, err := h.admin.PutGrant(ctx, "workflow", api.GrantRequest{
		Issuer: issuer.URL, Claims: map[string]string{"repository": "acme/app"}, Repositories: []string{h.registry.Host + "/team/**"}, Keys: []string{"release", "identity"}, Actions: []string{"sign"},
	}, api.PutOptions{})
	h.must(err)
	h.must(h.admin.Delete(ctx, "policies", "production", api.PutOptions{}))
	_, err = h.admin.PutPolicy(ctx, "production", fmt.Appendf(nil, eitherPolicy, h.registry.Host, issuer.URL), api.PutOptions{})
	h.must(err)

	var mu sync.Mutex
	var made []signedImage
	sign := func(caller, n int) error {
		key, format := []string{"release", "identity"}[caller%2], []string{"bundle", "legacy"}[(caller/2+n)%2]
		d, err := h.registry.PushImage(ctx, "team/app", "", fmt.Sprintf("%d of %d", n, caller))
		if err != nil {
			return err
		}
		client := h.client(issuer.GitHub(nil))
		s, _, err := client.Sign(ctx, api.SignatureRequest{Image: h.registry.Image("team/app", d), Key: key, Formats: []string{format}}, api.SignOptions{})
		if err != nil {
			return fmt.Errorf("signing with %s: %w", key, err)
		}
		mu.Lock()
		defer mu.Unlock()
		made = append(made, signedImage{s, key, format})
		return nil
	}
	for caller := range 4 {
		h.must(sign(caller, 0))
	}
	running, stop := context.WithCancel(ctx)
	var callers sync.WaitGroup
	for caller := range 20 {
		callers.Go(func() {
			for n := 1; running.Err() == nil; n++ {
				if err := sign(caller, n); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for _, name := range []string{"log", "ca", "ct", "tsa", "log"} {
		time.Sleep(200 * time.Millisecond)
		if _, err := h.admin.RotateAuthority(ctx, name); err != nil {
			t.Errorf("rotating %s: %v", name, err)
		}
	}
	time.Sleep(200 * time.Millisecond)
	stop()
	callers.Wait()
	for caller := range 4 {
		h.must(sign(caller, 1000))
	}
	t.Logf("%d images were signed", len(made))
	h.wantAllVerified(made, issuer.URL)
	h.wantRotatedLog(made)
}

// wantAllVerified asks our verifier about each image and the stock one about
// each signature.
func (h *house) wantAllVerified(made []signedImage, issuer string) {
	h.t.Helper()
	raw, err := h.admin.TrustedRoot(h.t.Context())
	h.must(err)
	stock := newStock(h, raw, issuer)
	for _, s := range made {
		answer, _, err := h.admin.VerifyOne(h.t.Context(), s.Image, nil)
		h.must(err)
		if answer.Verdict != "PASSED" {
			h.t.Errorf("%s %s: %+v", s.key, s.format, answer.Results[0].Policies)
		}
		if err := stock.check(s); err != nil {
			h.t.Errorf("the stock verifier, %s %s: %v", s.key, s.format, err)
		}
	}
}

// wantRotatedLog: three shards that prove themselves, all used, the trusted root
// says until when, and an entry is found by the id that its answer names.
func (h *house) wantRotatedLog(made []signedImage) {
	t := h.t
	t.Helper()
	raw, err := h.admin.TrustedRoot(t.Context())
	h.must(err)
	parsed, err := trust.ParseTrustedRoot(raw)
	h.must(err)
	if len(parsed.Logs) != 3 || len(parsed.CertificateAuthorities) != 2 || len(parsed.CTLogs) != 2 || len(parsed.TimestampAuthorities) != 2 {
		t.Fatalf("trusted root: %s", raw)
	}
	used := map[string]int{}
	for _, s := range made {
		used[s.Signatures[0].LogEntry.LogID]++
	}
	for i, log := range parsed.Logs {
		id := hex.EncodeToString(log.ID)
		if last := i == 2; (log.End == nil) != last || !strings.HasSuffix(log.BaseURL, fmt.Sprintf("/shards/%d", i+1)) || used[id] == 0 {
			t.Errorf("log %d: %s until %v with %d entries", i+1, log.BaseURL, log.End, used[id])
		}
		shard := i + 1
		report, err := sequencer.Audit(t.Context(), sequencer.AuditConfig{
			Origin: log.Origin, Public: log.Public,
			Fetch: func(ctx context.Context, path string) ([]byte, error) { return h.admin.Shard(ctx, shard, path) },
		})
		h.must(err)
		if !report.Sound() {
			t.Errorf("shard %d: %+v", shard, report)
		}
	}
	for _, s := range made[:3] {
		ref := s.Signatures[0].LogEntry
		entry, err := h.client("").LogEntryOf(t.Context(), ref.LogID, ref.Index)
		h.must(err)
		if !strings.Contains(string(entry), `"canonicalizedBody"`) {
			t.Errorf("entry: %s", entry)
		}
	}
	config, err := h.admin.SigningConfig(t.Context())
	h.must(err)
	if text := string(config); strings.Contains(text, "/shards/") || !strings.Contains(text, `"url":"`+h.url+`"`) {
		t.Errorf("signing configuration: %s", text)
	}
}

// stock is sigstore-go with one trusted root and the key release.
type stock struct {
	h        *house
	issuer   string
	material root.TrustedMaterial
	key      root.TrustedMaterial
}

type timeless struct{ signature.Verifier }

func (timeless) ValidAtTime(time.Time) bool { return true }

func newStock(h *house, trusted []byte, issuer string) stock {
	h.t.Helper()
	material, err := root.NewTrustedRootFromJSON(trusted)
	h.must(err)
	encoded, err := h.admin.PublicKey(h.t.Context(), "release")
	h.must(err)
	block, _ := pem.Decode(encoded)
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	h.must(err)
	key, err := signature.LoadVerifier(public, crypto.SHA256)
	h.must(err)
	return stock{h: h, issuer: issuer, material: material, key: root.TrustedMaterialCollection{
		material, root.NewTrustedPublicKeyMaterial(func(string) (root.TimeConstrainedVerifier, error) { return timeless{key}, nil }),
	}}
}

// check verifies a bundle wholly, and of a legacy signature what the log says.
func (s stock) check(made signedImage) error {
	item := made.Signatures[0]
	if made.format == "legacy" {
		return s.checkPromise(item.Legacy.Annotations["dev.sigstore.cosign/bundle"])
	}
	sum, err := hex.DecodeString(strings.TrimPrefix(item.Digest, "sha256:"))
	if err != nil {
		return err
	}
	var b bundle.Bundle
	if err := b.UnmarshalJSON(item.Bundle); err != nil {
		return err
	}
	if made.key == "release" {
		v, err := verify.NewVerifier(s.key, verify.WithTransparencyLog(1), verify.WithSignedTimestamps(1))
		if err != nil {
			return err
		}
		_, err = v.Verify(&b, verify.NewPolicy(verify.WithArtifactDigest("sha256", sum), verify.WithKey()))
		return err
	}
	v, err := verify.NewVerifier(s.material, verify.WithTransparencyLog(1), verify.WithSignedTimestamps(1), verify.WithSignedCertificateTimestamps(1))
	if err != nil {
		return err
	}
	who, err := verify.NewShortCertificateIdentity(s.issuer, "", workflow, "")
	if err != nil {
		return err
	}
	_, err = v.Verify(&b, verify.NewPolicy(verify.WithArtifactDigest("sha256", sum), verify.WithCertificateIdentity(who)))
	return err
}

func (s stock) checkPromise(annotation string) error {
	var kept struct {
		SignedEntryTimestamp []byte
		Payload              struct {
			Body           []byte
			IntegratedTime int64
			LogIndex       int64
			LogID          string
		}
	}
	if err := json.Unmarshal([]byte(annotation), &kept); err != nil {
		return err
	}
	id, err := hex.DecodeString(kept.Payload.LogID)
	if err != nil {
		return err
	}
	entry, err := stocklog.NewEntry(kept.Payload.Body, kept.Payload.IntegratedTime, kept.Payload.LogIndex, id, kept.SignedEntryTimestamp, nil) //nolint:staticcheck // what cosign calls
	if err != nil {
		return err
	}
	return stocklog.VerifySET(entry, s.material.RekorLogs())
}

// TestShardRoutes: each shard answers under its number; nobody writes there.
func TestShardRoutes(t *testing.T) {
	h := open(t)
	h.settled()
	first := h.ask(http.MethodGet, "/shards/1/api/v2/checkpoint", "", "")
	if now := h.ask(http.MethodGet, "/api/v2/checkpoint", "", ""); first.status != http.StatusOK || string(first.body) != string(now.body) {
		t.Errorf("the written shard: %d %s", first.status, first.body)
	}
	_, err := h.admin.RotateAuthority(t.Context(), "log")
	h.must(err)
	for path, want := range map[string]int{
		"/shards/1/api/v2/checkpoint": 200, "/shards/2/api/v2/checkpoint": 200, "/shards/3/api/v2/checkpoint": 404,
		"/shards/0/api/v2/checkpoint": 404, "/shards/01/api/v2/checkpoint": 404, "/shards/-1/api/v2/checkpoint": 404,
		"/shards/x/api/v2/checkpoint": 404, "/shards/1/api/v2/tile/0/000": 404, "/shards/1/api/v2/tile/0/x": 400,
		"/v1/log/entries/0?logId=" + strings.Repeat("0", 64): 404, "/v1/log/entries/0?logId=xx": 422,
	} {
		if got := h.ask(http.MethodGet, path, "", ""); got.status != want && (want != 422 || got.status != 400) {
			t.Errorf("%s: %d, want %d: %s", path, got.status, want, got.body)
		}
	}
	// The rotation itself is journalled, in the one shard or the other.
	frozen := h.ask(http.MethodGet, "/shards/1/api/v2/checkpoint", "", "")
	h.settled()
	if got := h.ask(http.MethodGet, "/shards/1/api/v2/checkpoint", "", ""); string(got.body) != string(frozen.body) {
		t.Errorf("a frozen shard's checkpoint changed:\n%s\n%s", frozen.body, got.body)
	}
	if got := h.ask(http.MethodGet, "/api/v2/checkpoint", "", ""); string(got.body) == string(frozen.body) {
		t.Error("the log still answers with the frozen shard")
	}
	for _, shard := range []string{"1", "2"} {
		got := h.ask(http.MethodPost, "/shards/"+shard+"/api/v2/log/entries", h.secret, "{}")
		if got.status != http.StatusMethodNotAllowed || !strings.Contains(string(got.body), `"log_frozen"`) || got.header.Get("Allow") != http.MethodGet {
			t.Errorf("writing to shard %s: %d %s", shard, got.status, got.body)
		}
	}
}
