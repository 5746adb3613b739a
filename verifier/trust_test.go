package verifier_test

import (
	"testing"
	"time"

	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/trust"
)

// D2 and the states of a key: only proven time counts.
func TestKeyWindows(t *testing.T) {
	signed := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) *time.Time { v := signed.Add(d); return &v }
	cases := []struct {
		name   string
		change func(*keys.Version)
		want   policy.Code // empty: passes
	}{
		{"active", func(*keys.Version) {}, ""},
		{"pre-active", func(v *keys.Version) { v.State, v.ActivatedAt = keys.PreActive, nil }, policy.KeyOutsideWindow},
		{"activated in the same second", func(v *keys.Version) { v.ActivatedAt = at(900 * time.Millisecond) }, ""},
		{"activated later", func(v *keys.Version) { v.ActivatedAt = at(2 * time.Second) }, policy.KeyOutsideWindow},
		{"deactivated later", func(v *keys.Version) { v.State, v.DeactivatedAt = keys.Deactivated, at(time.Second) }, ""},
		{"deactivated before", func(v *keys.Version) { v.State, v.DeactivatedAt = keys.Deactivated, at(-time.Second) }, policy.KeyOutsideWindow},
		{"suspended later", func(v *keys.Version) { v.State, v.SuspendedAt = keys.Suspended, at(time.Second) }, ""},
		{"suspended before", func(v *keys.Version) { v.State, v.SuspendedAt = keys.Suspended, at(-time.Second) }, policy.KeyOutsideWindow},
		{"revoked later, compromise unknown", func(v *keys.Version) {
			v.State, v.RevokedAt = keys.Compromised, at(time.Hour)
		}, policy.KeyRevoked},
		{"compromised after", func(v *keys.Version) {
			v.State, v.RevokedAt, v.CompromisedAt = keys.Compromised, at(time.Hour), at(2*time.Second)
		}, ""},
		{"compromised in the same second", func(v *keys.Version) {
			v.State, v.RevokedAt, v.CompromisedAt = keys.Compromised, at(time.Hour), at(900*time.Millisecond)
		}, policy.KeyRevoked},
		{"compromised before", func(v *keys.Version) {
			v.State, v.RevokedAt, v.CompromisedAt = keys.Compromised, at(time.Hour), at(-time.Hour)
		}, policy.KeyRevoked},
		{"destroyed after deactivation", func(v *keys.Version) {
			v.State, v.DeactivatedAt, v.DestroyedAt = keys.Destroyed, at(time.Hour), at(2*time.Hour)
		}, ""},
		{"destroyed after revocation", func(v *keys.Version) {
			v.State, v.RevokedAt, v.DestroyedAt = keys.Destroyed, at(time.Hour), at(2*time.Hour)
		}, policy.KeyRevoked},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			digest, image := w.image(c.name)
			w.attachBundle(digest, w.authority.Bundle(digest, w.key, signed).JSON())
			legacyDigest, legacyImage := w.image(c.name + " legacy")
			w.attachLegacy(legacyDigest, w.authority.Legacy(legacyDigest, w.key, signed))
			w.wantPassed(image) // and remembered: the change must reach it
			w.wantPassed(legacyImage)
			w.keys.version("release", c.change)
			for _, i := range []string{image, legacyImage} {
				if c.want == "" {
					w.wantPassed(i)
				} else {
					w.wantFailed(i, c.want)
				}
			}
		})
	}
}

// Without a trusted root nothing is logged and nothing has a time.
func TestTrustedRootChange(t *testing.T) {
	w := newWorld(t)
	digest, image := w.image("app")
	w.attachBundle(digest, w.authority.Bundle(digest, w.key, w.signedAt).JSON())
	w.wantPassed(image)
	full := w.authority.Root()
	noStamps := full
	noStamps.TimestampAuthorities = nil
	w.root.Store(&noStamps)
	w.wantFailed(image, policy.TimestampMissing)
	w.root.Store(&trust.Root{})
	w.wantFailed(image, policy.LogEntryMissing)
	ended := w.authority.Root()
	before := w.signedAt.Add(-time.Hour)
	ended.TimestampAuthorities[0].End = &before // D5
	w.root.Store(&ended)
	w.wantFailed(image, policy.TimestampInvalid)
	w.root.Store(&full)
	w.wantPassed(image)
}
