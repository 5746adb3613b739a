package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/internal/localissuer"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/server/api"
)

const (
	demoBuilt    = "built/app"
	demoAudience = "countersign"
	demoBuilder  = "https://github.com/acme/builders/.github/workflows/build.yml@refs/heads/main"
	demoSource   = "acme/app"
	demoFork     = "acme/app-fork"
)

// provenance is the second half of the tour: jobs of a CI system sign with
// nothing but their own tokens, and a policy asks what was built from where.
// The forged image comes out of the same builder, from another repository.
func (d *demonstration) provenance(ctx context.Context) (err error) {
	issuer, err := localissuer.Start(ctx, clock.System{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, issuer.Close()) }()
	if err := d.believe(ctx, issuer); err != nil {
		return err
	}
	d.app.say("\n")
	images := map[string]string{}
	for _, repository := range []string{demoSource, demoFork} {
		if images[repository], err = d.build(ctx, issuer, repository); err != nil {
			return err
		}
	}
	return d.show(ctx, []scene{
		{"built from source", images[demoSource], policy.Passed, ""},
		{"built from a fork", images[demoFork], policy.Failed, policy.SourceMismatch},
	})
}

// believe registers the CI system, lets its jobs attest what they build, and
// makes the policy.
func (d *demonstration) believe(ctx context.Context, issuer *localissuer.Issuer) error {
	_, err := d.admin.PutIssuer(ctx, "ci", api.IssuerRequest{
		URL: issuer.URL, Audience: demoAudience, Kind: "github", InsecureHTTP: true, AllowPrivateAddress: true,
	}, api.PutOptions{})
	if err != nil {
		return fmt.Errorf("registering the issuer: %w", err)
	}
	_, err = d.admin.PutGrant(ctx, "ci", api.GrantRequest{
		Issuer: issuer.URL, Claims: map[string]string{"repository": "acme/*"}, Keys: []string{"identity"},
		Actions: []string{"provenance"}, Repositories: []string{d.registry.Host + "/built/**"},
	}, api.PutOptions{})
	if err != nil {
		return fmt.Errorf("making a grant: %w", err)
	}
	document := `apiVersion: countersign.dev/v1
kind: TrustPolicy
metadata: {name: provenance}
spec:
  match: {images: ["` + d.registry.Host + `/built/**"]}
  authorities:
    ci: {identity: {issuer: "` + issuer.URL + `", subject: "` + demoBuilder + `"}}
  require:
    attestation:
      predicateType: slsaprovenance1
      by: ci
      provenance:
        builder: "` + demoBuilder + `"
        source: git+https://github.com/` + demoSource + `
        ref: refs/heads/main
        minLevel: 2
`
	if _, err := d.admin.PutPolicy(ctx, "provenance", []byte(document), api.PutOptions{}); err != nil {
		return fmt.Errorf("making a policy: %w", err)
	}
	return nil
}

// build pushes an image as a job of a repository and has the service say where
// it came from, by the job's own token.
func (d *demonstration) build(ctx context.Context, issuer *localissuer.Issuer, repository string) (image string, err error) {
	digest, err := d.registry.PushImage(ctx, demoBuilt, "latest", "hello from "+repository)
	if err != nil {
		return "", err
	}
	token, err := issuer.Token(demoAudience, demoClaims(repository))
	if err != nil {
		return "", err
	}
	job, err := api.NewClient(d.url, token)
	if err != nil {
		return "", err
	}
	image = d.registry.Image(demoBuilt, digest)
	made, _, err := job.Provenance(ctx, api.ProvenanceRequest{Image: image}, api.SignOptions{})
	if err != nil {
		return "", fmt.Errorf("making provenance: %w", err)
	}
	level := 0
	if made.SLSA != nil {
		level = made.SLSA.BuildLevel
	}
	d.app.say("provenance %s from %s, SLSA build level %d\n", short(made.Digest), repository, level)
	return image, nil
}

// demoClaims are those of a job of a push to the main branch of a repository,
// which calls the builder of the organisation.
func demoClaims(repository string) map[string]any {
	const commit = "6dcb09b5b57875f334f61aebed695e2e4193db5e"
	return map[string]any{
		"sub": "repo:" + repository + ":ref:refs/heads/main", "event_name": "push",
		"repository": repository, "repository_id": "123456789", "repository_visibility": "private",
		"repository_owner": "acme", "repository_owner_id": "987654",
		"ref": "refs/heads/main", "ref_type": "branch", "sha": commit,
		"workflow": "release", "workflow_sha": commit,
		"workflow_ref":     repository + "/.github/workflows/release.yml@refs/heads/main",
		"job_workflow_ref": "acme/builders/.github/workflows/build.yml@refs/heads/main",
		"job_workflow_sha": "7fd1a60b01f91b314f59955a4e4d4e80d8edf11d",
		"run_id":           "8675309001", "run_attempt": "1", "runner_environment": "github-hosted",
	}
}
