package daemon

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"

	"github.com/countersign/countersign/server"
	"github.com/countersign/countersign/tlog"
	"github.com/countersign/countersign/tlog/sequencer"
	"github.com/countersign/countersign/trust"
	"github.com/countersign/countersign/trust/tuf"
)

// folder is one data folder and whoever serves it.
type folder struct {
	t   *testing.T
	dir string
	d   *Daemon
}

func (f *folder) open() {
	f.t.Helper()
	d, err := Open(f.t.Context(), Config{DataDir: f.dir, PublicURL: "http://127.0.0.1:8181"})
	if err != nil {
		f.t.Fatal(err)
	}
	f.d = d
	f.t.Cleanup(func() { _ = d.Close(context.Background()) })
}

// kill goes on with what the disk holds now. The process that is left behind
// has its own copy and can do no harm.
func (f *folder) kill() {
	f.t.Helper()
	dead := f.dir
	f.dir = filepath.Join(f.t.TempDir(), "data")
	err := filepath.WalkDir(dead, func(path string, entry fs.DirEntry, err error) error {
		// What is written beside a file and renamed over it is gone at times.
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		within, err := filepath.Rel(dead, path)
		if err != nil {
			return err
		}
		target := filepath.Join(f.dir, within)
		if entry.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		raw, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return os.WriteFile(target, raw, 0o600)
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.open()
}

func newBody(t *testing.T, n int) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	message := fmt.Appendf(nil, "artifact %d", n)
	digest := sha256.Sum256(message)
	signature, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	body, err := tlog.HashedRekordV002(key.Public(), message, signature)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func (f *folder) append(body []byte) *rekorpb.TransparencyLogEntry {
	f.t.Helper()
	entry, err := f.d.log.Append(f.t.Context(), body)
	if err != nil {
		f.t.Fatal(err)
	}
	return entry
}

// published is the trusted root of the folder, which commands believe.
func (f *folder) published() trust.Root {
	f.t.Helper()
	raw, err := os.ReadFile(filepath.Join(f.dir, rootFile))
	if err != nil {
		f.t.Fatal(err)
	}
	root, err := trust.ParseTrustedRoot(raw)
	if err != nil {
		f.t.Fatal(err)
	}
	return root
}

func place(e *rekorpb.TransparencyLogEntry) string {
	return fmt.Sprintf("%s/%d", hex.EncodeToString(e.GetLogId().GetKeyId()), e.GetLogIndex())
}

// stepNames are the steps of a rotation, for the table.
func stepNames(t *testing.T) []string {
	t.Helper()
	f := &folder{t: t, dir: filepath.Join(t.TempDir(), "data")}
	f.open()
	var names []string
	for _, step := range f.d.authorities.logSteps() {
		names = append(names, step.name)
	}
	return names
}

// TestLogRotationInterrupted: a rotation that fails or dies before or after any
// of its steps is finished by the next call or the next start. There are two
// shards then, each entry has its place, and the key of what is written was
// public before.
func TestLogRotationInterrupted(t *testing.T) {
	for at, name := range stepNames(t) {
		for _, after := range []bool{false, true} {
			for _, dies := range []bool{false, true} {
				if testing.Short() && (!after || !dies) {
					continue // they differ in order, and short runs look for races
				}
				mode := map[bool]string{false: "error", true: "kill"}[dies] + map[bool]string{false: " before ", true: " after "}[after]
				t.Run(mode+name, func(t *testing.T) {
					f := &folder{t: t, dir: filepath.Join(t.TempDir(), "data")}
					f.open()
					bodies := [][]byte{newBody(t, 0), newBody(t, 1), newBody(t, 2)}
					places := []string{place(f.append(bodies[0]))}
					steps := f.d.authorities.logSteps()
					done := at
					if after {
						done++
					}
					for _, step := range steps[:done] {
						if err := step.do(t.Context()); err != nil {
							t.Fatal(err)
						}
					}
					places = append(places, place(f.append(bodies[1])))
					wantKnown(t, f, places)
					switch {
					case dies:
						f.kill()
					case done < len(steps):
						if err := f.d.authorities.Rotate(t.Context(), "log"); err != nil {
							t.Fatal(err)
						}
					default:
						// All steps are done: only the end is not published yet.
						if err := f.d.authorities.publish(t.Context()); err != nil {
							t.Fatal(err)
						}
					}
					if done == 0 && dies {
						// Nothing had begun: the folder is as it was.
						if err := f.d.authorities.Rotate(t.Context(), "log"); err != nil {
							t.Fatal(err)
						}
					}
					wantRotated(t, f, bodies, places)
					f.kill()
					wantRotated(t, f, bodies, places)
				})
			}
		}
	}
}

// wantKnown: whoever believes the published trusted root knows every key that
// something was written with.
func wantKnown(t *testing.T, f *folder, places []string) {
	t.Helper()
	root := f.published()
	for _, p := range places {
		id, err := hex.DecodeString(p[:64])
		if err != nil {
			t.Fatal(err)
		}
		if _, known := root.Log(id); !known {
			t.Errorf("an entry at %s, whose key is not published", p)
		}
	}
}

func wantRotated(t *testing.T, f *folder, bodies [][]byte, places []string) {
	t.Helper()
	shards := f.d.log.Shards()
	if len(shards) != 2 || shards[0].State != sequencer.Frozen || shards[1].State != sequencer.Active {
		t.Fatalf("shards: %+v", shards)
	}
	for i, want := range places {
		if got := place(f.append(bodies[i])); got != want {
			t.Errorf("body %d at %s, was at %s", i, got, want)
		}
	}
	if fresh := f.append(bodies[2]); string(fresh.GetLogId().GetKeyId()) != string(shards[1].LogID) {
		t.Error("a new body is not in the new shard")
	}
	wantKnown(t, f, places)
	root := f.published()
	if len(root.Logs) != 2 || root.Logs[0].End == nil || root.Logs[1].End != nil ||
		root.Logs[0].BaseURL != "http://127.0.0.1:8181/shards/1" || root.Logs[0].Origin != "127.0.0.1" ||
		root.Logs[1].BaseURL != "http://"+root.Logs[1].Origin+":8181/shards/2" || !strings.HasPrefix(root.Logs[1].Origin, "shard-2-") {
		t.Errorf("logs of the trusted root: %+v", root.Logs)
	}
	for i, log := range root.Logs {
		report, err := sequencer.Audit(t.Context(), sequencer.AuditConfig{
			Dir: filepath.Join(f.dir, shardFolder(i+1)), Origin: log.Origin, Public: log.Public,
		})
		if err != nil || !report.Sound() {
			t.Errorf("shard %d: %v %+v", i+1, err, report)
		}
	}
}

// TestLogRotationWaitsForHolders: while people sign the targets of the TUF
// repository, the new key is made and not used, also after a restart; when they
// have signed, the rotation goes on.
func TestLogRotationWaitsForHolders(t *testing.T) {
	f := &folder{t: t, dir: filepath.Join(t.TempDir(), "data")}
	f.open()
	holder := takeTargetsOffline(t, f)
	old := f.d.log.Shards()[0].LogID
	stays := func(stage string) {
		t.Helper()
		if got := f.append(newBody(t, 0)).GetLogId().GetKeyId(); string(got) != string(old) {
			t.Errorf("%s: the new key is used before it is public", stage)
		}
		if shards := f.d.log.Shards(); len(shards) != 2 || shards[1].State != sequencer.Prepared || len(f.published().Logs) != 2 {
			t.Errorf("%s: %+v", stage, shards)
		}
	}
	for range 2 {
		if err := f.d.authorities.Rotate(t.Context(), "log"); !errors.Is(err, server.ErrUnpublished) {
			t.Fatalf("rotating with the targets offline: %v", err)
		}
		stays("called")
	}
	f.kill()
	stays("restarted")
	holder.sign(t, f)
	if err := f.d.authorities.Rotate(t.Context(), "log"); err != nil {
		t.Fatal(err)
	}
	if shards := f.d.log.Shards(); len(shards) != 2 || shards[1].State != sequencer.Active || shards[0].State != sequencer.Frozen {
		t.Errorf("signed: %+v", shards)
	}
}

// TestMissingShardKey: a folder whose database is older than its log does not
// start: writing to the shard before would log retries twice.
func TestMissingShardKey(t *testing.T) {
	f := &folder{t: t, dir: filepath.Join(t.TempDir(), "data")}
	f.open()
	if err := os.Mkdir(f.d.path(shardFolder(2)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := f.d.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	d, err := Open(t.Context(), f.d.cfg)
	if !errors.Is(err, sequencer.ErrRollback) {
		t.Fatalf("it starts: %v, %v", d, err)
	}
	if err := os.Remove(f.d.path(shardFolder(2))); err != nil { // the positive control
		t.Fatal(err)
	}
	f.open()
}

// TestDamagedShard: readiness tells of a frozen shard that was changed, and the
// service is ready all the same.
func TestDamagedShard(t *testing.T) {
	f := &folder{t: t, dir: filepath.Join(t.TempDir(), "data")}
	f.open()
	f.append(newBody(t, 0))
	if err := f.d.authorities.Rotate(t.Context(), "log"); err != nil {
		t.Fatal(err)
	}
	ready := func() (int, string) {
		answer := httptest.NewRecorder()
		f.d.Handler().ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz", nil))
		return answer.Code, answer.Body.String()
	}
	if status, body := ready(); status != http.StatusOK || !strings.Contains(body, `"shards":"ok"`) {
		t.Errorf("before: %d %s", status, body)
	}
	if err := f.d.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(f.dir, shardFolder(1), "tile")); err != nil {
		t.Fatal(err)
	}
	f.open()
	if status, body := ready(); status != http.StatusOK || !strings.Contains(body, `"shards":"damaged"`) || !strings.Contains(body, `"log":"ok"`) {
		t.Errorf("after: %d %s", status, body)
	}
	f.append(newBody(t, 1))
	// The search finds what the next shard takes, and the database remembers it.
	if err := f.look(); err == nil {
		t.Error("the damage is not told")
	}
	if rows := f.search(); len(rows) == 0 || rows[0].Shard != 2 {
		t.Errorf("the next shard is not followed: %+v", rows)
	}
	if status, body := ready(); status != http.StatusOK || !strings.Contains(body, `"search":"damaged"`) {
		t.Errorf("search: %d %s", status, body)
	}
	if kept, err := f.d.main.Checkpoints().All(t.Context()); err != nil || len(kept) != 2 || kept[1].Size < 1 {
		t.Errorf("kept: %+v, %v", kept, err)
	}
}

// holder keeps the key of the TUF targets.
type holder struct{ key *ecdsa.PrivateKey }

// takeTargetsOffline gives the targets of the TUF repository to a holder.
func takeTargetsOffline(t *testing.T, f *folder) holder {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	repository, err := tuf.OpenFolder(filepath.Join(f.dir, tufFolder))
	if err != nil {
		t.Fatal(err)
	}
	defer repository.Close()
	_, err = repository.Propose(t.Context(), f.d.cfg.Clock.Now(), 24*time.Hour, tuf.Change{
		Role: tuf.Targets, Replace: true, Add: []crypto.PublicKey{key.Public()}, Threshold: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.d.tuf.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	h := holder{key}
	h.sign(t, f)
	return h
}

// sign signs the draft of the targets and has it published.
func (h holder) sign(t *testing.T, f *folder) {
	t.Helper()
	repository, err := tuf.OpenFolder(filepath.Join(f.dir, tufFolder))
	if err != nil {
		t.Fatal(err)
	}
	defer repository.Close()
	draft, err := repository.Draft(tuf.Targets)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(draft.Payload)
	signature, err := h.key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := repository.ImportSignature(t.Context(), tuf.Targets, h.key.Public(), signature); err != nil {
		t.Fatal(err)
	}
	if err := f.d.tuf.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
}
