package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/sign"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/verifier"
)

// conformanceFlags are those of the conformance suite of Sigstore clients
// (sigstore-conformance docs/cli_protocol.md).
type conformanceFlags struct {
	bundle, trustedRoot, signingConfig string
	identity, issuer, key, token       string
	staging                            bool
}

// conformanceCommand speaks the suite's protocol: `countersign conformance` is
// its entry point. Exit code 0 is verified, or signed.
func (a *app) conformanceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "conformance", Short: "Speak the protocol of the Sigstore conformance suite", Hidden: true,
	}
	cmd.AddCommand(a.conformanceVerify(), a.conformanceSign())
	return cmd
}

func (f *conformanceFlags) common(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.bundle, "bundle", "", "the bundle, a file")
	flags.StringVar(&f.trustedRoot, "trusted-root", "", "whom to believe, a file")
	flags.BoolVar(&f.staging, "staging", false, "of the staging instance; its trusted root must be given")
}

func (a *app) conformanceVerify() *cobra.Command {
	var f conformanceFlags
	cmd := &cobra.Command{
		Use: "verify-bundle FILE|DIGEST", Short: "Verify a bundle", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			bundle, err := readBounded(f.bundle, limits.Bundle)
			if err != nil {
				return err
			}
			return a.conforms(cmd.Context(), f, bundle, args[0])
		},
	}
	f.common(cmd)
	cmd.Flags().StringVar(&f.identity, "certificate-identity", "", "the certificate's subject")
	cmd.Flags().StringVar(&f.issuer, "certificate-oidc-issuer", "", "the certificate's issuer")
	cmd.Flags().StringVar(&f.key, "key", "", "the public key in the place of an identity")
	return cmd
}

// conforms verifies a bundle under one trusted root. What kind of bundle it
// must be nobody says here, so it is wanted as what it is.
func (a *app) conforms(ctx context.Context, f conformanceFlags, bundle []byte, target string) error {
	if f.trustedRoot == "" {
		return usagef("--trusted-root is needed: no trusted root of the public instances is built in")
	}
	flags := blobFlags{key: f.key, identity: f.identity, issuer: f.issuer, predicateType: predicateTypeOf(bundle)}
	authority, err := flags.authority()
	if err != nil {
		return err
	}
	inline, err := policy.Inline(authority, flags.predicateType)
	if err != nil {
		return usagef("whom to trust: %v", err)
	}
	roots, err := loadRoots([]string{policy.SelfRoot + "=" + f.trustedRoot})
	if err != nil {
		return err
	}
	digest, artifact, err := readBlob(target)
	if err != nil {
		return err
	}
	answer, err := judgeBlob(ctx, a, roots, verifier.BlobRequest{Digest: digest, Artifact: artifact, Bundle: bundle, Inline: inline, DryRun: true})
	if err != nil {
		return err
	}
	for _, reason := range answer.Results[0].Reasons {
		fmt.Fprintf(a.err, "%s: %s\n", reason.Code, clean(reason.Message))
	}
	return verdictError(answer)
}

// predicateTypeOf is what a bundle says it attests, or nothing.
func predicateTypeOf(bundle []byte) string {
	b, err := attest.ParseBundle(bundle)
	if err != nil || b.Message != nil {
		return ""
	}
	statement, err := attest.ParseStatement(b.Envelope.Payload)
	if err != nil || statement.PredicateType == attest.PredicateCosignSign {
		return ""
	}
	return statement.PredicateType
}

func (a *app) conformanceSign() *cobra.Command {
	var f conformanceFlags
	cmd := &cobra.Command{
		Use: "sign-bundle FILE", Short: "Sign a file by an identity token", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			content, err := readBounded(args[0], limits.BlobArtifact)
			if err != nil {
				return err
			}
			bundle, err := signBundle(cmd.Context(), f, content, a.clock.Now())
			if err != nil {
				return err
			}
			if f.identity, f.issuer, err = holderOf(bundle); err != nil {
				return err
			}
			if err := a.conforms(cmd.Context(), f, bundle, args[0]); err != nil {
				return fmt.Errorf("the bundle does not verify and is not written: %w", err)
			}
			return os.WriteFile(f.bundle, bundle, 0o600)
		},
	}
	f.common(cmd)
	cmd.Flags().StringVar(&f.token, "identity-token", "", "the identity token")
	cmd.Flags().StringVar(&f.signingConfig, "signing-config", "", "where to sign, log and stamp, a file")
	return cmd
}

// signBundle signs with a key of this moment, certified, logged and stamped by
// the services of a signing config.
func signBundle(ctx context.Context, f conformanceFlags, content []byte, now time.Time) ([]byte, error) {
	if f.token == "" || f.signingConfig == "" || f.bundle == "" {
		return nil, usagef("want --identity-token, --signing-config and --bundle")
	}
	config, err := root.NewSigningConfigFromPath(f.signingConfig)
	if err != nil {
		return nil, usagef("%s: %v", f.signingConfig, err)
	}
	options, err := signingOptions(ctx, config, f.token, now)
	if err != nil {
		return nil, err
	}
	pair, err := sign.NewEphemeralKeypair(nil)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	made, err := sign.Bundle(&sign.PlainData{Data: content}, pair, options)
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	return protojson.Marshal(made)
}

const signingTimeout = time.Minute

func signingOptions(ctx context.Context, config *root.SigningConfig, token string, now time.Time) (sign.BundleOptions, error) {
	issuer, err := root.SelectService(config.FulcioCertificateAuthorityURLs(), sign.FulcioAPIVersions, now)
	if err != nil {
		return sign.BundleOptions{}, fmt.Errorf("choosing a certificate authority: %w", err)
	}
	logs, err := root.SelectServices(config.RekorLogURLs(), config.RekorLogURLsConfig(), sign.RekorAPIVersions, now)
	if err != nil {
		return sign.BundleOptions{}, fmt.Errorf("choosing a log: %w", err)
	}
	stampers, err := root.SelectServices(config.TimestampAuthorityURLs(), config.TimestampAuthorityURLsConfig(), sign.TimestampAuthorityAPIVersions, now)
	if err != nil {
		return sign.BundleOptions{}, fmt.Errorf("choosing a timestamp authority: %w", err)
	}
	out := sign.BundleOptions{
		Context:                    ctx,
		CertificateProvider:        sign.NewFulcio(&sign.FulcioOptions{BaseURL: issuer.URL, Timeout: signingTimeout}),
		CertificateProviderOptions: &sign.CertificateProviderOptions{IDToken: token},
	}
	for _, s := range logs {
		out.TransparencyLogs = append(out.TransparencyLogs, sign.NewRekor(&sign.RekorOptions{BaseURL: s.URL, Timeout: signingTimeout, Version: s.MajorAPIVersion}))
	}
	for _, s := range stampers {
		out.TimestampAuthorities = append(out.TimestampAuthorities, sign.NewTimestampAuthority(&sign.TimestampAuthorityOptions{URL: s.URL, Timeout: signingTimeout}))
	}
	return out, nil
}

// holderOf is whom a bundle's certificate was issued to.
func holderOf(bundle []byte) (subject, issuer string, err error) {
	b, err := attest.ParseBundle(bundle)
	if err != nil {
		return "", "", err
	}
	cert, err := x509.ParseCertificate(b.Certificate)
	if err != nil {
		return "", "", fmt.Errorf("parsing the certificate: %w", err)
	}
	holder, err := identity.ParseHolder(cert)
	return holder.Subject, holder.Issuer, err
}
