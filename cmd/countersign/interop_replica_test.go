//go:build interop

package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	_ "github.com/jackc/pgx/v5/stdlib" // registers "pgx"

	"github.com/countersign/countersign/internal/localregistry"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/server/api"
	"github.com/countersign/countersign/store/storetest"
)

// fleet is a main service on PostgreSQL and what its replicas need.
type fleet struct {
	t        testing.TB
	main     *process
	registry *localregistry.Registry
	database string
	key      string
}

// newFleet starts a main service that may sign with the key release and demands
// its signature. The registry wants a password.
func newFleet(t testing.TB) *fleet {
	t.Helper()
	registry, err := localregistry.Start(t.Context(), localregistry.Options{Wrap: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if user, password, _ := r.BasicAuth(); user != "robot" || password != "secret of the registry" {
				w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			next.ServeHTTP(w, r)
		})
	}})
	check(t, err)
	t.Cleanup(func() { registry.Close() })
	f := &fleet{t: t, registry: registry, database: storetest.PostgresSchema(t, storetest.Postgres(t))}
	f.main = newProcess(t, "--database", f.database).secure()
	f.main.start()
	f.main.trustAll(registry, "release")
	current, err := f.main.admin.Registry(t.Context(), registry.Host)
	check(t, err)
	_, err = f.main.admin.PutRegistry(t.Context(), registry.Host, api.RegistryRequest{
		Repositories: []string{"**"}, InsecureHTTP: true, AllowPrivateAddress: true,
		Credentials: &api.Credentials{Username: "robot", Password: "secret of the registry"},
	}, api.PutOptions{Revision: current.Revision})
	check(t, err)
	f.key = f.main.replicaKey()
	return f
}

// replica is a verification replica of the main service that was not started.
func (f *fleet) replica(database string) *process {
	f.t.Helper()
	return f.main.replica(f.key, database)
}

// limited is a database user with no more rights than docs/operations.md asks for.
func (f *fleet) limited() string {
	f.t.Helper()
	u, err := url.Parse(f.database)
	check(f.t, err)
	schema, user := u.Query().Get("search_path"), "verify_"+strings.ReplaceAll(uuid.NewString(), "-", "")
	for _, statement := range []string{
		"CREATE ROLE %[2]s LOGIN PASSWORD 'of the replica'",
		"GRANT USAGE ON SCHEMA %[1]s TO %[2]s",
		"GRANT SELECT ON ALL TABLES IN SCHEMA %[1]s TO %[2]s",
		"GRANT INSERT ON decisions TO %[2]s",
	} {
		f.execute(fmt.Sprintf(statement, schema, user))
	}
	f.t.Cleanup(func() {
		f.execute("DROP OWNED BY " + user)
		f.execute("DROP ROLE " + user)
	})
	u.User = url.UserPassword(user, "of the replica")
	return u.String()
}

func (f *fleet) execute(statement string, args ...any) {
	f.t.Helper()
	pool, err := sql.Open("pgx", f.database)
	check(f.t, err)
	defer func() { check(f.t, pool.Close()) }()
	_, err = pool.ExecContext(context.Background(), statement, args...)
	check(f.t, err)
}

// published is the sealed object that replicas read.
func (f *fleet) published() (body []byte) {
	f.t.Helper()
	pool, err := sql.Open("pgx", f.database)
	check(f.t, err)
	defer func() { check(f.t, pool.Close()) }()
	check(f.t, pool.QueryRowContext(f.t.Context(), "SELECT body FROM objects WHERE kind = 'publication'").Scan(&body))
	return body
}

// forge writes another publication, as who can write the database could.
func (f *fleet) forge(body []byte) {
	f.t.Helper()
	f.execute("UPDATE objects SET body = $1 WHERE kind = 'publication'", body)
	f.execute("UPDATE counters SET value = value + 1 WHERE name = 'objects'")
}

