package witness_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	formatsnote "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/merkle/testonly"
	"golang.org/x/mod/sumdb/note"

	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/tlog"
	"github.com/countersign/countersign/tlog/witness"
)

const origin = "log.example.com"

// log is a log in memory: its tree, and a key of either type.
type log struct {
	*testonly.Tree
	origin string
	signer note.Signer
	vkey   string
}

func newLog(t testing.TB, origin string) *log {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	signer, err := tlog.NewCheckpointSigner(origin, key)
	must(t, err)
	vkey, err := tlog.MarshalVerifierKey(origin, key.Public())
	must(t, err)
	return &log{testonly.New(rfc6962.DefaultHasher), origin, signer, vkey}
}

func newEdLog(t testing.TB, origin string) *log {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, origin)
	must(t, err)
	signer, err := note.NewSigner(skey)
	must(t, err)
	return &log{testonly.New(rfc6962.DefaultHasher), origin, signer, vkey}
}

// fork is another tree under the same key.
func (l *log) fork() *log {
	other := *l
	other.Tree = testonly.New(rfc6962.DefaultHasher)
	return &other
}

func (l *log) grow(prefix string, n uint64) *log {
	for l.Size() < n {
		l.AppendData(fmt.Appendf(nil, "%s %d", prefix, l.Size()))
	}
	return l
}

func (l *log) sign(t testing.TB, cp tlog.Checkpoint) []byte {
	t.Helper()
	signed, err := note.Sign(&note.Note{Text: string(cp.Marshal())}, l.signer)
	must(t, err)
	return signed
}

func (l *log) checkpoint(t testing.TB, size uint64) []byte {
	t.Helper()
	return l.sign(t, tlog.Checkpoint{Origin: l.origin, Size: size, Root: l.HashAt(size)})
}

