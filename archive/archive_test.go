package archive_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
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
	items := all(t, a, subject)
	if len(items) != 2 {
		t.Fatalf("%d items; want 2", len(items))
	}
	slices.SortFunc(items, func(a, b archive.Item) int { return strings.Compare(a.Format, b.Format) })
	wantEqual(t, items[0], kept)
	if items[1].ID == "" || !items[1].CreatedAt.Equal(fixed()) {
		t.Fatalf("id %q and date %v were not filled", items[1].ID, items[1].CreatedAt)
	}
	found.ID, found.CreatedAt = items[1].ID, fixed()
	wantEqual(t, items[1], found)

	if n := len(all(t, a, attest.DigestOf([]byte("another")))); n != 0 {
		t.Fatalf("another digest: %d items; want none", n)
	}
	if _, _, err := a.BySubject(ctx, attest.Digest{}, nil, 10); !errors.Is(err, archive.ErrItem) {
		t.Fatalf("no digest: %v, want ErrItem", err)
	}
}

// all is everything kept of a digest.
func all(t *testing.T, a *archive.Archive, digest attest.Digest) []archive.Item {
	t.Helper()
	items, complete, err := a.BySubject(context.Background(), digest, nil, 100)
	if err != nil || !complete {
		t.Fatalf("complete %v, %v", complete, err)
	}
	return items
}

// What is asked for is found behind any number of others, the newest first, and
// whoever gets only a part is told.
func TestBySubjectWants(t *testing.T) {
	a, ctx := newArchive(t), context.Background()
	keep := func(n int, kind string, size int) {
		t.Helper()
		item := bundleItem()
		item.ID, item.PredicateType, item.CreatedAt = fmt.Sprintf("%04d", n), kind, fixed().Add(time.Duration(n)*time.Minute)
		item.Bundle = append(fmt.Appendf(nil, "%04d", n), make([]byte, size)...)
		if err := a.Keep(ctx, item); err != nil {
			t.Fatal(err)
		}
	}
	const scan, build = "https://example.com/scan", "https://example.com/build"
	keep(0, build, 0)
	keep(1, "", 0)
	for n := range 100 {
		keep(2+n, scan, 0)
	}
	want := func(kinds ...string) func(string) bool {
		return func(kind string) bool { return slices.Contains(kinds, kind) }
	}
	for name, tc := range map[string]struct {
		want     func(string) bool
		limit    int
		ids      []string
		complete bool
	}{
		"the oldest of all":    {want(build), 5, []string{"0000"}, true},
		"plain signatures too": {want(build, ""), 5, []string{"0001", "0000"}, true},
		"the newest two":       {want(scan), 2, []string{"0101", "0100"}, false},
		"none":                 {want("https://example.com/other"), 5, nil, true},
	} {
		items, complete, err := a.BySubject(ctx, subject, tc.want, tc.limit)
		var ids []string
		for _, i := range items {
			ids = append(ids, i.ID)
			if !bytes.Equal(i.Bundle, []byte(i.ID)) {
				t.Errorf("%s: %s has the content %q", name, i.ID, i.Bundle)
			}
		}
		if err != nil || complete != tc.complete || !slices.Equal(ids, tc.ids) {
			t.Errorf("%s: %v, complete %v, %v; want %v, %v", name, ids, complete, err, tc.ids, tc.complete)
		}
	}

	const large = 10 << 20 // seven of them are more than is read
	for n := range 8 {
		keep(200+n, build, large)
	}
	items, complete, err := a.BySubject(ctx, subject, want(build), 100)
	if err != nil || complete || len(items) != 7 || items[0].ID != "0207" {
		t.Errorf("%d large items, complete %v, %v", len(items), complete, err)
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
	if n := len(all(t, a, subject)); n != 0 {
		t.Fatalf("%d items after refusals", n)
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
