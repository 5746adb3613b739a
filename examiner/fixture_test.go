package examiner_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/countersign/countersign/daemon"
	"github.com/countersign/countersign/examiner"
	"github.com/countersign/countersign/internal/localregistry"
	"github.com/countersign/countersign/server/api"
	"github.com/countersign/countersign/trust"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func config(dir string) daemon.Config {
	return daemon.Config{DataDir: dir, PublicURL: "http://127.0.0.1:8181"}
}

// service is a running service over a folder.
type service struct {
	t        testing.TB
	dir      string
	daemon   *daemon.Daemon
	admin    *api.Client
	registry *localregistry.Registry
}

func serve(t testing.TB, dir string) *service {
	t.Helper()
	registry, err := localregistry.Start(context.Background(), localregistry.Options{})
	check(t, err)
	t.Cleanup(func() { registry.Close() })
	return serveOver(t, config(dir), registry)
}

func serveOver(t testing.TB, c daemon.Config, registry *localregistry.Registry) *service {
	t.Helper()
	d, err := daemon.Open(context.Background(), c)
	check(t, err)
	server := httptest.NewServer(d.Handler())
	t.Cleanup(server.Close)
	token := readFile(t, filepath.Join(c.DataDir, "admin.token"))
	admin, err := api.NewClient(server.URL, strings.TrimSpace(string(token)))
	check(t, err)
	return &service{t: t, dir: c.DataDir, daemon: d, admin: admin, registry: registry}
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	check(t, err)
	return raw
}

func (s *service) close() {
	s.t.Helper()
	check(s.t, s.daemon.Close(context.Background()))
}

// trust sets up what signing needs.
func (s *service) trust() {
	s.t.Helper()
	ctx := context.Background()
	_, err := s.admin.PutRegistry(ctx, s.registry.Host, api.RegistryRequest{
		Repositories: []string{"**"}, InsecureHTTP: true, AllowPrivateAddress: true,
	}, api.PutOptions{})
	check(s.t, err)
	for _, key := range []string{"release", "spare"} {
		_, err = s.admin.CreateKey(ctx, api.KeyRequest{Name: key})
		check(s.t, err)
	}
	s.grant("sign", "attest")
	s.policy("enforce")
	_, err = s.admin.CreateToken(ctx, api.TokenRequest{Name: "reader", Roles: []string{"auditor", "verifier"}})
	check(s.t, err)
	_, err = s.admin.CreateToken(ctx, api.TokenRequest{Name: "gone", Roles: []string{"signer"}})
	check(s.t, err)
	check(s.t, s.admin.Delete(ctx, "tokens", "gone", api.PutOptions{}))
}

func (s *service) grant(actions ...string) {
	s.t.Helper()
	var o api.PutOptions
	if old, err := s.admin.Grant(context.Background(), "everything"); err == nil {
		o.Revision = old.Revision
	}
	_, err := s.admin.PutGrant(context.Background(), "everything", api.GrantRequest{
		Issuer: "local", Subject: "admin", Keys: []string{"*"}, Actions: actions,
		PredicateTypes: []string{"**"}, Repositories: []string{s.registry.Host + "/**"},
	}, o)
	check(s.t, err)
}

func (s *service) policy(mode string) {
	s.t.Helper()
	var o api.PutOptions
	if old, err := s.admin.Policy(context.Background(), "managed"); err == nil {
		o.Revision = old.Revision
	}
	_, err := s.admin.PutPolicy(context.Background(), "managed", []byte(fmt.Sprintf(`
apiVersion: countersign.dev/v1
kind: TrustPolicy
metadata: {name: managed}
spec:
  match: {images: [%q]}
  mode: %s
  authorities: {signer: {key: {name: release}}}
  require: {all: [{signature: {by: signer}}]}
`, s.registry.Host+"/**", mode)), o)
	check(s.t, err)
}

// sign signs a fresh image in both formats.
func (s *service) sign(name string) string {
	s.t.Helper()
	image := s.push(name)
	_, _, err := s.admin.Sign(context.Background(), api.SignatureRequest{
		Image: image, Key: "release", Formats: []string{"bundle", "legacy"}, Annotations: map[string]string{"html": "<&>"},
	}, api.SignOptions{IdempotencyKey: name})
	check(s.t, err)
	return image
}

func (s *service) push(name string) string {
	s.t.Helper()
	digest, err := s.registry.PushImage(context.Background(), "app", "", name)
	check(s.t, err)
	return s.registry.Image("app", digest)
}