func (l *log) request(t testing.TB, old, size uint64) tlog.WitnessRequest {
	t.Helper()
	r := tlog.WitnessRequest{OldSize: old, Checkpoint: l.checkpoint(t, size)}
	if old > 0 && old < size {
		proof, err := l.ConsistencyProof(old, size)
		must(t, err)
		r.Proof = proof
	}
	return r
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// node is a witness in a directory, behind HTTP.
type node struct {
	t    testing.TB
	dir  string
	key  *witness.Key
	db   *store.DB
	http *httptest.Server
}

func newNode(t testing.TB, dir string, logs ...*log) *node {
	t.Helper()
	db, err := store.OpenSQLite(t.Context(), filepath.Join(dir, "witness.db"))
	must(t, err)
	n := &node{t: t, dir: dir, db: db}
	n.key, err = witness.OpenKey(filepath.Join(dir, "witness.key"), "witness.example.com/w1")
	must(t, err)
	var list strings.Builder
	for _, l := range logs {
		fmt.Fprintf(&list, "log %s\n", l.vkey)
	}
	parsed, err := witness.ParseLogs(list.String())
	must(t, err)
	w, err := witness.New(witness.Config{Logs: parsed, Key: n.key, Objects: db.Objects()})
	must(t, err)
	n.http = httptest.NewServer(w.Handler())
	t.Cleanup(n.close)
	return n
}

func (n *node) close() {
	if n.http == nil {
		return
	}
	n.http.Close()
	n.http = nil
	if err := n.db.Close(); err != nil {
		n.t.Error(err)
	}
}

func (n *node) post(body []byte) (status int, contentType, answer string) {
	n.t.Helper()
	resp, err := http.Post(n.http.URL+"/add-checkpoint", "", bytes.NewReader(body))
	must(n.t, err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	must(n.t, err)
	return resp.StatusCode, resp.Header.Get("Content-Type"), string(raw)
}

// cosigned checks an answer as a stranger does: with the vkey.
func (n *node) cosigned(r tlog.WitnessRequest) {
	n.t.Helper()
	status, _, line := n.post(r.Marshal())
	if status != http.StatusOK {
		n.t.Fatalf("answered %d %s", status, line)
	}
	verifier, err := formatsnote.NewVerifierForCosignatureV1(n.key.VKey())
	must(n.t, err)
	signed, err := note.Open(append(bytes.Clone(r.Checkpoint), line...), note.VerifierList(verifier))
	must(n.t, err)
	at, err := formatsnote.CoSigV1Timestamp(signed.Sigs[0])
	must(n.t, err)
	if at.Unix() < 1_700_000_000 || len(signed.Sigs) != 1 {
		n.t.Errorf("cosignatures %v of %v", signed.Sigs, at)
	}
}

// refused checks an answer that is no cosignature. want is the body of a 409.
func (n *node) refused(name string, body []byte, status int, want string) {
	n.t.Helper()
	got, contentType, answer := n.post(body)
	if got != status {
		n.t.Errorf("%s: answered %d %q, want %d", name, got, answer, status)
	}
	if strings.Contains(answer, "—") {
		n.t.Errorf("%s: signed all the same: %s", name, answer)
	}
	if status == http.StatusConflict && (answer != want || contentType != "text/x.tlog.size") {
		n.t.Errorf("%s: answered %q (%s), want %q", name, answer, contentType, want)
	}
}

// TestFollows: a log of either key type is cosigned as it grows, also twice at
// one size, and from the empty tree.
func TestFollows(t *testing.T) {
	ours, theirs := newLog(t, origin), newEdLog(t, "example.com/behind-the-sofa")
	n := newNode(t, t.TempDir(), ours, theirs)
	for _, l := range []*log{ours, theirs} {
		last := uint64(0)
		for _, size := range []uint64{0, 1, 1, 7, 8, 300, 70_000} {
			l.grow("entry", size)
			n.cosigned(l.request(t, last, size))
			last = size
		}
	}
}

// TestRefuses is the C2SP tlog-witness row of the known attacks (row B7), each
// case with the honest request as its control.
func TestRefuses(t *testing.T) {
	l := newLog(t, origin).grow("entry", 20)
	stranger := newLog(t, "other.example.com").grow("entry", 20)
	forger := newLog(t, origin).grow("entry", 20)
	n := newNode(t, t.TempDir(), l)
	n.cosigned(l.request(t, 0, 10))
	forked := l.fork().grow("forked", 20)
	withProof := func(r tlog.WitnessRequest, proof [][]byte) []byte { r.Proof = proof; return r.Marshal() }
	extended, err := note.Sign(&note.Note{Text: string(tlog.Checkpoint{Origin: origin, Size: 12, Root: l.HashAt(12)}.Marshal()) + "extra\n"}, l.signer)
	must(t, err)
	for _, test := range []struct {
		name   string
		body   []byte
		status int
		size   string
	}{
		{"unknown origin", stranger.request(t, 0, 12).Marshal(), http.StatusNotFound, ""},
		{"another key", forger.request(t, 10, 12).Marshal(), http.StatusForbidden, ""},
		{"signature changed", bytes.Replace(l.request(t, 10, 12).Marshal(), []byte("\n12\n"), []byte("\n13\n"), 1), http.StatusForbidden, ""},
		{"malformed", []byte("old ten\n\n"), http.StatusBadRequest, ""},
		{"empty", nil, http.StatusBadRequest, ""},
		{"no note", tlog.WitnessRequest{OldSize: 10, Checkpoint: []byte("hello\n")}.Marshal(), http.StatusBadRequest, ""},
		{"too large", bytes.Repeat([]byte("x"), tlog.WitnessRequestBytes+1), http.StatusBadRequest, ""},
		{"extension lines", tlog.WitnessRequest{OldSize: 10, Checkpoint: extended}.Marshal(), http.StatusBadRequest, ""},
		{"old size above the checkpoint's", l.request(t, 13, 12).Marshal(), http.StatusBadRequest, ""},
		{"first contact again", l.request(t, 0, 12).Marshal(), http.StatusConflict, "10\n"},
		{"old size below", l.request(t, 9, 12).Marshal(), http.StatusConflict, "10\n"},
		{"old size above", l.request(t, 11, 12).Marshal(), http.StatusConflict, "10\n"},
		{"smaller tree", l.request(t, 8, 9).Marshal(), http.StatusConflict, "10\n"},
		{"smaller tree from ours", l.request(t, 10, 9).Marshal(), http.StatusBadRequest, ""},
		{"same size, other root", forked.request(t, 10, 10).Marshal(), http.StatusUnprocessableEntity, ""},
		{"fork with its own proof", forked.request(t, 10, 12).Marshal(), http.StatusUnprocessableEntity, ""},
		{"no proof", withProof(l.request(t, 10, 12), nil), http.StatusUnprocessableEntity, ""},
		{"proof of another size", withProof(l.request(t, 10, 12), l.request(t, 10, 13).Proof), http.StatusUnprocessableEntity, ""},
		{"proof with one more hash", withProof(l.request(t, 10, 12), append(l.request(t, 10, 12).Proof, make([]byte, 32))), http.StatusUnprocessableEntity, ""},
		{"proof for the same size", withProof(l.request(t, 10, 10), [][]byte{make([]byte, 32)}), http.StatusUnprocessableEntity, ""},
	} {
		n.refused(test.name, test.body, test.status, test.size)
		n.cosigned(l.request(t, 10, 10)) // nothing moved
	}
	n.cosigned(l.request(t, 10, 20))
	n.refused("back again", l.request(t, 10, 12).Marshal(), http.StatusConflict, "20\n")
	resp, err := http.Get(n.http.URL + "/add-checkpoint")
	must(t, err)
	resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET answered %d", resp.StatusCode)
	}
}

// TestEmptyTree: an empty tree has one root, and what follows needs no proof.
func TestEmptyTree(t *testing.T) {
	l := newLog(t, origin)
	n := newNode(t, t.TempDir(), l)
	wrong := tlog.WitnessRequest{Checkpoint: l.sign(t, tlog.Checkpoint{Origin: origin, Root: make([]byte, 32)})}
	n.refused("another empty root", wrong.Marshal(), http.StatusUnprocessableEntity, "")
	n.cosigned(l.request(t, 0, 0))
	l.grow("entry", 5)
	proven := l.request(t, 0, 5)
	proven.Proof = [][]byte{make([]byte, 32)}
	n.refused("proof from nothing", proven.Marshal(), http.StatusUnprocessableEntity, "")
	n.cosigned(l.request(t, 0, 5))
}

// TestForgedCosignature: a line in our own name under the checkpoint changes
// nothing.
func TestForgedCosignature(t *testing.T) {
	l := newLog(t, origin).grow("entry", 5)
	n := newNode(t, t.TempDir(), l)
	r := l.request(t, 0, 5)
	skey, _, err := note.GenerateKey(rand.Reader, n.key.Name())
	must(t, err)
	forger, err := formatsnote.NewSignerForCosignatureV1(skey)
	must(t, err)
	text, _, _ := strings.Cut(string(r.Checkpoint), "\n\n")
	r.Checkpoint, err = note.Sign(&note.Note{Text: text + "\n"}, l.signer, forger)
	must(t, err)
	n.cosigned(r)
}

// TestTwoKeysOneHistory: what one key of an origin signed binds the other.
func TestTwoKeysOneHistory(t *testing.T) {
	first := newLog(t, origin).grow("entry", 10)
	second := newLog(t, origin).grow("another", 10)
	n := newNode(t, t.TempDir(), first, second)
	n.cosigned(first.request(t, 0, 10))
	n.refused("other tree by the other key", second.request(t, 10, 10).Marshal(), http.StatusUnprocessableEntity, "")
	second.Tree = first.Tree
	n.cosigned(second.request(t, 10, 10))
}

// TestRestart: the state outlives the process.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	l := newLog(t, origin).grow("entry", 20)
	n := newNode(t, dir, l)
	n.cosigned(l.request(t, 0, 10))
	vkey := n.key.VKey()
	n.close()
	n = newNode(t, dir, l)
	if n.key.VKey() != vkey {
		t.Errorf("key %s became %s", vkey, n.key.VKey())
	}
	n.refused("first contact", l.request(t, 0, 20).Marshal(), http.StatusConflict, "10\n")
	n.refused("fork", l.fork().grow("forked", 20).request(t, 10, 20).Marshal(), http.StatusUnprocessableEntity, "")
	n.cosigned(l.request(t, 10, 20))
}

