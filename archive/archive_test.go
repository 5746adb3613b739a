package archive_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/archive"
	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/store"
)

func fixed() time.Time { return time.Date(2026, 11, 20, 10, 0, 0, 5, time.UTC) }

func newArchive(t *testing.T) *archive.Archive {
	t.Helper()
	db, err := store.OpenSQLite(context.Background(), filepath.Join(t.TempDir(), "countersign.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return archive.New(archive.Config{Bundles: db.Bundles(), Decisions: db.Decisions(), Clock: clock.Func(fixed)})
}

// The bytes that come back are compared: digests are comparable, so go-cmp may
// look at their fields by equality.
func wantEqual(t *testing.T, got, want any) {
	t.Helper()
	byValue := cmp.Comparer(func(a, b attest.Digest) bool { return a == b })
	if diff := cmp.Diff(want, got, byValue); diff != "" {
		t.Fatalf("(-want +got)\n%s", diff)
	}
}

var subject = attest.DigestOf([]byte("an image"))

func bundleItem() archive.Item {
	index := int64(0)
	return archive.Item{
		ID: "01940000-0000-7000-8000-000000000001", Digest: subject, Repository: "registry.example.com/team/app",
		Format: archive.FormatBundle, PredicateType: "https://slsa.dev/provenance/v1", KeyID: "ab", Signer: "release",
		LogIndex: &index, Operation: "op", Bundle: []byte("{ \"spaces\" :\n[\"are kept <&>\"]}"), CreatedAt: fixed(),
	}
}

func legacyItem() archive.Item {
	return archive.Item{
		Digest: subject, Repository: "registry.example.com/team/app", Format: archive.FormatLegacy, Signer: "stranger",
		Legacy: &archive.Legacy{
			Payload:     []byte{0, 1, 2, 0xff, '<'},
			Annotations: map[string]string{"dev.cosignproject.cosign/signature": "MEUC=", "empty": ""},
		},
	}
}

func TestKeep(t *testing.T) {
	a, ctx := newArchive(t), context.Background()
	kept, found := bundleItem(), legacyItem()
	for range 2 { // the same content is kept once
		if err := a.Keep(ctx, kept); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Keep(ctx, found); err != nil {
		t.Fatal(err)
	}
	items, err := a.BySubject(ctx, subject, 10)
	if err != nil || len(items) != 2 {
		t.Fatalf("%d items, %v; want 2", len(items), err)
	}
	wantEqual(t, items[0], kept)
	if items[1].ID == "" || !items[1].CreatedAt.Equal(fixed()) {
		t.Fatalf("id %q and date %v were not filled", items[1].ID, items[1].CreatedAt)
	}
	found.ID, found.CreatedAt = items[1].ID, fixed()
	wantEqual(t, items[1], found)

	if items, err := a.BySubject(ctx, subject, 1); err != nil || len(items) != 1 {
		t.Fatalf("%d items, %v; want 1", len(items), err)
	}
	if items, err := a.BySubject(ctx, attest.DigestOf([]byte("another")), 10); err != nil || len(items) != 0 {
		t.Fatalf("another digest: %d items, %v; want none", len(items), err)
	}
	if _, err := a.BySubject(ctx, attest.Digest{}, 10); !errors.Is(err, archive.ErrItem) {
		t.Fatalf("no digest: %v, want ErrItem", err)
	}
}

func TestKeepRefuses(t *testing.T) {
	a, ctx := newArchive(t), context.Background()
	negative := int64(-1)
	for name, change := range map[string]func(*archive.Item){
		"no digest":          func(i *archive.Item) { i.Digest = attest.Digest{} },
		"no repository":      func(i *archive.Item) { i.Repository = "" },
		"no content":         func(i *archive.Item) { i.Bundle = nil },
		"two contents":       func(i *archive.Item) { i.Legacy = legacyItem().Legacy },
		"another's content":  func(i *archive.Item) { i.Format = archive.FormatLegacy },
		"unknown format":     func(i *archive.Item) { i.Format = "notation" },
		"negative log index": func(i *archive.Item) { i.LogIndex = &negative },
		"too large":          func(i *archive.Item) { i.Bundle = make([]byte, 2*limits.Bundle) },
	} {
		item := bundleItem()
		change(&item)
		if err := a.Keep(ctx, item); !errors.Is(err, archive.ErrItem) {
			t.Errorf("%s: %v, want ErrItem", name, err)
		}
	}
	if items, err := a.BySubject(ctx, subject, 10); err != nil || len(items) != 0 {
		t.Fatalf("%d items, %v after refusals", len(items), err)
	}
	largest := bundleItem() // the positive control
	largest.Bundle = make([]byte, limits.Bundle)
	if err := a.Keep(ctx, largest); err != nil {
		t.Fatal(err)
	}
}

func decision(n int) archive.Decision {
	return archive.Decision{
		ID: fmt.Sprintf("01940000-0000-7000-8000-%012d", n), Image: "registry.example.com/team/app:1.4",
		Pinned: "registry.example.com/team/app@" + subject.String(), Digest: subject.String(),
		Repository: "registry.example.com/team/app", Verdict: []string{"PASSED", "FAILED"}[n%2], Policy: "production",
		Caller: "local deploy", Context: map[string]string{"namespace": "shop"},
		Result: json.RawMessage(`{"reasons":[{"code":"no_signature"}],"n":1.50}`), CreatedAt: fixed(),
	}
}

func TestDecisions(t *testing.T) {
	a, ctx := newArchive(t), context.Background()
	for range 2 { // repeating does no harm
		if err := a.Decide(ctx, decision(0), decision(1), decision(2)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := a.Decision(ctx, decision(1).ID)
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, got, decision(1))
	if _, err := a.Decision(ctx, "none"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("an unknown decision: %v, want ErrNotFound", err)
	}
	list, next, err := a.Decisions(ctx, store.DecisionFilter{Verdict: "PASSED"}, store.Page{Limit: 1})
	if err != nil || next == "" {
		t.Fatalf("%q, %v", next, err)
	}
	wantEqual(t, list, []archive.Decision{decision(2)})
	list, next, err = a.Decisions(ctx, store.DecisionFilter{Verdict: "PASSED"}, store.Page{Limit: 1, Cursor: next})
	if err != nil || next != "" {
		t.Fatalf("%q, %v", next, err)
	}
	wantEqual(t, list, []archive.Decision{decision(0)})
}

// TestDecideOdd: a question is recorded whatever was asked, found by exactly
// that, and what Decide fills is there.
func TestDecideOdd(t *testing.T) {
	a, ctx := newArchive(t), context.Background()
	for _, image := range []string{"a\x00b", "\xff", strings.Repeat("x", 1<<16), strings.Repeat("é\x00", 400), "", "'; DROP TABLE decisions"} {
		d := archive.Decision{Image: image, Verdict: "FAILED", Caller: "c\x00"}
		if err := a.Decide(ctx, d); err != nil {
			t.Fatalf("%q: %v", image, err)
		}
		if image == "" {
			continue
		}
		list, _, err := a.Decisions(ctx, store.DecisionFilter{Image: image}, store.Page{})
		if err != nil || len(list) != 1 || list[0].ID == "" || !list[0].CreatedAt.Equal(fixed()) {
			t.Fatalf("%q: %+v, %v", image, list, err)
		}
	}
	if err := a.Decide(ctx, archive.Decision{Image: "x"}); !errors.Is(err, archive.ErrItem) {
		t.Fatalf("no verdict: %v, want ErrItem", err)
	}
	bad := decision(5)
	bad.Result = json.RawMessage("{")
	if err := a.Decide(ctx, decision(6), bad); !errors.Is(err, archive.ErrItem) {
		t.Fatalf("a broken result: %v, want ErrItem", err)
	}
	if _, err := a.Decision(ctx, decision(6).ID); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("part of a refused call was kept: %v", err)
	}
}