func (s *service) attest(name string) {
	s.t.Helper()
	_, _, err := s.admin.Attest(context.Background(), api.AttestationRequest{
		Image: s.push(name), Key: "release", PredicateType: "https://example.com/review/v1",
		Predicate: json.RawMessage(`{"reviewer": "<alice>", "at": 1.50}`), Formats: []string{"bundle", "legacy"},
	}, api.SignOptions{})
	check(s.t, err)
}

// fill makes the shard that is written longer than one tile, with entries of
// others.
func (s *service) fill(n int) {
	s.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(s.t, err)
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	check(s.t, err)
	var group errgroup.Group
	group.SetLimit(64)
	for i := range n {
		group.Go(func() error {
			digest := sha256.Sum256(fmt.Appendf(nil, "%s %d", s.t.Name(), i))
			signature, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
			if err != nil {
				return err
			}
			encode := base64.StdEncoding.EncodeToString
			_, err = s.admin.AddLogEntry(context.Background(), fmt.Appendf(nil, `{"hashedRekordRequestV002":{"digest":%q,
				"signature":{"content":%q,"verifier":{"keyDetails":"PKIX_ECDSA_P256_SHA_256","publicKey":{"rawBytes":%q}}}}}`,
				encode(digest[:]), encode(signature), encode(spki)))
			return err
		})
	}
	check(s.t, group.Wait())
}

// world is a folder in which everything happened, and an older copy of it.
type world struct{ dir, older string }

// shared is made by the first test that asks; nobody writes to it.
var shared struct {
	once sync.Once
	dir  string
	world
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.dir != "" {
		_ = os.RemoveAll(shared.dir)
	}
	os.Exit(code)
}

func sharedWorld(t testing.TB) world {
	t.Helper()
	shared.once.Do(func() {
		var err error
		shared.dir, err = os.MkdirTemp("", "examiner") //nolint:usetesting // it outlives the test that makes it
		check(t, err)
		shared.world = newWorld(t, shared.dir)
	})
	if shared.older == "" {
		t.Fatal("the world could not be made")
	}
	return shared.world
}

// newWorld has two shards, the first longer than a tile, both formats of
// signatures and attestations, objects that changed, and keys that did.
func newWorld(t testing.TB, dir string) world {
	t.Helper()
	w := world{dir: filepath.Join(dir, "data"), older: filepath.Join(dir, "older")}
	s := serve(t, w.dir)
	s.trust()
	s.sign("first")
	s.fill(250)
	s.close()
	copyFolder(t, w.dir, w.older)
	s = serve(t, w.dir)
	s.trustAgain()
	s.policy("warn")
	s.grant("attest", "sign")
	_, err := s.admin.RotateKey(context.Background(), "release", api.RotateRequest{})
	check(t, err)
	_, err = s.admin.RevokeKey(context.Background(), "spare", api.RevokeRequest{Reason: "lost"})
	check(t, err)
	s.sign("second")
	s.attest("third")
	_, err = s.admin.RotateAuthority(context.Background(), "log")
	check(t, err)
	_, err = s.admin.RotateAuthority(context.Background(), "journal")
	check(t, err)
	image := s.sign("fourth")
	_, err = s.admin.Verify(context.Background(), api.VerifyRequest{Images: []string{image}})
	check(t, err)
	s.close()
	return w
}

// copyFolder copies a data folder; CopyFS does not keep who may read a file.
func copyFolder(t testing.TB, from, to string) {
	t.Helper()
	check(t, os.CopyFS(to, os.DirFS(from)))
	check(t, os.Chmod(filepath.Join(to, "master.key"), 0o600))
}

// trustAgain lists the registry of this service.
func (s *service) trustAgain() {
	s.t.Helper()
	_, err := s.admin.PutRegistry(context.Background(), s.registry.Host, api.RegistryRequest{
		Repositories: []string{"**"}, InsecureHTTP: true, AllowPrivateAddress: true,
	}, api.PutOptions{})
	check(s.t, err)
}

// examine examines a folder, believing the trusted root in it.
func examine(t testing.TB, dir string) examiner.Report {
	t.Helper()
	report, err := tryExamine(dir)
	check(t, err)
	return report
}

func tryExamine(dir string) (examiner.Report, error) {
	raw, err := os.ReadFile(filepath.Join(dir, "trusted_root.json"))
	if err != nil {
		return examiner.Report{}, err
	}
	root, err := trust.ParseTrustedRoot(raw)
	if err != nil {
		return examiner.Report{}, err
	}
	return daemon.Examine(context.Background(), daemon.ExamineConfig{DataDir: dir, Logs: root.Logs})
}

// starts reports whether a service starts over a folder.
func starts(dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	d, err := daemon.Open(ctx, config(dir))
	if err != nil {
		return err
	}
	return errors.Join(nil, d.Close(ctx))
}