// TestRaces: of many requests from one size, to trees that contradict each
// other, one history is cosigned.
func TestRaces(t *testing.T) {
	const branches = 8
	l := newLog(t, origin).grow("entry", 10)
	n := newNode(t, t.TempDir(), l)
	n.cosigned(l.request(t, 0, 10))
	var wg sync.WaitGroup
	won := make(chan int, branches)
	for i := range branches {
		branch := l.fork().grow("entry", 10).grow(fmt.Sprint("branch", i), uint64(11+i))
		body := branch.request(t, 10, uint64(11+i)).Marshal()
		wg.Go(func() {
			resp, err := http.Post(n.http.URL+"/add-checkpoint", "", bytes.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
			switch resp.StatusCode {
			case http.StatusOK:
				won <- i
			case http.StatusConflict:
			default:
				t.Errorf("branch %d: %d", i, resp.StatusCode)
			}
		})
	}
	wg.Wait()
	if len(won) != 1 {
		t.Fatalf("%d branches were cosigned", len(won))
	}
	winner := uint64(11 + <-won)
	n.refused("who lost", l.request(t, 10, 10).Marshal(), http.StatusConflict, fmt.Sprintln(winner))
}

// failing is a store that fails before or after its effect.
type failing struct {
	store.Objects
	before, after error
}

func (f *failing) Put(ctx context.Context, o store.Object) (store.Object, error) {
	if f.before != nil {
		return store.Object{}, f.before
	}
	o, err := f.Objects.Put(ctx, o)
	return o, errors.Join(err, f.after)
}

// TestNothingIsSignedThatIsNotKept: a state that is not known to be kept gets no
// cosignature, whichever way the write went.
func TestNothingIsSignedThatIsNotKept(t *testing.T) {
	dir := t.TempDir()
	l := newLog(t, origin).grow("entry", 20)
	db, err := store.OpenSQLite(t.Context(), filepath.Join(dir, "w.db"))
	must(t, err)
	t.Cleanup(func() { db.Close() })
	key, err := witness.OpenKey(filepath.Join(dir, "w.key"), "w")
	must(t, err)
	logs, err := witness.ParseLogs(l.vkey)
	must(t, err)
	broken := &failing{Objects: db.Objects()}
	w, err := witness.New(witness.Config{Logs: logs, Key: key, Objects: broken})
	must(t, err)
	ctx := t.Context()
	broken.before = errors.New("disk full")
	if line, err := w.AddCheckpoint(ctx, l.request(t, 0, 10)); err == nil || line != nil {
		t.Errorf("signed %q on a full disk", line)
	}
	broken.before, broken.after = nil, errors.New("connection lost")
	if line, err := w.AddCheckpoint(ctx, l.request(t, 0, 10)); err == nil || line != nil {
		t.Errorf("signed %q though nobody knows what was kept", line)
	}
	broken.after = nil
	var stale *witness.StaleError
	if _, err := w.AddCheckpoint(ctx, l.request(t, 0, 20)); !errors.As(err, &stale) || stale.Size != 10 {
		t.Errorf("after a write that succeeded unseen: %v", err)
	}
	if _, err := w.AddCheckpoint(ctx, l.request(t, 10, 20)); err != nil {
		t.Error(err)
	}
	// A state that cannot be read is not an empty one.
	o, err := db.Objects().Get(ctx, "witnessed-log", origin)
	must(t, err)
	o.Body = []byte("garbage")
	_, err = db.Objects().Put(ctx, o)
	must(t, err)
	if _, err := w.AddCheckpoint(ctx, l.request(t, 0, 20)); err == nil {
		t.Error("a damaged state was taken for none")
	}
}

func TestParseLogs(t *testing.T) {
	a, b := newLog(t, origin), newEdLog(t, "b.example.com")
	logs, err := witness.ParseLogs("# logs\n\nlog " + a.vkey + " https://log.example.com\n  " + b.vkey + "\n")
	if err != nil || len(logs) != 2 || logs[0].Name() != origin || logs[1].Name() != "b.example.com" {
		t.Fatalf("%v %v", logs, err)
	}
	for name, list := range map[string]string{
		"empty": "", "only comments": "# x\n", "other word": "witness " + a.vkey, "garbage": "log x", "two keys": a.vkey + " " + b.vkey,
	} {
		if _, err := witness.ParseLogs(list); !errors.Is(err, witness.ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	dir := t.TempDir()
	n := newNode(t, dir, a)
	twice, err := witness.ParseLogs(a.vkey + "\n" + a.vkey)
	must(t, err)
	if _, err := witness.New(witness.Config{Logs: twice, Key: n.key, Objects: n.db.Objects()}); !errors.Is(err, witness.ErrConfig) {
		t.Errorf("one key twice: %v", err)
	}
}

func TestOpenKey(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	for _, bad := range []string{"", "two words", "a+b"} {
		if _, err := witness.OpenKey(path, bad); !errors.Is(err, witness.ErrKey) {
			t.Errorf("name %q: %v", bad, err)
		}
	}
	made, err := witness.OpenKey(path, "w.example.com/1")
	must(t, err)
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	again, err := witness.OpenKey(path, "")
	must(t, err)
	if made.VKey() != again.VKey() || !strings.HasPrefix(made.VKey(), "w.example.com/1+") {
		t.Errorf("%s became %s", made.VKey(), again.VKey())
	}
	if _, err := witness.OpenKey(path, "another"); !errors.Is(err, witness.ErrKey) {
		t.Errorf("another name: %v", err)
	}
	must(t, os.Chmod(path, 0o644))
	if _, err := witness.OpenKey(path, ""); !errors.Is(err, witness.ErrKey) {
		t.Errorf("readable by all: %v", err)
	}
	secret := "PRIVATE+KEY+w+00000000+c2VjcmV0"
	must(t, os.WriteFile(filepath.Join(dir, "bad"), []byte(secret), 0o600))
	if _, err := witness.OpenKey(filepath.Join(dir, "bad"), ""); !errors.Is(err, witness.ErrKey) || strings.Contains(err.Error(), "c2VjcmV0") {
		t.Errorf("bad key: %v", err)
	}
}

func TestHealthAndMetrics(t *testing.T) {
	l := newLog(t, origin).grow("entry", 3)
	n := newNode(t, t.TempDir(), l)
	n.cosigned(l.request(t, 0, 3))
	n.refused("stale", l.request(t, 0, 3).Marshal(), http.StatusConflict, "3\n")
	for path, want := range map[string]string{
		"/healthz": "ok", "/metrics": `countersign_witness_cosigned_size{origin="log.example.com"} 3`,
	} {
		resp, err := http.Get(n.http.URL + path)
		must(t, err)
		raw, err := io.ReadAll(resp.Body)
		must(t, err)
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK || !strings.Contains(string(raw), want) {
			t.Errorf("%s: %d %s", path, resp.StatusCode, raw)
		}
	}
}
