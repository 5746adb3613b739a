package keys_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/store"
)

// TestStateTable holds the whole table of SP 800-57 part 1 §7, written down a
// second time.
func TestStateTable(t *testing.T) {
	allowed := map[string]bool{
		"pre-active>active": true, "pre-active>compromised": true, "pre-active>destroyed": true,
		"active>suspended": true, "active>deactivated": true, "active>compromised": true, "active>destroyed": true,
		"suspended>active": true, "suspended>deactivated": true, "suspended>compromised": true, "suspended>destroyed": true,
		"deactivated>compromised": true, "deactivated>destroyed": true,
		"compromised>destroyed": true,
	}
	seen := 0
	for _, from := range keys.States() {
		for _, to := range keys.States() {
			step := fmt.Sprintf("%s>%s", from, to)
			if got := keys.CanMove(from, to); got != allowed[step] {
				t.Errorf("%s: %v", step, got)
			}
			seen++
		}
	}
	if seen != 36 || keys.CanMove("", keys.Active) || keys.CanMove(keys.Active, "") {
		t.Errorf("%d pairs; unknown states must not move", seen)
	}
}

// TestLifeCycle walks every operation from every state a current version can
// be in.
func TestLifeCycle(t *testing.T) {
	steps := map[string]func(ctx context.Context, b *bench, name string) error{
		"activate": func(ctx context.Context, b *bench, n string) error { _, err := b.Activate(ctx, n); return err },
		"rotate":   func(ctx context.Context, b *bench, n string) error { _, err := b.Rotate(ctx, n); return err },
		"suspend":  func(ctx context.Context, b *bench, n string) error { _, err := b.Suspend(ctx, n); return err },
		"resume":   func(ctx context.Context, b *bench, n string) error { _, err := b.Resume(ctx, n); return err },
		"retire":   func(ctx context.Context, b *bench, n string) error { _, err := b.Retire(ctx, n); return err },
		"revoke": func(ctx context.Context, b *bench, n string) error {
			_, err := b.Revoke(ctx, n, "lost", nil)
			return err
		},
		"destroy": func(ctx context.Context, b *bench, n string) error { _, err := b.Destroy(ctx, n); return err },
	}
	reach := map[keys.State][]string{
		keys.PreActive: {}, keys.Active: {"activate"}, keys.Suspended: {"activate", "suspend"},
		keys.Deactivated: {"activate", "retire"}, keys.Compromised: {"activate", "revoke"},
		keys.Destroyed: {"activate", "retire", "destroy"},
	}
	want := map[keys.State]map[string]keys.State{
		keys.PreActive:   {"activate": keys.Active, "revoke": keys.Compromised, "destroy": keys.Destroyed},
		keys.Active:      {"rotate": keys.Active, "suspend": keys.Suspended, "retire": keys.Deactivated, "revoke": keys.Compromised},
		keys.Suspended:   {"rotate": keys.Active, "resume": keys.Active, "retire": keys.Deactivated, "revoke": keys.Compromised},
		keys.Deactivated: {"revoke": keys.Compromised, "destroy": keys.Destroyed},
		keys.Compromised: {"rotate": keys.Active, "destroy": keys.Destroyed},
		keys.Destroyed:   {"revoke": keys.Destroyed},
	}
	b := open(t)
	for from, path := range reach {
		for name, step := range steps {
			t.Run(fmt.Sprintf("%s %s", from, name), func(t *testing.T) {
				ctx, key := t.Context(), fmt.Sprintf("%s-%s", from, name)
				if _, err := b.Create(ctx, keys.Spec{Name: key, PreActive: true}); err != nil {
					t.Fatal(err)
				}
				for _, p := range path {
					b.clock.advance(time.Minute)
					if err := steps[p](ctx, b, key); err != nil {
						t.Fatalf("reaching %s: %s: %v", from, p, err)
					}
				}
				before, err := b.Get(ctx, key)
				if err != nil || before.State != from {
					t.Fatalf("state %s, %v", before.State, err)
				}
				err = step(ctx, b, key)
				after, getErr := b.Get(ctx, key)
				if getErr != nil {
					t.Fatal(getErr)
				}
				to, possible := want[from][name]
				if !possible {
					var te *keys.TransitionError
					if !errors.Is(err, keys.ErrTransition) || !errors.As(err, &te) || te.From != from {
						t.Errorf("error %v", err)
					}
					if diff := cmp.Diff(before.Revision, after.Revision); diff != "" {
						t.Errorf("a refused step wrote: %s", diff)
					}
					return
				}
				if err != nil || after.State != to || after.Revision != before.Revision+1 {
					t.Errorf("%s at revision %d, %v; want %s", after.State, after.Revision, err, to)
				}
				_, signErr := b.Sign(ctx, key, []byte("m"))
				if (signErr == nil) != (to == keys.Active) || (signErr != nil && !errors.Is(signErr, keys.ErrNotActive)) {
					t.Errorf("signing in state %s: %v", to, signErr)
				}
			})
		}
	}
}

