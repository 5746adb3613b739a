package main

import (
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/countersign/countersign/examiner"
	"github.com/countersign/countersign/internal/localregistry"
	"github.com/countersign/countersign/server/api"
)

// TestAuditOverShards: the audit of a log of two shards is clean, and finds one
// bit that was changed in either, in any of its files; an older checkpoint is
// held against the shard that it is of.
func TestAuditOverShards(t *testing.T) {
	ctx := context.Background()
	registry, err := localregistry.Start(ctx, localregistry.Options{})
	check(t, err)
	t.Cleanup(func() { registry.Close() })
	p := newProcess(t)
	p.start()
	p.trustAll(registry, "release")
	older := filepath.Join(t.TempDir(), "checkpoint")
	for shard := range 2 {
		d, err := registry.PushImage(ctx, "app", "", string(rune('a'+shard)))
		check(t, err)
		_, _, err = p.admin.Sign(ctx, api.SignatureRequest{Image: registry.Image("app", d), Key: "release", Formats: []string{"bundle", "legacy"}}, api.SignOptions{})
		check(t, err)
		if shard > 0 {
			break
		}
		note, err := p.admin.Checkpoint(ctx)
		check(t, err)
		check(t, os.WriteFile(older, note, 0o600))
		if out, code := p.run("authorities", "rotate", "log"); code != 0 {
			t.Fatalf("rotating the log: exit %d\n%s", code, out)
		}
	}
	audit := func(args ...string) (examiner.Report, int) {
		t.Helper()
		out, code := p.run(append([]string{"log", "audit", "-o", "json"}, args...)...)
		var report examiner.Report
		if code == 0 || code == 3 {
			check(t, json.Unmarshal([]byte(out), &report))
		}
		return report, code
	}
	served := []string{"--url", p.url, "--trusted-root", filepath.Join(p.dir, "trusted_root.json"), "--from", older}
	for name, args := range map[string][]string{"folder": {"--data-dir", p.dir, "--from", older}, "url": served} {
		report, code := audit(args...)
		if code != 0 || len(report.Shards) != 2 || report.Shards[0].Size < 2 || report.Shards[1].Size < 2 || report.Size != report.Shards[0].Size+report.Shards[1].Size || !report.Sound() {
			t.Errorf("%s: exit %d %+v", name, code, report)
		}
	}
	p.kill()
	for _, folder := range []string{"log", "log-2"} {
		check(t, filepath.WalkDir(filepath.Join(p.dir, folder), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || strings.Contains(path, ".state") {
				return err
			}
			whole, err := os.ReadFile(path)
			check(t, err)
			harmed := append([]byte(nil), whole...)
			harmed[len(harmed)/2] ^= 1
			check(t, os.WriteFile(path, harmed, 0o600))
			if report, code := audit("--data-dir", p.dir); code != 3 || report.Sound() {
				t.Errorf("%s with one bit changed: exit %d %+v", path, code, report)
			}
			return os.WriteFile(path, whole, 0o600)
		}))
	}
	if report, code := audit("--data-dir", p.dir); code != 0 {
		t.Errorf("after all was put back: exit %d %+v", code, report)
	}
}
