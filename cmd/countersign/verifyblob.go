package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/attest/predicate"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
	"github.com/countersign/countersign/server/api"
	"github.com/countersign/countersign/trust"
	"github.com/countersign/countersign/verifier"
)

// blobFlags are the flags of `verify-blob`.
type blobFlags struct {
	bundle, name, policy string
	key                  string
	identity, issuer     string
	predicateType        string
	context              []string
	timeout              time.Duration
	offline              bool
	roots                []string
}

func (a *app) verifyBlobCommand() *cobra.Command {
	var f blobFlags
	cmd := &cobra.Command{
		Use:   "verify-blob FILE|DIGEST",
		Short: "Ask whether a file may be used",
		Long: "Judges a file, or the sha256:… of one, by its Sigstore bundle. Whom to trust is what\n" +
			"--policy says; or the public key of --key; or the holder of a certificate, by\n" +
			"--certificate-identity and --certificate-oidc-issuer. Exit codes are those of verify.\n\n" +
			"A file of more than 8 MiB is judged by its digest, which is all that most signatures\n" +
			"need. With --offline no server is asked: --trusted-root is whom to believe.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("name one file, or its sha256 digest")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			answer, err := a.verifyBlob(cmd.Context(), f, args[0])
			if err != nil {
				return err
			}
			return errors.Join(a.printAnswer(answer), verdictError(answer))
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.bundle, "bundle", "", "the file's Sigstore bundle; without one the service looks at what it keeps")
	flags.StringVar(&f.name, "name", "", "what match.blobs of policies matches")
	flags.StringVar(&f.policy, "policy", "", "only this policy (with --offline: a file)")
	flags.StringVar(&f.key, "key", "", "trust this public key, a PEM file")
	flags.StringVar(&f.identity, "certificate-identity", "", "trust certificates of this subject")
	flags.StringVar(&f.issuer, "certificate-oidc-issuer", "", "trust certificates by this issuer's tokens")
	flags.StringVar(&f.predicateType, "type", "", "want an attestation of this type and not a signature")
	flags.StringArrayVar(&f.context, "context", nil, "key=value that policies match; may be repeated")
	flags.DurationVar(&f.timeout, "timeout", 0, "how long it may take, at most 30s")
	flags.BoolVar(&f.offline, "offline", false, "judge here, without a server")
	flags.StringArrayVar(&f.roots, "trusted-root", nil, "with --offline: the trusted_root.json to believe; NAME=FILE for one that the policy names; may be repeated")
	return cmd
}

func (a *app) verifyBlob(ctx context.Context, f blobFlags, target string) (api.VerifyAnswer, error) {
	authority, err := f.authority()
	if err != nil {
		return api.VerifyAnswer{}, err
	}
	place, err := pairs("--context", f.context)
	if err != nil {
		return api.VerifyAnswer{}, err
	}
	digest, artifact, err := readBlob(target)
	if err != nil {
		return api.VerifyAnswer{}, err
	}
	var bundle []byte
	if f.bundle != "" {
		if bundle, err = readBounded(f.bundle, limits.Bundle); err != nil {
			return api.VerifyAnswer{}, err
		}
	}
	if f.offline {
		request := verifier.BlobRequest{
			Digest: digest, Artifact: artifact, Bundle: bundle, Name: f.name, Context: place, Timeout: f.timeout, DryRun: true,
		}
		return a.verifyBlobOffline(ctx, f, authority, request)
	}
	client, err := a.client()
	if err != nil {
		return api.VerifyAnswer{}, err
	}
	request := api.BlobRequest{
		Digest: digest.String(), Artifact: artifact, Bundle: bundle, Name: f.name, Policy: f.policy,
		Authority: authority, PredicateType: f.predicateType, Context: place,
	}
	if f.timeout > 0 {
		request.Timeout = f.timeout.String()
	}
	return client.VerifyBlob(ctx, request)
}

// authority is whom the command line trusts, or nil.
func (f blobFlags) authority() (json.RawMessage, error) {
	switch {
	case f.key != "" && f.identity+f.issuer+f.policy != "", f.identity+f.issuer != "" && f.policy != "":
		return nil, usagef("want one of --policy, --key, and --certificate-identity with --certificate-oidc-issuer")
	case (f.identity == "") != (f.issuer == ""):
		return nil, usagef("--certificate-identity and --certificate-oidc-issuer go together")
	case f.key != "":
		pem, err := readBounded(f.key, maxDocument)
		if err != nil {
			return nil, err
		}
		return json.Marshal(map[string]any{"key": map[string]any{"pem": string(pem)}})
	case f.identity != "":
		return json.Marshal(map[string]any{"identity": map[string]any{"issuer": f.issuer, "subject": f.identity}})
	case f.predicateType != "":
		return nil, usagef("--type needs --key or --certificate-identity: a policy says what it requires")
	}
	return nil, nil
}

