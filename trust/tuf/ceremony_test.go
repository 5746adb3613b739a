package tuf_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/trust/tuf"
)

const year = 365 * 24 * time.Hour

// takeOffline replaces the online root key by offline ones and signs with them
// all.
func takeOffline(t testing.TB, h *house, threshold int, keys ...crypto.Signer) {
	t.Helper()
	change := tuf.Change{Role: tuf.Root, Replace: true, Threshold: threshold}
	for _, key := range keys {
		change.Add = append(change.Add, key.Public())
	}
	_, err := h.folder().Propose(t.Context(), h.now, year, change)
	h.must(err)
	h.refresh() // the service adds the signature of the online key
	for _, key := range keys[:threshold] {
		bring(t, h, tuf.Root, key)
	}
	h.refresh()
}

// bring signs a draft elsewhere and imports it.
func bring(t testing.TB, h *house, role tuf.Role, key crypto.Signer) tuf.Draft {
	t.Helper()
	draft, err := h.folder().Draft(role)
	h.must(err)
	signed, err := tuf.Sign(draft.Document, key)
	h.must(err)
	draft, err = h.folder().Import(t.Context(), signed)
	h.must(err)
	return draft
}

// TestOfflineRoot: two of three offline keys, of both kinds. One is not enough,
// nor is one twice (C2); two are, and then the service alone can change nothing
// above snapshot.
func TestOfflineRoot(t *testing.T) {
	h := newHouse(t).open()
	anchor := h.file("1.root.json")
	cached := h.client(anchor)
	cached.mustSee(h.contents)
	a, b, c := ecKey(t), edKey(t), ecKey(t)
	draft, err := h.folder().Propose(t.Context(), h.now, year, tuf.Change{
		Role: tuf.Root, Replace: true, Threshold: 2, Add: []crypto.PublicKey{a.Public(), b.Public(), c.Public()},
	})
	h.must(err)
	if draft.Version != 2 || draft.Complete() || len(draft.Needs) != 2 || len(draft.Needs[1].Missing) != 3 {
		t.Fatalf("draft: %+v", draft)
	}
	bring(t, h, tuf.Root, a)
	bring(t, h, tuf.Root, a)
	h.refresh()
	if v := h.version(tuf.Root); v != 1 {
		t.Fatalf("root %d was published with one of two signatures", v)
	}
	if strings.Count(h.log.String(), "waits for signatures") == 0 {
		t.Error("nobody was told")
	}
	cached.mustSee(h.contents)
	if draft := bring(t, h, tuf.Root, b); !draft.Complete() {
		t.Errorf("draft: %+v", draft.Needs)
	}
	h.refresh()
	if v := h.version(tuf.Root); v != 2 {
		t.Fatalf("root is %d, want 2", v)
	}
	cached.mustSee(h.contents)
	h.client(anchor).mustSee(h.contents)
	h.client(h.file("2.root.json")).mustSee(h.contents)

	// A request for an online key now waits for people.
	h.must(h.folder().Request(t.Context(), tuf.Timestamp))
	h.refresh()
	if v := h.version(tuf.Root); v != 2 {
		t.Fatal("the service changed the root alone")
	}
	bring(t, h, tuf.Root, c)
	bring(t, h, tuf.Root, b)
	h.refresh()
	if v := h.version(tuf.Root); v != 3 {
		t.Fatalf("root is %d, want 3", v)
	}
	readOn(t, h, h.file("2.root.json"))
	cached.mustSee(h.contents)

	// An offline key is replaced: signatures of the old and the new set.
	d := edKey(t)
	_, err = h.folder().Propose(t.Context(), h.now, year, tuf.Change{Role: tuf.Root, Remove: []string{keyID(t, a)[:12]}, Add: []crypto.PublicKey{d.Public()}})
	h.must(err)
	bring(t, h, tuf.Root, d)
	bring(t, h, tuf.Root, c)
	h.refresh()
	if v := h.version(tuf.Root); v != 3 {
		t.Fatal("published without a threshold of the old keys")
	}
	bring(t, h, tuf.Root, a) // one of the old keys, though it is going
	h.refresh()
	if v := h.version(tuf.Root); v != 4 {
		t.Fatalf("root is %d, want 4", v)
	}
	cached.mustSee(h.contents)
	h.client(anchor).mustSee(h.contents)
}