func TestRotateKeepsEarlierVersions(t *testing.T) {
	ctx, b := t.Context(), open(t)
	b.create(t, "release", "")
	old, err := b.Sign(ctx, "release", []byte("m"))
	if err != nil {
		t.Fatal(err)
	}
	b.clock.advance(time.Hour)
	k, err := b.Rotate(ctx, "release")
	if err != nil {
		t.Fatal(err)
	}
	if k.Current != 2 || len(k.Versions) != 2 || k.Versions[0].State != keys.Deactivated || k.State != keys.Active {
		t.Fatalf("%+v", k)
	}
	if !k.Versions[0].DeactivatedAt.Equal(b.clock.Now()) || !k.Versions[1].ActivatedAt.Equal(b.clock.Now()) {
		t.Error("one version must end when the next begins")
	}
	fresh, err := b.Sign(ctx, "release", []byte("m"))
	if err != nil || fresh.Version != 2 || fresh.KeyID == old.KeyID || fresh.KeyID != k.Versions[1].KeyID {
		t.Fatalf("%+v, %v", fresh, err)
	}
	if err := keys.Verify(k.Versions[0].Public, keys.FormBundle, []byte("m"), old.Bytes); err != nil {
		t.Error(err)
	}
	if err := keys.Verify(k.Versions[0].Public, keys.FormBundle, []byte("m"), fresh.Bytes); !errors.Is(err, keys.ErrSignature) {
		t.Errorf("the old public half verifies the new signature: %v", err)
	}
}

