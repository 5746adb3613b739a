package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/daemon"
	"github.com/countersign/countersign/internal/localregistry"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/server/api"
)

const (
	demoRepository = "shop/app"
	demoKey        = "release"
	bundleType     = "application/vnd.dev.sigstore.bundle.v0.3+json"
)

// errDemo says that the demo did not show what it promises.
var errDemo = errors.New("the demo went wrong")

func (a *app) demoCommand() *cobra.Command {
	var keep bool
	var listen string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show the whole job on this machine: sign, log, attest, verify, refuse",
		Long: "Starts the service and an OCI registry on loopback in a temporary folder, pushes\n" +
			"images, signs one, attests provenance, and asks for verdicts. Nothing else is needed or left behind.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := os.MkdirTemp("", "countersign-demo-")
			if err != nil {
				return fmt.Errorf("making a temporary folder: %w", err)
			}
			defer os.RemoveAll(dir) //nolint:errcheck // a leftover in the temporary folder harms nobody
			return a.demo(cmd.Context(), dir, listen, keep)
		},
	}
	cmd.Flags().BoolVar(&keep, "keep", false, "stay up until interrupted, and print how to call it")
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "loopback address of the service")
	return cmd
}

// demonstration is the running demo.
type demonstration struct {
	app      *app
	dir      string
	registry *localregistry.Registry
	admin    *api.Client
	url      string
}

func (a *app) demo(ctx context.Context, dir, listen string, keep bool) (err error) {
	registry, err := localregistry.Start(ctx, localregistry.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, registry.Close()) }()
	show := &demonstration{app: a, dir: dir, registry: registry}
	stop, err := show.start(ctx, listen)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	signed, err := show.prepare(ctx)
	if err != nil {
		return err
	}
	if err := show.judge(ctx, signed); err != nil {
		return err
	}
	if err := show.provenance(ctx); err != nil {
		return err
	}
	if err := show.explain(ctx, signed.Image); err != nil {
		return err
	}
	if keep {
		fmt.Fprintln(a.err, "\nup until interrupted (Ctrl-C)")
		<-ctx.Done()
	}
	return nil
}

// start runs the service on dir and returns what stops it.
func (d *demonstration) start(ctx context.Context, listen string) (stop func() error, err error) {
	host, _, err := net.SplitHostPort(listen)
	if err != nil || !loopback(host) {
		return nil, usagef("--listen: want a loopback HOST:PORT")
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", listen)
	if err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	d.url = "http://" + listener.Addr().String()
	logger := d.app.logger("error", "text")
	adoptStorageLog(logger)
	service, err := daemon.Open(ctx, daemon.Config{
		DataDir:   filepath.Join(d.dir, "data"),
		PublicURL: d.url,
		Version:   version,
		Logger:    logger,
	})
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	server := newHTTPServer(service.Handler(), logger)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	stop = func() error {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
		defer cancel()
		err := errors.Join(server.Shutdown(closing), service.Close(closing))
		if serveErr := <-served; !errors.Is(serveErr, http.ErrServerClosed) {
			err = errors.Join(err, serveErr)
		}
		return err
	}
	token, err := os.ReadFile(service.AdminTokenPath())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("reading the administrator's token: %w", err), stop())
	}
	d.admin, err = api.NewClient(d.url, strings.TrimSpace(string(token)))
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	d.app.say("service    %s\nregistry   %s\n", d.url, d.registry.Host)
	return stop, nil
}

// prepare lists the registry, makes a key and a policy, and signs an image.
func (d *demonstration) prepare(ctx context.Context) (api.Signature, error) {
	_, err := d.admin.PutRegistry(ctx, d.registry.Host, api.RegistryRequest{
		Repositories: []string{"shop/**", "built/**"}, InsecureHTTP: true, AllowPrivateAddress: true,
	}, api.PutOptions{})
	if err != nil {
		return api.Signature{}, fmt.Errorf("listing the registry: %w", err)
	}
	if _, err := d.admin.CreateKey(ctx, api.KeyRequest{Name: demoKey}); err != nil {
		return api.Signature{}, fmt.Errorf("making a key: %w", err)
	}
	builder, err := d.buildSystem(ctx)
	if err != nil {
		return api.Signature{}, err
	}
	if _, err := d.admin.PutPolicy(ctx, "production", []byte(d.policy()), api.PutOptions{}); err != nil {
		return api.Signature{}, fmt.Errorf("making a policy: %w", err)
	}
	if _, err := d.registry.PushImage(ctx, demoRepository, "1.0", "hello from a signed image"); err != nil {
		return api.Signature{}, err
	}
	signed, _, err := builder.Sign(ctx, api.SignatureRequest{
		Image: d.registry.Host + "/" + demoRepository + ":1.0", Key: demoKey,
		Annotations: map[string]string{"demo": "true"}, Formats: []string{"bundle", "legacy"},
	}, api.SignOptions{IdempotencyKey: "demo-1"})
	if err != nil {
		return api.Signature{}, fmt.Errorf("signing: %w", err)
	}
	for _, item := range signed.Signatures {
		d.app.say("signed     %s as %s, log index %d\n", short(item.Digest), item.Format, item.LogEntry.Index)
	}
	return signed, nil
}