// TestOfflineTargets: contents change only with people's signatures, and the
// old ones stay published meanwhile.
func TestOfflineTargets(t *testing.T) {
	h := newHouse(t).open()
	c := h.client(h.file("1.root.json"))
	key := ecKey(t)
	_, err := h.folder().Propose(t.Context(), h.now, year, tuf.Change{Role: tuf.Targets, Replace: true, Add: []crypto.PublicKey{key.Public()}})
	h.must(err)
	h.refresh() // the online root key signs; the targets need the new key
	if v := h.version(tuf.Root); v != 1 {
		t.Fatal("published a root under which the targets are not good")
	}
	c.mustSee(h.contents)
	h.contents = replaced(h.contents, 2) // does not wait for the ceremony
	h.refresh()
	c.mustSee(h.contents)
	bring(t, h, tuf.Targets, key)
	h.refresh()
	if v := h.version(tuf.Root); v != 2 {
		t.Fatalf("root is %d, want 2", v)
	}
	c.mustSee(h.contents)

	old := h.contents
	h.contents = replaced(h.contents, 3)
	h.refresh()
	c.mustSee(old)
	draft := bring(t, h, tuf.Targets, key)
	if !draft.Complete() {
		t.Errorf("draft: %+v", draft.Needs)
	}
	h.refresh()
	c.mustSee(h.contents)
	if _, err := h.folder().Draft(tuf.Targets); !errors.Is(err, tuf.ErrDraft) {
		t.Errorf("the draft is still there: %v", err)
	}
	// Half a year on, people are asked long before the targets run out.
	h.now = h.now.Add(100 * 24 * time.Hour)
	h.refresh()
	bring(t, h, tuf.Targets, key)
	h.refresh()
	h.now = h.now.Add(100 * 24 * time.Hour)
	h.refresh()
	c.mustSee(h.contents)

	// The offline key is lost: targets come back online without it.
	h.contents = replaced(h.contents, 4)
	h.must(h.folder().RequestOnline(t.Context(), tuf.Targets))
	h.refresh()
	c.mustSee(h.contents)
	h.client(h.file("1.root.json")).mustSee(h.contents)
	if v := h.version(tuf.Root); v != 4 { // 3 was the renewal of the online root
		t.Errorf("root is %d, want 4", v)
	}
}

