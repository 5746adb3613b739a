package daemon_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/countersign/countersign/daemon"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/server/api"
	"github.com/countersign/countersign/tlog"
)

func config(dir string) daemon.Config {
	return daemon.Config{DataDir: dir, PublicURL: "http://127.0.0.1:8181"}
}

func open(t *testing.T, c daemon.Config) *daemon.Daemon {
	t.Helper()
	d, err := daemon.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close(context.Background()) })
	return d
}

func token(t *testing.T, dir string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(raw))
}

// whoami asks the daemon who a token is.
func whoami(t *testing.T, d *daemon.Daemon, secret string) (api.Me, error) {
	t.Helper()
	server := httptest.NewServer(d.Handler())
	defer server.Close()
	client, err := api.NewClient(server.URL, secret)
	if err != nil {
		t.Fatal(err)
	}
	return client.Me(t.Context())
}

func TestFirstStartMakesEverything(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	d := open(t, config(dir))
	if me, err := whoami(t, d, token(t, dir)); err != nil || me.Subject != "admin" || me.Roles[0] != "admin" {
		t.Errorf("the administrator's token: %+v, %v", me, err)
	}
	for name, mode := range map[string]os.FileMode{
		"": 0o700, "master.key": 0o600, "admin.token": 0o600, "countersign.db": 0o600, "trusted_root.json": 0o644,
	} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%q: %v, %v; want mode %o", name, info, err, mode)
		}
	}
}

func TestOneProcessPerFolder(t *testing.T) {
	dir := t.TempDir()
	first := open(t, config(dir))
	if _, err := daemon.Open(t.Context(), config(dir)); !errors.Is(err, daemon.ErrInUse) {
		t.Fatalf("second opener: %v, want ErrInUse", err)
	}
	if err := first.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	open(t, config(dir)) // control: the lock went with the first
}

func TestRestartKeepsTheTokenAndTheLog(t *testing.T) {
	dir := t.TempDir()
	first := open(t, config(dir))
	secret := token(t, dir)
	root, err := os.ReadFile(filepath.Join(dir, "trusted_root.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "admin.token")); err != nil {
		t.Fatal(err)
	}
	second := open(t, config(dir))
	if _, err := whoami(t, second, secret); err != nil {
		t.Errorf("the token after a restart: %v", err)
	}
	if second.AdminTokenPath() != "" {
		t.Error("a token file that was deleted was made again")
	}
	again, err := os.ReadFile(filepath.Join(dir, "trusted_root.json"))
	if err != nil || string(again) != string(root) {
		t.Errorf("the trusted root changed with a restart: %v\n%s\n%s", err, root, again)
	}
}

// TestRefusesToStart: each fault stops the start with an error that names it,
// and leaves the folder unlocked for whoever mends it.
func TestRefusesToStart(t *testing.T) {
	cases := map[string]struct {
		harm func(t *testing.T, dir string, c *daemon.Config)
		want error
	}{
		"another origin": {func(_ *testing.T, _ string, c *daemon.Config) { c.PublicURL = "http://elsewhere.example.com" }, tlog.ErrCheckpoint},
		"another master key": {func(t *testing.T, dir string, _ *daemon.Config) {
			other := t.TempDir()
			if _, err := keys.OpenMaster(filepath.Join(other, "master.key")); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(filepath.Join(other, "master.key"), filepath.Join(dir, "master.key")); err != nil {
				t.Fatal(err)
			}
		}, keys.ErrSealed},
		"a master key that others can read": {func(t *testing.T, dir string, _ *daemon.Config) {
			if err := os.Chmod(filepath.Join(dir, "master.key"), 0o644); err != nil {
				t.Fatal(err)
			}
		}, keys.ErrMaster},
		"a replaced checkpoint": {func(t *testing.T, dir string, _ *daemon.Config) {
			if err := os.WriteFile(filepath.Join(dir, "log", "checkpoint"), []byte("127.0.0.1\n9\nAAAA\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			conf := config(dir)
			if err := open(t, conf).Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.harm(t, dir, &conf)
			d, err := daemon.Open(t.Context(), conf)
			if err == nil {
				_ = d.Close(t.Context())
				t.Fatal("it started")
			}
			if c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if _, err := daemon.Open(t.Context(), conf); errors.Is(err, daemon.ErrInUse) {
				t.Error("the folder stayed locked")
			}
		})
	}
}
