package daemon_test

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/countersign/countersign/server/api"
	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/trust"
)

func root(t *testing.T, c *api.Client) trust.Root {
	t.Helper()
	document, err := c.TrustedRoot(t.Context())
	must(t, err)
	r, err := trust.ParseTrustedRoot(document)
	must(t, err)
	return r
}

func named(l api.AuthorityList, name string) []api.Authority {
	return slices.DeleteFunc(slices.Clone(l.Items), func(a api.Authority) bool { return a.Name != name })
}

// D6: a revoked key leaves the trusted root, or ends in it, another takes over
// at once, and all of it outlives a restart.
func TestRevocationSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	d := open(t, config(dir))
	client := admin(t, d, dir)
	before := root(t, client)
	for _, name := range []string{"ca", "ct", "tsa"} {
		l, err := client.RevokeAuthority(t.Context(), name, api.AuthorityRevocation{Reason: "stolen laptop"})
		must(t, err)
		items := named(l, name)
		if len(items) != 2 || items[1].RevokedReason != "stolen laptop" || items[0].RevokedAt != nil || items[0].End != nil || items[0].ID == items[1].ID {
			t.Fatalf("%s: %+v", name, items)
		}
		// Repeating it by id changes nothing; the key in use stays.
		again, err := client.RevokeAuthority(t.Context(), name, api.AuthorityRevocation{Reason: "again", ID: items[1].ID})
		must(t, err)
		if !slices.EqualFunc(named(again, name), items, func(a, b api.Authority) bool { return a.ID == b.ID && a.RevokedReason == b.RevokedReason }) {
			t.Errorf("%s: repeated: %+v", name, named(again, name))
		}
	}
	after := root(t, client)
	if len(after.TimestampAuthorities) != 1 || after.TimestampAuthorities[0].Chain[0].Equal(before.TimestampAuthorities[0].Chain[0]) ||
		after.TimestampAuthorities[0].Chain[1].Equal(before.TimestampAuthorities[0].Chain[1]) {
		t.Error("the timestamp authority before is still in the trusted root")
	}
	if len(after.CertificateAuthorities) != 1 || after.CertificateAuthorities[0].Chain[1].Equal(before.CertificateAuthorities[0].Chain[1]) || len(after.CTLogs) != 1 {
		t.Error("the certificate authority before is still in the trusted root")
	}
	lost := time.Now().UTC().Truncate(time.Second)
	l, err := client.RevokeAuthority(t.Context(), "tsa", api.AuthorityRevocation{Reason: "lost", CompromisedAt: &lost})
	must(t, err)
	if items := named(l, "tsa"); len(items) != 3 || items[0].End == nil || !items[0].End.Equal(lost) || items[0].CompromisedAt == nil {
		t.Errorf("%+v", items)
	}
	kept := root(t, client)
	must(t, d.Close(t.Context()))
	reopened := admin(t, open(t, config(dir)), dir)
	if got := root(t, reopened); len(got.TimestampAuthorities) != len(kept.TimestampAuthorities) || len(kept.TimestampAuthorities) != 2 {
		t.Errorf("%d timestamp authorities, after a restart %d", len(kept.TimestampAuthorities), len(got.TimestampAuthorities))
	}
	listed, err := reopened.Authorities(t.Context())
	must(t, err)
	if len(named(listed, "tsa")) != 3 || len(named(listed, "ca")) != 2 || len(named(listed, "ct")) != 2 {
		t.Errorf("after a restart: %+v", listed)
	}
}

func TestRevocationRefuses(t *testing.T) {
	dir := t.TempDir()
	client := admin(t, open(t, config(dir)), dir)
	tomorrow := time.Now().Add(24 * time.Hour)
	var problem *api.Problem
	for name, tc := range map[string]struct {
		authority string
		r         api.AuthorityRevocation
		status    int
	}{
		"no reason":            {"tsa", api.AuthorityRevocation{}, 400},
		"a time to come":       {"tsa", api.AuthorityRevocation{Reason: "x", CompromisedAt: &tomorrow}, 400},
		"an unknown key":       {"ca", api.AuthorityRevocation{Reason: "x", ID: "1234"}, 404},
		"an unknown authority": {"nobody", api.AuthorityRevocation{Reason: "x"}, 404},
		"the log":              {"log", api.AuthorityRevocation{Reason: "x"}, 400},
	} {
		if _, err := client.RevokeAuthority(t.Context(), tc.authority, tc.r); !errors.As(err, &problem) || problem.Status != tc.status {
			t.Errorf("%s: %v, want %d", name, err, tc.status)
		}
	}
	if l, err := client.Authorities(t.Context()); err != nil || len(l.Items) != 5 {
		t.Errorf("a refused revocation changed something: %+v, %v", l, err)
	}
}

// An imported issuing certificate that is revoked is succeeded by our own root.
func TestRevokeImportedIssuer(t *testing.T) {
	dir := t.TempDir()
	d := open(t, config(dir))
	client := admin(t, d, dir)
	requested, err := client.RequestAuthority(t.Context())
	must(t, err)
	acme := newCompany(t)
	_, err = client.ImportAuthority(t.Context(), api.AuthorityChain{Chain: acme.certify(t, requested.Request)})
	must(t, err)
	_, err = client.RevokeAuthority(t.Context(), "ca", api.AuthorityRevocation{Reason: "stolen"})
	must(t, err)
	for _, a := range root(t, client).CertificateAuthorities {
		if a.Chain[len(a.Chain)-1].Equal(acme.root) {
			t.Error("the revoked issuer is still in the trusted root")
		}
	}
	if _, err := client.RotateAuthority(t.Context(), "ca"); err != nil {
		t.Errorf("rotating our own afterwards: %v", err)
	}
	must(t, d.Close(t.Context()))
	admin(t, open(t, config(dir)), dir)
}

// A crash between a revocation and its successor is finished by the next start.
func TestRevocationSurvivesACrash(t *testing.T) {
	dir := t.TempDir()
	d := open(t, config(dir))
	before := root(t, admin(t, d, dir))
	must(t, d.Close(t.Context()))
	db, err := store.OpenSQLite(t.Context(), filepath.Join(dir, "countersign.db"))
	must(t, err)
	revoked := map[string]any{"reason": "stolen", "at": time.Now().UTC()}
	for _, name := range []string{"timestamp", "issuer"} {
		o, err := db.Objects().Get(t.Context(), "certificate", name)
		must(t, err)
		var kept map[string]any
		must(t, json.Unmarshal(o.Body, &kept))
		for _, list := range []string{"windows", "ctLogs"} {
			if windows, ok := kept[list].([]any); ok {
				windows[0].(map[string]any)["revoked"] = revoked
			}
		}
		o.Body, err = json.Marshal(kept)
		must(t, err)
		_, err = db.Objects().Put(t.Context(), o)
		must(t, err)
	}
	must(t, db.Close())
	client := admin(t, open(t, config(dir)), dir)
	after := root(t, client)
	if len(after.TimestampAuthorities) != 1 || len(after.CertificateAuthorities) != 1 || len(after.CTLogs) != 1 ||
		after.TimestampAuthorities[0].Chain[0].Equal(before.TimestampAuthorities[0].Chain[0]) ||
		after.CertificateAuthorities[0].Chain[0].Equal(before.CertificateAuthorities[0].Chain[0]) {
		t.Errorf("%+v", after)
	}
	listed, err := client.Authorities(t.Context())
	must(t, err)
	if len(listed.Items) != 8 {
		t.Errorf("%+v", listed)
	}
}