// sign pushes a new image and signs it.
func (f *fleet) sign(repository, key string) string {
	f.t.Helper()
	image := f.push(repository)
	_, _, err := f.main.admin.Sign(f.t.Context(), api.SignatureRequest{Image: image, Key: key}, api.SignOptions{})
	check(f.t, err)
	return image
}

// push pushes an image that nobody signed. The registry's password stands in the
// way of tools, not of its own insides.
func (f *fleet) push(repository string) string {
	f.t.Helper()
	return f.registry.Image(repository, pushShape(f.t, f.registry, repository, "image "+uuid.NewString()))
}

func (f *fleet) want(at *process, image string, want policy.Code) api.VerifyResult {
	f.t.Helper()
	r := at.verdict(image)
	if want == "" && r.Verdict != policy.Passed || want != "" && (r.Verdict != policy.Failed || r.Reasons[0].Code != want) {
		f.t.Errorf("%s: want %q: %s", image, want, mustJSON(f.t, r))
	}
	return r
}

// TestInteropReplicaProcesses: replicas that know no more than the database and the
// replica key judge as the main service does, learn every change before it is
// acknowledged, and go on without it.
func TestInteropReplicaProcesses(t *testing.T) {
	f := newFleet(t)
	database := f.limited()
	one, two := f.replica(database), f.replica(database)
	one.start()
	two.start()
	all := []*process{f.main, one, two}
	signed, unsigned := f.sign("team/app", "release"), f.push("team/other")
	for _, p := range all {
		f.want(p, signed, "")
		f.want(p, unsigned, policy.NoSignature)
	}
	decision := f.want(one, signed, "")
	if d, err := f.main.admin.Decision(t.Context(), decision.DecisionID); err != nil || d.ID != decision.DecisionID {
		t.Errorf("the replica's decision, asked of the main service: %+v, %v", d, err)
	}
	for _, authority := range []string{"tsa", "ca", "ct", "log"} {
		_, err := f.main.admin.RotateAuthority(t.Context(), authority)
		check(t, err)
		image := f.sign("team/after-"+authority, "release")
		for _, p := range all {
			f.want(p, image, "")
		}
	}
	_, err := f.main.admin.RevokeKey(t.Context(), "release", api.RevokeRequest{Reason: "stolen"})
	check(t, err)
	for _, p := range all {
		f.want(p, signed, policy.KeyRevoked)
	}
	_, err = f.main.admin.RotateKey(t.Context(), "release", api.RotateRequest{})
	check(t, err)
	signed = f.sign("team/app", "release")
	f.want(one, signed, "")
	f.main.kill()
	f.want(one, signed, "")
	two.kill()
	two.start() // also a replica that starts while the main service is away
	f.want(two, signed, "")
	f.want(two, unsigned, policy.NoSignature)
}