// verifyBlobOffline runs the service's verifier in this process. It asks nobody.
func (a *app) verifyBlobOffline(ctx context.Context, f blobFlags, authority json.RawMessage, request verifier.BlobRequest) (api.VerifyAnswer, error) {
	if request.Bundle == nil || len(f.roots) == 0 && f.key == "" {
		return api.VerifyAnswer{}, usagef("--offline needs --bundle and, except for --key, --trusted-root, both files")
	}
	roots, err := loadRoots(f.roots)
	if err != nil {
		return api.VerifyAnswer{}, err
	}
	inline, err := a.offlinePolicy(f, authority)
	if err != nil {
		return api.VerifyAnswer{}, err
	}
	request.Inline = inline
	if f.policy != "" && !inline.AppliesToBlob(f.name, request.Context) {
		return api.VerifyAnswer{}, usagef("%s does not cover a blob of that --name and --context", f.policy)
	}
	return judgeBlob(ctx, a, roots, request)
}

func (a *app) offlinePolicy(f blobFlags, authority json.RawMessage) (*policy.Policy, error) {
	if f.policy != "" {
		document, err := a.readDocument(f.policy)
		if err != nil {
			return nil, err
		}
		p, err := policy.Parse(document)
		if err != nil {
			return nil, usagef("%s: %v", f.policy, err)
		}
		return p, nil
	}
	kind := f.predicateType
	if kind != "" {
		var err error
		if kind, err = predicate.ParseType(kind); err != nil {
			return nil, usagef("--type: %v", err)
		}
	}
	p, err := policy.Inline(authority, kind)
	if err != nil {
		return nil, usagef("want --policy, --key or --certificate-identity: %v", err)
	}
	return p, nil
}

// judgeBlob judges under some trusted roots and nothing else.
func judgeBlob(ctx context.Context, a *app, roots map[string]trust.Root, request verifier.BlobRequest) (api.VerifyAnswer, error) {
	local := &offlineJudge{roots: roots}
	judge, err := verifier.New(verifier.Config{
		Registry: registry.New(registry.Config{Rules: local, Clock: a.clock}), Archive: local, Keys: local, Policies: noPolicies{}, Roots: local,
		Trust: func() trust.Root { return roots[policy.SelfRoot] },
		NewID: func() string { return uuid.Must(uuid.NewV7()).String() },
		Clock: a.clock, Logger: a.logger("error", "text"), CacheSize: -1,
	})
	if err != nil {
		return api.VerifyAnswer{}, err
	}
	answer, err := judge.VerifyBlob(ctx, request)
	if err != nil {
		return api.VerifyAnswer{}, usagef("%v", err)
	}
	return onTheWire(answer)
}

// noPolicies: the question brings its own.
type noPolicies struct{}

func (noPolicies) Policies(context.Context) ([]verifier.Loaded, error) { return nil, nil }
func (noPolicies) Revision(context.Context) (int64, error)             { return 0, nil }

// readBlob is the digest of a file and, up to limits.BlobArtifact, its bytes;
// or the digest that is named in the place of a file.
func readBlob(target string) (attest.Digest, []byte, error) {
	if digest, err := attest.ParseDigest(target); err == nil {
		if _, err := os.Stat(target); err != nil {
			return digest, nil, nil
		}
	}
	file, err := os.Open(target)
	if err != nil {
		return attest.Digest{}, nil, usagef("%v", err)
	}
	defer file.Close() //nolint:errcheck // only read from
	head, err := io.ReadAll(io.LimitReader(file, limits.BlobArtifact+1))
	if err != nil {
		return attest.Digest{}, nil, fmt.Errorf("reading %s: %w", target, err)
	}
	if len(head) <= limits.BlobArtifact {
		return attest.DigestOf(head), head, nil
	}
	digest, err := digestOfStream(head, file)
	return digest, nil, err
}

func readBounded(path string, most int) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, usagef("%v", err)
	}
	defer file.Close() //nolint:errcheck // only read from
	raw, err := io.ReadAll(io.LimitReader(file, int64(most)+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading %s: %w", path, err)
	case len(raw) == 0 || len(raw) > most:
		return nil, usagef("%s is empty or larger than %d bytes", path, most)
	}
	return raw, nil
}

func digestOfStream(head []byte, rest io.Reader) (attest.Digest, error) {
	h := sha256.New()
	h.Write(head)
	if _, err := io.Copy(h, rest); err != nil {
		return attest.Digest{}, fmt.Errorf("reading the file: %w", err)
	}
	return attest.ParseDigest(fmt.Sprintf("sha256:%x", h.Sum(nil)))
}