// TestImportRefuses: signatures that do not count change nothing.
func TestImportRefuses(t *testing.T) {
	h := newHouse(t).open()
	a, b := ecKey(t), ecKey(t)
	draft, err := h.folder().Propose(t.Context(), h.now, year, tuf.Change{Role: tuf.Root, Replace: true, Threshold: 2, Add: []crypto.PublicKey{a.Public(), b.Public()}})
	h.must(err)
	signed := func(document []byte, key crypto.Signer) []byte {
		t.Helper()
		out, err := tuf.Sign(document, key)
		h.must(err)
		return out
	}
	good := signed(draft.Document, a)
	other := signed(bytes.Replace(draft.Document, []byte(`"threshold": 2`), []byte(`"threshold": 1`), 1), a)
	stray := ecKey(t)
	for name, c := range map[string]struct {
		document []byte
		want     error
	}{
		"unsigned":         {draft.Document, tuf.ErrSignature},
		"stranger":         {signed(draft.Document, stray), tuf.ErrSignature},
		"another document": {other, tuf.ErrDraft},
		"current root":     {h.file("1.root.json"), tuf.ErrDraft},
		"timestamp":        {h.file("timestamp.json"), tuf.ErrRole},
		"no draft":         {h.file("1.targets.json"), tuf.ErrDraft},
		"flipped":          {bytes.Replace(good, []byte(`"sig": "30`), []byte(`"sig": "31`), 1), tuf.ErrSignature},
		"twice the name":   {bytes.Replace(good, []byte(`"version"`), []byte(`"version": 2, "version"`), 1), tuf.ErrDocument},
		"not JSON":         {[]byte("{"), tuf.ErrDocument},
		"null roles":       {[]byte(`{"signed":{"_type":"root","spec_version":"1","version":2,"expires":"2030-01-01T00:00:00Z","consistent_snapshot":true,"keys":{},"roles":{"root":null,"targets":null,"snapshot":null,"timestamp":null}},"signatures":[]}`), tuf.ErrDocument},
		"large":            {bytes.Repeat([]byte(" "), 1<<20), tuf.ErrDocument},
	} {
		if _, err := h.folder().Import(t.Context(), c.document); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if now, err := h.folder().Draft(tuf.Root); err != nil || !bytes.Equal(now.Document, draft.Document) {
		t.Errorf("the draft changed: %v", err)
	}
	if _, err := h.folder().Import(t.Context(), good); err != nil { // positive control
		t.Error(err)
	}
	digest := sha256.Sum256(draft.Payload)
	raw, err := ecdsa.SignASN1(rand.Reader, b, digest[:])
	h.must(err)
	if _, err := h.folder().ImportSignature(t.Context(), tuf.Root, a.Public(), raw); !errors.Is(err, tuf.ErrSignature) {
		t.Errorf("another key's signature: %v", err)
	}
	if got, err := h.folder().ImportSignature(t.Context(), tuf.Root, b.Public(), raw); err != nil || got.Needs[0].Met() {
		t.Errorf("raw signature: %v", err)
	}
	h.refresh()
	if v := h.version(tuf.Root); v != 2 {
		t.Errorf("root is %d, want 2", v)
	}
}

// TestProposeRefuses: thresholds of 0, below 0 and above the number of keys
// (C3), a key twice (C2), keys that clients cannot check.
func TestProposeRefuses(t *testing.T) {
	h := newHouse(t).open()
	a, b := ecKey(t), ecKey(t)
	weak, err := rsa.GenerateKey(rand.Reader, 2048)
	h.must(err)
	other, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	h.must(err)
	keys := func(k ...crypto.Signer) (out []crypto.PublicKey) {
		for _, key := range k {
			out = append(out, key.Public())
		}
		return out
	}
	for name, c := range map[string]struct {
		change tuf.Change
		term   time.Duration
		want   error
	}{
		"threshold above":  {tuf.Change{Role: tuf.Root, Replace: true, Add: keys(a, b), Threshold: 3}, year, tuf.ErrThreshold},
		"threshold below":  {tuf.Change{Role: tuf.Root, Replace: true, Add: keys(a, b), Threshold: -1}, year, tuf.ErrThreshold},
		"no key left":      {tuf.Change{Role: tuf.Root, Replace: true}, year, tuf.ErrThreshold},
		"key twice":        {tuf.Change{Role: tuf.Root, Replace: true, Add: keys(a, a), Threshold: 2}, year, tuf.ErrKey},
		"RSA":              {tuf.Change{Role: tuf.Root, Add: keys(weak)}, year, tuf.ErrKey},
		"P-384":            {tuf.Change{Role: tuf.Root, Add: keys(other)}, year, tuf.ErrKey},
		"unknown key":      {tuf.Change{Role: tuf.Root, Add: keys(a), Remove: []string{strings.Repeat("0", 64)}}, year, tuf.ErrKey},
		"short id":         {tuf.Change{Role: tuf.Root, Add: keys(a), Remove: []string{""}}, year, tuf.ErrKey},
		"timestamp":        {tuf.Change{Role: tuf.Timestamp, Add: keys(a)}, year, tuf.ErrRole},
		"no term":          {tuf.Change{Role: tuf.Root, Add: keys(a)}, 0, tuf.ErrDocument},
		"endless":          {tuf.Change{Role: tuf.Root, Add: keys(a)}, 100 * year, tuf.ErrDocument},
		"too many for one": {tuf.Change{Role: tuf.Root, Add: many(t, 40)}, year, tuf.ErrDocument},
	} {
		if _, err := h.folder().Propose(t.Context(), h.now, c.term, c.change); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := h.folder().Propose(t.Context(), h.now, year); err != nil { // positive control: a plain renewal
		t.Error(err)
	}
	if _, err := h.folder().Propose(t.Context(), h.now, year); !errors.Is(err, tuf.ErrDraft) {
		t.Errorf("a second draft: %v", err)
	}
	h.must(h.folder().Discard(t.Context(), tuf.Root))
	if err := h.folder().Discard(t.Context(), tuf.Root); !errors.Is(err, tuf.ErrDraft) {
		t.Errorf("discarded twice: %v", err)
	}
}

func many(t testing.TB, n int) (keys []crypto.PublicKey) {
	for range n {
		keys = append(keys, ecKey(t).Public())
	}
	return keys
}

// TestEmptyFolder: the ceremony begins after the first start.
func TestEmptyFolder(t *testing.T) {
	folder, err := tuf.OpenFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	if _, err := folder.Status(start); !errors.Is(err, tuf.ErrEmpty) {
		t.Errorf("status: %v", err)
	}
	if _, err := folder.Propose(t.Context(), start, year); !errors.Is(err, tuf.ErrEmpty) {
		t.Errorf("propose: %v", err)
	}
}

// TestOverdueDraft: a draft that ran out before its signatures came is not
// published.
func TestOverdueDraft(t *testing.T) {
	h := newHouse(t).open()
	a := ecKey(t)
	_, err := h.folder().Propose(t.Context(), h.now, 48*time.Hour, tuf.Change{Role: tuf.Root, Replace: true, Add: []crypto.PublicKey{a.Public()}})
	h.must(err)
	bring(t, h, tuf.Root, a)
	h.now = h.now.Add(72 * time.Hour)
	h.refresh()
	if v := h.version(tuf.Root); v != 1 {
		t.Error("an expired root was published")
	}
	h.client(h.file("root.json")).mustSee(h.contents)
}

// TestLostOnlineKeys: the service's machine and its keys are gone; the holders
// of the root put new ones in their place, and clients follow. The process may
// end at any point of that.
func TestLostOnlineKeys(t *testing.T) {
	for point := range 40 {
		h := newHouse(t).open()
		c := h.client(h.file("1.root.json"))
		key := ecKey(t)
		takeOffline(t, h, 1, key)
		c.mustSee(h.contents)
		h.ring = newRing()
		h.now = h.now.Add(30 * 24 * time.Hour) // what there was has run out
		h.contents = replaced(h.contents, 2)
		h.open()
		if _, err := c.update(); err == nil {
			t.Fatal("nothing ran out: the test proves nothing")
		}
		h.must(h.folder().Request(t.Context(), tuf.Snapshot, tuf.Timestamp))
		h.must(h.folder().RequestOnline(t.Context(), tuf.Targets))
		_ = h.repo.Refresh(t.Context()) // drafts; cannot renew yet
		bring(t, h, tuf.Root, key)
		n := 0
		err := h.crashing(func(string) error {
			if n++; n > point {
				return errCrash
			}
			return nil
		})
		h.open().refresh()
		c.mustSee(h.contents)
		h.client(h.file("root.json")).mustSee(h.contents)
		if v := h.version(tuf.Root); v != 3 {
			t.Fatalf("root is %d, want 3", v)
		}
		if err == nil && point > 3 {
			return
		}
	}
	t.Error("the publication never ended")
}
