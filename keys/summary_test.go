package keys_test

import (
	"context"
	"errors"
	"testing"

	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/store"
)

// TestSummaryKey: the service's own key of verification summaries is seen and
// rotated like a caller's, and signs for no caller.
func TestSummaryKey(t *testing.T) {
	ctx, b := t.Context(), open(t)
	name, message := "countersign-vsa", []byte("a summary")
	made, err := b.Ensure(ctx, keys.Spec{Name: name, Purposes: []string{keys.PurposeVSA}})
	if err != nil || !made.Service() || !made.Managed() || !made.Summarizes() {
		t.Fatalf("%+v, %v", made, err)
	}
	b.create(t, "release", "")
	if l, _, err := b.List(ctx, store.Page{}); err != nil || len(l) != 2 || l[0].Name != name {
		t.Errorf("listed %+v, %v", l, err)
	}
	signature, err := b.SignSummary(ctx, name, message)
	if err != nil || keys.Verify(made.CurrentVersion().Public, keys.FormBundle, message, signature.Bytes) != nil {
		t.Fatalf("%+v, %v", signature, err)
	}
	for what, sign := range map[string]func(context.Context, string, []byte) (keys.Signature, error){"a bundle": b.Sign, "legacy": b.SignLegacy} {
		if _, err := sign(ctx, name, message); !errors.Is(err, keys.ErrPurpose) {
			t.Errorf("it signs %s for a caller: %v", what, err)
		}
	}
	if _, err := b.SignSummary(ctx, "release", message); !errors.Is(err, keys.ErrPurpose) {
		t.Errorf("a caller's key signs a summary: %v", err)
	}
	if _, err := b.Signer(ctx, name); !errors.Is(err, keys.ErrPurpose) {
		t.Errorf("a signer that outlives a revocation: %v", err)
	}
	checkSummaryLife(t, b, made)
}

func checkSummaryLife(t *testing.T, b *bench, made keys.Key) {
	t.Helper()
	ctx, name := t.Context(), made.Name
	rotated, err := b.Rotate(ctx, name)
	if err != nil || rotated.Current != 2 || rotated.Versions[0].State != keys.Deactivated {
		t.Fatalf("%+v, %v", rotated, err)
	}
	if signature, err := b.SignSummary(ctx, name, nil); err != nil || signature.KeyID == made.CurrentVersion().KeyID {
		t.Errorf("after the rotation: %+v, %v", signature, err)
	}
	if _, err := b.Retire(ctx, name); !errors.Is(err, keys.ErrTransition) {
		t.Errorf("retired for good: %v", err)
	}
	if _, err := b.Revoke(ctx, name, "stolen", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := b.SignSummary(ctx, name, nil); !errors.Is(err, keys.ErrNotActive) {
		t.Errorf("signs after its revocation: %v", err)
	}
	if _, err := b.Rotate(ctx, name); err != nil {
		t.Errorf("no key after a revocation: %v", err)
	}
}

// TestOwnNames: a caller's key never stands where the service will make one.
func TestOwnNames(t *testing.T) {
	b := open(t)
	for _, name := range []string{"countersign-vsa", "countersign-tsa-2", "countersign-x"} {
		if _, err := b.Create(t.Context(), keys.Spec{Name: name}); !errors.Is(err, keys.ErrName) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := b.Create(t.Context(), keys.Spec{Name: "countersigned"}); err != nil {
		t.Error(err)
	}
	if _, err := b.Ensure(t.Context(), keys.Spec{Name: "both", Purposes: []string{keys.PurposeVSA, "log"}}); !errors.Is(err, keys.ErrPurpose) {
		t.Errorf("one key for two jobs: %v", err)
	}
}
