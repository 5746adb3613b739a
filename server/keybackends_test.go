package server_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/countersign/countersign/daemon"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/keys/keystest"
	"github.com/countersign/countersign/server/api"
)

// elsewhere is a service whose callers may adopt hashivault://team-*.
func elsewhere(t *testing.T) (*house, *keystest.Memory) {
	t.Helper()
	memory := keystest.NewMemory()
	refs, err := keys.ParseRefs([]string{"hashivault://team-*"})
	if err != nil {
		t.Fatal(err)
	}
	return open(t, func(c *daemon.Config) {
		c.KeyRefs, c.Backends = refs, map[string]keys.Backend{keys.BackendHashivault: memory}
	}), memory
}

// TestKeysElsewhere is the life of an adopted key as a caller sees it.
func TestKeysElsewhere(t *testing.T) {
	h, memory := elsewhere(t)
	ctx := t.Context()
	builder := h.furnish()
	const ref, other = "hashivault://team-release", "hashivault://team-other"
	memory.Put(t, ref, keys.ECDSAP256)
	memory.Put(t, other, keys.ECDSAP256)
	key, err := h.admin.CreateKey(ctx, api.KeyRequest{Name: "vault", Backend: "hashivault", Ref: ref})
	h.must(err)
	if key.Ref != ref || key.Algorithm != "ecdsa-p256" || key.Backend != "hashivault" {
		t.Fatalf("%+v", key)
	}
	_, err = h.admin.PutGrant(ctx, "vault", api.GrantRequest{
		Issuer: "local", Subject: "builder", Repositories: []string{h.registry.Host + "/team/**"}, Keys: []string{"vault"}, Actions: []string{"sign"},
	}, api.PutOptions{})
	h.must(err)
	sign := func(key string) error {
		_, _, err := builder.Sign(ctx, api.SignatureRequest{Image: h.push("content"), Key: key, Formats: []string{"bundle", "legacy"}}, api.SignOptions{})
		return err
	}
	h.must(sign("vault"))
	memory.Down(true)
	if p := wantProblem(t, sign("vault"), http.StatusServiceUnavailable, "key_backend_unavailable"); p.RetryAfter <= 0 {
		t.Error("no Retry-After")
	}
	h.must(sign("release"))
	memory.Down(false)
	h.must(sign("vault"))
	_, err = h.admin.RotateKey(ctx, "vault", api.RotateRequest{})
	wantProblem(t, err, http.StatusConflict, "key_unchanged")
	memory.Put(t, ref, keys.ECDSAP256)
	wantProblem(t, sign("vault"), http.StatusConflict, "key_changed")
	key, err = h.admin.RotateKey(ctx, "vault", api.RotateRequest{})
	if err != nil || key.Version != 2 {
		t.Fatalf("%+v, %v", key, err)
	}
	h.must(sign("vault"))
	key, err = h.admin.RotateKey(ctx, "vault", api.RotateRequest{Ref: other})
	if err != nil || key.Ref != other || key.Version != 3 {
		t.Fatalf("%+v, %v", key, err)
	}
	h.must(sign("vault"))
	_, err = h.admin.RevokeKey(ctx, "vault", api.RevokeRequest{Reason: "lost"})
	h.must(err)
	wantProblem(t, sign("vault"), http.StatusConflict, "key_not_active")
	if key, err = h.admin.KeyAction(ctx, "release", "rotate"); err != nil || key.Version != 2 {
		t.Fatalf("a key in the data folder, rotated without a body: %+v, %v", key, err)
	}
}

// TestKeyReferencesRefused is row I1, and row K1 for what a reference might
// carry; what is refused is asked of no back end.
func TestKeyReferencesRefused(t *testing.T) {
	h, memory := elsewhere(t)
	memory.Down(true)
	const pin = "4711-0815-4711"
	for name, c := range map[string]struct {
		request api.KeyRequest
		code    string
	}{
		"not listed":     {api.KeyRequest{Backend: "hashivault", Ref: "hashivault://prod-ca"}, "key_ref_not_allowed"},
		"another scheme": {api.KeyRequest{Backend: "hashivault", Ref: "awskms:///alias/x"}, "key_ref_not_allowed"},
		"no reference":   {api.KeyRequest{Backend: "hashivault"}, "key_ref_not_allowed"},
		"not configured": {api.KeyRequest{Backend: "azurekms", Ref: "azurekms://evil.example/x"}, "unsupported"},
		"a PIN": {
			api.KeyRequest{Backend: "pkcs11", Ref: "pkcs11:token=a;object=b?module-path=/x&pin-value=" + pin}, "unsupported",
		},
		"a file with a reference": {api.KeyRequest{Ref: "hashivault://team-x"}, "key_ref_not_allowed"},
	} {
		c.request.Name = "x"
		_, err := h.admin.CreateKey(t.Context(), c.request)
		t.Run(name, func(t *testing.T) { wantProblem(t, err, http.StatusUnprocessableEntity, c.code) })
	}
	journal, err := h.admin.Audit(t.Context(), api.ListOptions{Limit: 100})
	h.must(err)
	raw, err := json.Marshal(journal)
	h.must(err)
	if strings.Contains(string(raw), pin) || strings.Contains(h.log.String(), pin) {
		t.Error("row K1: the PIN is in the journal or the log")
	}
	_, err = h.admin.CreateKey(t.Context(), api.KeyRequest{Name: "x", Backend: "hashivault", Ref: "hashivault://team-x"})
	wantProblem(t, err, http.StatusServiceUnavailable, "key_backend_unavailable") // positive control: this one is asked
}