func TestRevoke(t *testing.T) {
	ctx, b := t.Context(), open(t)
	b.create(t, "release", "")
	b.clock.advance(time.Hour)
	if _, err := b.Rotate(ctx, "release"); err != nil {
		t.Fatal(err)
	}
	b.clock.advance(time.Hour)
	future := b.clock.Now().Add(time.Second)
	for name, call := range map[string]func() error{
		"no reason":   func() error { _, err := b.Revoke(ctx, "release", "", nil); return err },
		"long reason": func() error { _, err := b.Revoke(ctx, "release", strings.Repeat("x", 1025), nil); return err },
		"not UTF-8":   func() error { _, err := b.Revoke(ctx, "release", "\xff", nil); return err },
		"in future":   func() error { _, err := b.Revoke(ctx, "release", "lost", &future); return err },
	} {
		if err := call(); !errors.Is(err, keys.ErrReason) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Version 1 was in use from hour 0 to 1, version 2 is since then; it is
	// hour 2.
	ago := func(d time.Duration) *time.Time { at := b.clock.Now().Add(-d); return &at }
	k, err := b.Revoke(ctx, "release", "laptop stolen", ago(30*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	one, two := k.Versions[0], k.Versions[1]
	if two.State != keys.Compromised || !two.CompromisedAt.Equal(*ago(30 * time.Minute)) || !two.RevokedAt.Equal(b.clock.Now()) || two.RevokedReason != "laptop stolen" {
		t.Errorf("current version: %+v", two)
	}
	if one.State != keys.Deactivated || one.RevokedAt != nil {
		t.Errorf("a version of another time: %+v", one)
	}
	k, err = b.Revoke(ctx, "release", "the one before too", ago(90*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	one, two = k.Versions[0], k.Versions[1]
	if one.State != keys.Compromised || !one.CompromisedAt.Equal(*ago(90 * time.Minute)) || !two.CompromisedAt.Equal(*ago(90 * time.Minute)) {
		t.Errorf("reaching back: %+v, %+v", one, two)
	}
	k, err = b.Revoke(ctx, "release", "nobody knows since when", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range k.Versions {
		if v.State != keys.Compromised || v.RevokedAt == nil || v.CompromisedAt != nil {
			t.Errorf("no date: %+v", v)
		}
	}
	for name, at := range map[string]*time.Time{"unknown again": nil, "a date instead of none": ago(30 * time.Minute)} {
		if _, err := b.Revoke(ctx, "release", "again", at); !errors.Is(err, keys.ErrTransition) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if k, err = b.Rotate(ctx, "release"); err != nil || k.State != keys.Active || k.Versions[1].State != keys.Compromised {
		t.Errorf("recovery: %+v, %v", k, err)
	}
}

// TestRevokeSinceATime: the date moves back, never forward, and gives way only
// to "nobody knows".
func TestRevokeSinceATime(t *testing.T) {
	ctx, b := t.Context(), open(t)
	b.create(t, "release", "")
	b.clock.advance(time.Hour)
	ago := func(d time.Duration) *time.Time { at := b.clock.Now().Add(-d); return &at }
	for _, c := range []struct {
		name string
		at   *time.Time
		want error
	}{
		{"first", ago(20 * time.Minute), nil},
		{"the same", ago(20 * time.Minute), keys.ErrTransition},
		{"later", ago(10 * time.Minute), keys.ErrTransition},
		{"earlier", ago(30 * time.Minute), nil},
		{"unknown", nil, nil},
		{"earlier still", ago(40 * time.Minute), keys.ErrTransition},
	} {
		k, err := b.Revoke(ctx, "release", c.name, c.at)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		if err != nil {
			continue
		}
		since := k.CurrentVersion().CompromisedAt
		if (c.at == nil) != (since == nil) || c.at != nil && !since.Equal(*c.at) || k.CurrentVersion().RevokedReason != c.name {
			t.Errorf("%s: %+v", c.name, k.CurrentVersion())
		}
	}
}

func TestDestroyLeavesNoPrivateHalf(t *testing.T) {
	ctx, b := t.Context(), open(t)
	b.create(t, "release", "")
	o, err := b.objects.Get(ctx, "key", "release")
	if err != nil || !strings.Contains(string(o.Body), `"privateKey"`) {
		t.Fatalf("control: %v", err)
	}
	if _, err := b.Retire(ctx, "release"); err != nil {
		t.Fatal(err)
	}
	k, err := b.Destroy(ctx, "release")
	if err != nil || k.CurrentVersion().PublicPEM == "" || k.CurrentVersion().DestroyedAt == nil {
		t.Fatalf("%+v, %v", k, err)
	}
	o, err = b.objects.Get(ctx, "key", "release")
	if err != nil || strings.Contains(string(o.Body), `"privateKey"`) {
		t.Errorf("private half is still stored, %v", err)
	}
}

func TestCreateRefuses(t *testing.T) {
	ctx, b := t.Context(), open(t)
	b.create(t, "taken", "")
	for name, c := range map[string]struct {
		spec keys.Spec
		want error
	}{
		"empty name":       {keys.Spec{}, keys.ErrName},
		"reserved":         {keys.Spec{Name: "identity"}, keys.ErrName},
		"upper case":       {keys.Spec{Name: "Release"}, keys.ErrName},
		"path":             {keys.Spec{Name: "../x"}, keys.ErrName},
		"trailing dot":     {keys.Spec{Name: "a."}, keys.ErrName},
		"line break":       {keys.Spec{Name: "a\n"}, keys.ErrName},
		"too long":         {keys.Spec{Name: strings.Repeat("a", 129)}, keys.ErrName},
		"algorithm":        {keys.Spec{Name: "a", Algorithm: "rsa-1024"}, keys.ErrAlgorithm},
		"back end":         {keys.Spec{Name: "a", Backend: "awskms"}, keys.ErrBackend},
		"unknown back end": {keys.Spec{Name: "a", Backend: "floppy"}, keys.ErrBackend},
		"reference":        {keys.Spec{Name: "a", Ref: "x"}, keys.ErrRef},
		"service purpose":  {keys.Spec{Name: "a", Purposes: []string{"log"}}, keys.ErrPurpose},
		"mixed purposes":   {keys.Spec{Name: "a", Purposes: []string{"log", "sign"}}, keys.ErrPurpose},
		"malformed":        {keys.Spec{Name: "a", Purposes: []string{""}}, keys.ErrPurpose},
		"exists":           {keys.Spec{Name: "taken"}, keys.ErrExists},
		"exists otherwise": {keys.Spec{Name: "taken", Algorithm: keys.Ed25519}, keys.ErrExists},
	} {
		if _, err := b.Create(ctx, c.spec); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	for _, name := range []string{"nobody", "", "../x", "A"} {
		if _, err := b.Get(ctx, name); !errors.Is(err, keys.ErrNotFound) {
			t.Errorf("Get(%q): %v", name, err)
		}
		if _, err := b.Sign(ctx, name, nil); !errors.Is(err, keys.ErrNotFound) {
			t.Errorf("Sign(%q): %v", name, err)
		}
		if _, err := b.Rotate(ctx, name); !errors.Is(err, keys.ErrNotFound) {
			t.Errorf("Rotate(%q): %v", name, err)
		}
		if _, err := b.Revoke(ctx, name, "r", nil); !errors.Is(err, keys.ErrNotFound) {
			t.Errorf("Revoke(%q): %v", name, err)
		}
	}
}

func TestServiceKeys(t *testing.T) {
	ctx, b := t.Context(), open(t)
	made, err := b.Ensure(ctx, keys.Spec{Name: "log", Purposes: []string{"log"}})
	if err != nil || made.State != keys.Active {
		t.Fatalf("%+v, %v", made, err)
	}
	again, err := b.another(t).Ensure(ctx, keys.Spec{Name: "log", Purposes: []string{"log"}})
	if err != nil || again.CurrentVersion().KeyID != made.CurrentVersion().KeyID {
		t.Fatalf("made twice: %v", err)
	}
	for name, spec := range map[string]keys.Spec{
		"algorithm": {Name: "log", Purposes: []string{"log"}, Algorithm: keys.Ed25519},
		"purpose":   {Name: "log", Purposes: []string{"tsa"}},
		"sign":      {Name: "log"},
	} {
		if _, err := b.Ensure(ctx, spec); !errors.Is(err, keys.ErrExists) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := b.Sign(ctx, "log", nil); !errors.Is(err, keys.ErrPurpose) {
		t.Errorf("signing for callers: %v", err)
	}
	for name, step := range map[string]func() error{
		"rotate":  func() error { _, err := b.Rotate(ctx, "log"); return err },
		"retire":  func() error { _, err := b.Retire(ctx, "log"); return err },
		"revoke":  func() error { _, err := b.Revoke(ctx, "log", "r", nil); return err },
		"destroy": func() error { _, err := b.Destroy(ctx, "log"); return err },
	} {
		if err := step(); !errors.Is(err, keys.ErrPurpose) {
			t.Errorf("%s: %v", name, err)
		}
	}
	b.create(t, "release", "")
	if _, err := b.Signer(ctx, "release"); !errors.Is(err, keys.ErrPurpose) {
		t.Errorf("a caller's key as a signer: %v", err)
	}
	if _, err := b.Signer(ctx, "nobody"); !errors.Is(err, keys.ErrNotFound) {
		t.Errorf("no key: %v", err)
	}
	service, err := b.Service(ctx)
	if err != nil || len(service) != 1 || service[0].Name != "log" {
		t.Errorf("%+v, %v", service, err)
	}
}

// TestListPages mixes both kinds of keys: pages are full and nothing is passed
// over.
func TestListPages(t *testing.T) {
	ctx, b := t.Context(), open(t)
	var want []string
	for i := range 9 {
		name := fmt.Sprintf("k%d", i)
		spec := keys.Spec{Name: name, Algorithm: keys.Ed25519}
		if i%3 == 0 {
			spec.Purposes = []string{"log"}
		} else {
			want = append(want, name)
		}
		if _, err := b.Ensure(ctx, spec); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	page := store.Page{Limit: 2}
	for {
		some, next, err := b.List(ctx, page)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range some {
			got = append(got, k.Name)
		}
		if next == "" {
			break
		}
		if len(some) != 2 {
			t.Errorf("a short page of %d", len(some))
		}
		page.Cursor = next
	}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestTwoProcessesRotate loses no version and makes no gap.
func TestTwoProcessesRotate(t *testing.T) {
	ctx, b := t.Context(), open(t)
	b.create(t, "release", keys.Ed25519)
	rings := []*keys.Ring{b.Ring, b.another(t)}
	const each = 10
	done := make(chan error, len(rings))
	for _, ring := range rings {
		go func() {
			for range each {
				if _, err := ring.Rotate(ctx, "release"); err != nil && !errors.Is(err, store.ErrStale) {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range rings {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	k, err := b.Get(ctx, "release")
	if err != nil {
		t.Fatal(err)
	}
	active := 0
	for i, v := range k.Versions {
		if v.Version != i+1 {
			t.Errorf("version %d at %d", v.Version, i)
		}
		if v.State == keys.Active {
			active++
		}
	}
	if active != 1 || k.Revision != int64(len(k.Versions)) || k.Current != len(k.Versions) {
		t.Errorf("%d active, revision %d, %d versions", active, k.Revision, len(k.Versions))
	}
}