// TestInteropReplicaServesNoMore: what a replica does not serve says so, and nothing
// of it can be changed through one.
func TestInteropReplicaServesNoMore(t *testing.T) {
	f := newFleet(t)
	r := f.replica(f.limited())
	r.start()
	signed := f.sign("team/app", "release")
	refused := func(what string, err error) {
		t.Helper()
		problem, ok := errors.AsType[*api.Problem](err)
		if !ok || problem.Code != "verify_only" || problem.Status != http.StatusNotFound {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, _, err := r.admin.Sign(t.Context(), api.SignatureRequest{Image: signed, Key: "release"}, api.SignOptions{})
	refused("signing", err)
	_, err = r.admin.RevokeKey(t.Context(), "release", api.RevokeRequest{Reason: "mischief"})
	refused("revoking", err)
	_, err = r.admin.Verify(t.Context(), api.VerifyRequest{Images: []string{signed}, VSA: true})
	refused("a summary", err)
	me, err := r.admin.Me(t.Context())
	check(t, err)
	for _, right := range me.Rights {
		if !strings.Contains(right, "verify") && !strings.Contains(right, "admission") && !strings.Contains(right, "ratify") &&
			!strings.Contains(right, "decisions") && strings.HasPrefix(right, "POST") {
			t.Errorf("a replica lets its administrator %s", right)
		}
	}
	f.want(r, signed, "") // control
}

// TestInteropReplicaBelievesNobodyElse: who can write the database, and has not the
// replica key, cannot make a replica believe anything; until the main service has
// put it right nothing is verified.
func TestInteropReplicaBelievesNobodyElse(t *testing.T) {
	f := newFleet(t)
	r := f.replica(f.limited())
	r.start()
	signed := f.sign("team/app", "release")
	f.want(r, signed, "")
	before := f.published()
	_, err := f.main.admin.RevokeKey(t.Context(), "release", api.RevokeRequest{Reason: "stolen"})
	check(t, err)
	f.want(r, signed, policy.KeyRevoked)
	after := f.published()
	altered := append([]byte(nil), after...)
	altered[len(altered)/2] ^= 1
	for name, body := range map[string][]byte{
		"an older one": before, "an altered one": altered, "none": []byte(`{"sealed":""}`), "no JSON": []byte("x"),
	} {
		f.forge(body)
		if a, err := r.admin.Verify(t.Context(), api.VerifyRequest{Images: []string{signed}}); err == nil && a.Results[0].Verdict == policy.Passed {
			t.Fatalf("%s: PASSED by a revoked key", name)
		} else if err == nil && a.Results[0].Reasons[0].Code == policy.KeyRevoked {
			continue // the main service was faster
		}
		if ready, err := r.client().Get(r.url + "/readyz"); err != nil || ready.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%s: the replica is ready: %v", name, err)
		}
		healed := time.Now().Add(30 * time.Second)
		for {
			a, err := r.admin.Verify(t.Context(), api.VerifyRequest{Images: []string{signed}})
			if err == nil && a.Results[0].Reasons[0].Code == policy.KeyRevoked {
				break
			}
			if time.Now().After(healed) {
				t.Fatalf("%s: not put right: %v %s", name, err, mustJSON(t, a))
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	_, err = f.main.admin.RotateKey(t.Context(), "release", api.RotateRequest{})
	check(t, err)
	f.want(r, f.sign("team/app", "release"), "") // control
}

// TestInteropReplicaRefusesToStart: each fault is told.
func TestInteropReplicaRefusesToStart(t *testing.T) {
	f := newFleet(t)
	empty := storetest.PostgresSchema(t, storetest.Postgres(t))
	other := filepath.Join(t.TempDir(), "other.key")
	stranger := newProcess(t)
	stranger.start()
	check(t, os.WriteFile(other, []byte(stranger.must("replica", "key", "--data-dir", stranger.dir)), 0o600))
	open := filepath.Join(t.TempDir(), "open.key")
	line, err := os.ReadFile(f.key)
	check(t, err)
	check(t, os.WriteFile(open, line, 0o600))
	check(t, os.Chmod(open, 0o644))
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"another service's key": {[]string{"--database", f.database, "--replica-key-file", other}, "another service's"},
		"a key for everybody":   {[]string{"--database", f.database, "--replica-key-file", open}, "0640 or less"},
		"the master key":        {[]string{"--database", f.database, "--replica-key-file", filepath.Join(f.main.dir, "master.key")}, "replica key"},
		"an empty database":     {[]string{"--database", empty, "--replica-key-file", f.key}, "joining the database"},
		"a second service":      {[]string{"--role", "all", "--data-dir", filepath.Join(t.TempDir(), "second"), "--database", f.database}, "another data folder"},
		"no database":           {[]string{"--replica-key-file", f.key}, "needs database"},
		"no key":                {[]string{"--database", f.database}, "needs database, replica-key-file"},
	} {
		cmd := f.main.command(append([]string{"serve", "--role", "verify", "--listen", "127.0.0.1:0", "--public-url", f.main.url}, c.args...)...)
		cmd.Stderr = nil
		ended, stop := context.WithTimeout(t.Context(), 30*time.Second)
		go func() { <-ended.Done(); _ = cmd.Process.Kill() }()
		out, err := cmd.CombinedOutput()
		stop()
		if err == nil || !strings.Contains(string(out), c.want) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}