// buildSystem makes what a build job has: a token that may sign this
// repository with this key, and nothing else.
func (d *demonstration) buildSystem(ctx context.Context) (*api.Client, error) {
	token, err := d.admin.CreateToken(ctx, api.TokenRequest{Name: "build", Roles: []string{"signer"}})
	if err != nil {
		return nil, fmt.Errorf("making a token: %w", err)
	}
	_, err = d.admin.PutGrant(ctx, "build", api.GrantRequest{
		Issuer: "local", Subject: "build", Keys: []string{demoKey}, Actions: []string{"sign"},
		Repositories: []string{d.registry.Host + "/shop/**"},
	}, api.PutOptions{})
	if err != nil {
		return nil, fmt.Errorf("making a grant: %w", err)
	}
	return api.NewClient(d.url, token.Secret)
}

func (d *demonstration) policy() string {
	return `apiVersion: countersign.dev/v1
kind: TrustPolicy
metadata: {name: production}
spec:
  match: {images: ["` + d.registry.Host + `/shop/**"]}
  mode: enforce
  authorities:
    release: {key: {name: ` + demoKey + `}}
  require:
    all:
      - signature: {by: release}
`
}

// scene is one image and the verdict it must get.
type scene struct {
	name, image string
	verdict     policy.Verdict
	reason      policy.Code
}

// judge asks for the four verdicts.
func (d *demonstration) judge(ctx context.Context, signed api.Signature) error {
	scenes, err := d.scenes(ctx, signed)
	if err != nil {
		return err
	}
	d.app.say("\n")
	return d.show(ctx, scenes)
}

// show asks for verdicts and compares each with what it must be.
func (d *demonstration) show(ctx context.Context, scenes []scene) (wrong error) {
	for _, s := range scenes {
		answer, err := d.admin.Verify(ctx, api.VerifyRequest{Images: []string{s.image}})
		if err != nil {
			return fmt.Errorf("verifying: %w", err)
		}
		result := answer.Results[0]
		line := d.app.verdict(string(result.Verdict))
		for _, r := range result.Reasons {
			line += " " + string(r.Code)
		}
		d.app.say("%-20s %s\n", s.name, line)
		if result.Verdict != s.verdict || s.reason != "" && (len(result.Reasons) == 0 || result.Reasons[0].Code != s.reason) {
			wrong = errors.Join(wrong, fmt.Errorf("%w: %s: want %s %s", errDemo, s.name, s.verdict, s.reason))
		}
	}
	return wrong
}

// scenes pushes the images that must be refused. The tampered one carries the
// genuine signature of the signed one.
func (d *demonstration) scenes(ctx context.Context, signed api.Signature) ([]scene, error) {
	unsigned, err := d.registry.PushImage(ctx, demoRepository, "unsigned", "hello from an unsigned image")
	if err != nil {
		return nil, err
	}
	tampered, err := d.registry.PushImage(ctx, demoRepository, "tampered", "hello from a tampered image")
	if err != nil {
		return nil, err
	}
	for _, item := range signed.Signatures {
		if item.Format != "bundle" {
			continue
		}
		if _, err := d.registry.PushReferrer(ctx, demoRepository, tampered, bundleType, item.Bundle); err != nil {
			return nil, err
		}
	}
	return []scene{
		{"signed", signed.Image, policy.Passed, ""},
		{"unsigned", d.registry.Image(demoRepository, unsigned), policy.Failed, policy.NoSignature},
		{"unlisted registry", "registry.example.com/" + demoRepository + ":1.0", policy.Failed, policy.RegistryNotTrusted},
		{"tampered", d.registry.Image(demoRepository, tampered), policy.Failed, policy.SubjectMismatch},
	}, nil
}

// explain leaves the public key and the trusted root in the folder and prints
// the stock command that verifies the same image with them.
func (d *demonstration) explain(ctx context.Context, image string) error {
	public, err := d.admin.PublicKey(ctx, demoKey)
	if err != nil {
		return fmt.Errorf("reading the public key: %w", err)
	}
	root, err := d.admin.TrustedRoot(ctx)
	if err != nil {
		return fmt.Errorf("reading the trusted root: %w", err)
	}
	keyPath, rootPath := filepath.Join(d.dir, "release.pub"), filepath.Join(d.dir, "trusted_root.json")
	if err := errors.Join(os.WriteFile(keyPath, public, 0o600), os.WriteFile(rootPath, root, 0o600)); err != nil {
		return fmt.Errorf("writing the public material: %w", err)
	}
	d.app.say("\nstock cosign verifies it too (while this runs, with --keep):\n"+
		"  cosign verify --key %s --trusted-root %s --allow-http-registry %s\n", keyPath, rootPath, image)
	d.app.say("call the service:\n  export COUNTERSIGN_URL=%s\n  export COUNTERSIGN_TOKEN=$(cat %s)\n",
		d.url, filepath.Join(d.dir, "data", "admin.token"))
	return nil
}

// say writes a line of the demo's answer.
func (a *app) say(format string, args ...any) { fmt.Fprintf(a.out, format, args...) }
