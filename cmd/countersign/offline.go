package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/pflag"

	"github.com/countersign/countersign/archive"
	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
	"github.com/countersign/countersign/server/api"
	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/trust"
	"github.com/countersign/countersign/verifier"
)

// offlineFlags are the flags of `verify --offline`.
type offlineFlags struct {
	offline      bool
	roots        []string
	insecureHTTP bool
}

func (f *offlineFlags) add(flags *pflag.FlagSet) {
	flags.BoolVar(&f.offline, "offline", false, "judge here, without a server")
	flags.StringArrayVar(&f.roots, "trusted-root", nil, "with --offline: the trusted_root.json to believe; NAME=FILE for one that the policy names as trustRoot; may be repeated")
	flags.BoolVar(&f.insecureHTTP, "allow-http-registry", false, "with --offline: speak plain HTTP to the images' registries, also on private addresses")
}

// verifyOffline runs the service's verifier in this process. It asks the
// images' registries, named on the command line and therefore listed, and
// nobody else.
func (a *app) verifyOffline(ctx context.Context, f verifyFlags, place map[string]string, images []string) (api.VerifyAnswer, error) {
	local, err := loadOffline(f, a.readDocument)
	if err != nil {
		return api.VerifyAnswer{}, err
	}
	client := registry.New(registry.Config{Rules: local, Clock: a.clock, Logger: a.logger("error", "text"), UserAgent: "countersign/" + version})
	judge, err := verifier.New(verifier.Config{
		Registry: client, Archive: local, Keys: local, Policies: local, Roots: local,
		Trust: func() trust.Root { return local.roots[policy.SelfRoot] },
		NewID: func() string { return uuid.Must(uuid.NewV7()).String() },
		Clock: a.clock, Logger: a.logger("error", "text"), CacheSize: -1,
	})
	if err != nil {
		return api.VerifyAnswer{}, err
	}
	timeout := f.timeout
	if timeout == 0 {
		timeout = 30 * time.Second
	}
	answer, err := judge.Verify(ctx, verifier.Request{Images: images, Context: place, Timeout: timeout, DryRun: true, Platform: f.platform, Explain: f.explain})
	if err != nil {
		return api.VerifyAnswer{}, usagef("%v", err)
	}
	return onTheWire(answer)
}

// onTheWire makes a verifier's answer what a server would have sent: both are
// the same JSON.
func onTheWire(answer verifier.Answer) (wire api.VerifyAnswer, err error) {
	encoded, err := json.Marshal(answer)
	if err != nil {
		return wire, fmt.Errorf("encoding the answer: %w", err)
	}
	if err := json.Unmarshal(encoded, &wire); err != nil {
		return wire, fmt.Errorf("decoding the answer: %w", err)
	}
	return wire, nil
}

// offlineJudge is all that an offline verification knows.
type offlineJudge struct {
	roots        map[string]trust.Root
	policy       *policy.Policy
	insecureHTTP bool
}

func loadOffline(f verifyFlags, read func(string) ([]byte, error)) (*offlineJudge, error) {
	if len(f.offline.roots) == 0 || f.policy == "" {
		return nil, usagef("--offline needs --trusted-root and --policy, both files")
	}
	roots, err := loadRoots(f.offline.roots)
	if err != nil {
		return nil, err
	}
	document, err := read(f.policy)
	if err != nil {
		return nil, err
	}
	parsed, err := policy.Parse(document)
	if err != nil {
		return nil, usagef("%s: %v", f.policy, err)
	}
	return &offlineJudge{roots: roots, policy: parsed, insecureHTTP: f.offline.insecureHTTP}, nil
}

// loadRoots reads the trusted roots by name; one without a name is self.
func loadRoots(args []string) (map[string]trust.Root, error) {
	roots := make(map[string]trust.Root, len(args))
	for _, arg := range args {
		name, path, named := strings.Cut(arg, "=")
		if !named || strings.ContainsAny(name, `/\.`) {
			name, path = policy.SelfRoot, arg
		}
		if _, twice := roots[name]; twice {
			return nil, usagef("--trusted-root: %s is given twice", name)
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return nil, usagef("%v", err)
		}
		if roots[name], err = trust.ParseTrustedRoot(raw); err != nil {
			return nil, usagef("%s: %v", path, err)
		}
	}
	return roots, nil
}

// TrustRoot is one of the command line's.
func (o *offlineJudge) TrustRoot(_ context.Context, name string) (trust.Root, error) {
	root, ok := o.roots[name]
	if !ok {
		return trust.Root{}, store.ErrNotFound
	}
	return root, nil
}

// Rule lists every host: whoever types the image names its registry.
func (o *offlineJudge) Rule(_ context.Context, host string) (registry.Rule, error) {
	return registry.Rule{
		Host: host, Repositories: []string{"**"},
		InsecureHTTP: o.insecureHTTP, AllowPrivateAddress: o.insecureHTTP,
	}, nil
}

// Policies is the one policy of the command line.
func (o *offlineJudge) Policies(context.Context) ([]verifier.Loaded, error) {
	return []verifier.Loaded{{Policy: o.policy}}, nil
}

// Revision never changes: nothing does while the command runs.
func (o *offlineJudge) Revision(context.Context) (int64, error) { return 0, nil }

// Get knows no managed key: a policy that is judged offline carries its keys.
func (o *offlineJudge) Get(context.Context, string) (keys.Key, error) {
	return keys.Key{}, keys.ErrNotFound
}

// BySubject is empty: there is no archive without a server.
func (o *offlineJudge) BySubject(context.Context, attest.Digest, func(string) bool, int) ([]archive.Item, bool, error) {
	return nil, true, nil
}

// Count is always the same.
func (o *offlineJudge) Count(context.Context, attest.Digest) (int, error) { return 0, nil }

// Decide keeps nothing: the answer is on the terminal.
func (o *offlineJudge) Decide(context.Context, ...archive.Decision) error { return nil }
