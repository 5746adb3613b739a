package authority_test

import (
	"crypto/elliptic"
	"encoding/json"
	"errors"
	"maps"
	"net/url"
	"strings"
	"testing"

	"github.com/countersign/countersign/authority"
	"github.com/countersign/countersign/identity"
)

func github() identity.Identity {
	return identity.Identity{
		Issuer: "https://token.actions.githubusercontent.com", Subject: "repo:acme/app:ref:refs/heads/main", Kind: "github",
		Claims: map[string]string{
			"event_name": "push", "sha": "a1", "workflow": "release", "repository": "acme/app", "ref": "refs/heads/main",
			"job_workflow_ref": "acme/app/.github/workflows/r.yml@refs/heads/main", "job_workflow_sha": "a1",
			"runner_environment": "github-hosted", "repository_id": "1", "repository_owner": "acme", "repository_owner_id": "2",
			"workflow_ref": "acme/app/.github/workflows/r.yml@refs/heads/main", "workflow_sha": "a1", "run_id": "3", "run_attempt": "1",
			"repository_visibility": "private",
		},
	}
}

func gitlab() identity.Identity {
	return identity.Identity{
		Issuer: "https://git.example", Subject: "project_path:acme/app:ref_type:branch:ref:main", Kind: "gitlab",
		Claims: map[string]string{
			"ci_config_ref_uri": "git.example/acme/app//.gitlab-ci.yml@refs/heads/main", "ci_config_sha": "a1", "job_id": "1",
			"namespace_id": "2", "namespace_path": "acme", "pipeline_source": "push", "project_id": "3", "project_path": "acme/app",
			"project_visibility": "private", "ref": "main", "ref_type": "branch", "runner_environment": "self-hosted", "sha": "a1",
		},
	}
}

func generic(subject string, claims map[string]string) identity.Identity {
	return identity.Identity{Issuer: "https://idp.example", Subject: subject, Kind: "generic", Claims: claims}
}

func TestNames(t *testing.T) {
	with := func(id identity.Identity, change func(*identity.Identity)) identity.Identity {
		id.Claims = maps.Clone(id.Claims)
		change(&id)
		return id
	}
	for want, id := range map[string]identity.Identity{
		"https://github.com/acme/app/.github/workflows/r.yml@refs/heads/main": github(),
		"https://ghes.example:8443/acme/app/.github/workflows/r.yml@refs/heads/main": with(github(), func(id *identity.Identity) {
			id.Issuer = "https://ghes.example:8443/_services/token"
		}),
		"https://acme.ghe.com/acme/app/.github/workflows/r.yml@refs/heads/main": with(github(), func(id *identity.Identity) {
			id.Issuer = "https://token.actions.acme.ghe.com"
		}),
		"https://git.example/acme/app//.gitlab-ci.yml@refs/heads/main": gitlab(),
		"https://kubernetes.io/namespaces/ci/serviceaccounts/builder":  service(),
		"alice@acme.example":          generic("x", map[string]string{"email": "alice@acme.example", "email_verified": "true"}),
		"alice!idp.example":           generic("alice", map[string]string{"email": "root@acme.example", "email_verified": "false"}),
		"spiffe://acme/build":         generic("spiffe://acme/build", nil),
		"https://acme.example/b/1":    generic("https://acme.example/b/1", nil),
		"org:acme:pipe:7!idp.example": generic("org:acme:pipe:7", nil),
	} {
		if got, err := authority.Name(id); err != nil || got != want {
			t.Errorf("%q, want %q: %v", got, want, err)
		}
	}
}

// TestIssuedIdentityReadsBack: what verifiers read is what was verified.
func TestIssuedIdentityReadsBack(t *testing.T) {
	w := openWorld(t)
	mapped := generic("org:acme:pipe:7", map[string]string{"repositoryUri": "https://acme.example/app", "sha": "a1", "ref": "refs/heads/main", "user": "u"})
	for what, c := range map[string]struct {
		id   identity.Identity
		want map[string]string
	}{
		"github":  {github(), map[string]string{"repository": "acme/app", "workflow": "release", "repositoryUri": "https://github.com/acme/app", "tokenSubject": github().Subject}},
		"gitlab":  {gitlab(), map[string]string{"repositoryUri": "https://git.example/acme/app", "runUri": "https://git.example/acme/app/-/jobs/1", "ref": "refs/heads/main"}},
		"generic": {mapped, map[string]string{"repositoryUri": "https://acme.example/app", "sha": "a1", "tokenSubject": "org:acme:pipe:7"}},
	} {
		leaf := w.issue(t, c.id).Leaf
		if err := verifyWithStock(t, w.root(), leaf, w.Now()); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		holder, err := identity.ParseHolder(parse(t, leaf))
		name, nameErr := authority.Name(c.id)
		if err != nil || nameErr != nil || holder.Issuer != c.id.Issuer || holder.Subject != name {
			t.Errorf("%s: %v, %v, %v", what, holder, err, nameErr)
		}
		for claim, want := range c.want {
			if holder.Claims[claim] != want {
				t.Errorf("%s: %s is %q, want %q", what, claim, holder.Claims[claim], want)
			}
		}
	}
}

// TestIdentitiesRefused: no claim puts another host or another account into a
// name. E2
func TestIdentitiesRefused(t *testing.T) {
	w := openWorld(t)
	for _, control := range []identity.Identity{github(), gitlab(), service()} {
		w.issue(t, control)
	}
	for what, c := range map[string]struct {
		id     identity.Identity
		change map[string]string
	}{
		"missing claim":             {github(), map[string]string{"job_workflow_ref": ""}},
		"missing sha":               {github(), map[string]string{"sha": ""}},
		"control character":         {github(), map[string]string{"ref": "refs/heads/a\nb"}},
		"not UTF-8":                 {github(), map[string]string{"workflow": "\xff"}},
		"too long":                  {github(), map[string]string{"workflow": strings.Repeat("a", 1025)}},
		"no URL":                    {github(), map[string]string{"job_workflow_ref": "%zz"}},
		"definition on other host":  {gitlab(), map[string]string{"ci_config_ref_uri": "evil.example/acme/app//.gitlab-ci.yml@refs/heads/main"}},
		"other host, ours in query": {gitlab(), map[string]string{"ci_config_ref_uri": "evil.example/?x=git.example/acme/app"}},
		"other host, ours as user":  {gitlab(), map[string]string{"ci_config_ref_uri": "git.example@evil.example/acme/app"}},
		"user on our host":          {gitlab(), map[string]string{"ci_config_ref_uri": "evil.example@git.example/acme/app"}},
		"longer host":               {gitlab(), map[string]string{"ci_config_ref_uri": "git.example.evil.example/acme/app"}},
		"no definition":             {gitlab(), map[string]string{"ci_config_ref_uri": ""}},
		"neither branch nor tag":    {gitlab(), map[string]string{"ref_type": "merge_request"}},
		"path in namespace":         {service(), map[string]string{"kubernetes.io.namespace": "ci/serviceaccounts/admin?"}},
		"other account":             {service(), map[string]string{"kubernetes.io.serviceaccount.name": "admin"}},
		"no account":                {service(), map[string]string{"kubernetes.io.serviceaccount.name": ""}},
		"nobody":                    {identity.Identity{}, nil},
		"API token":                 {identity.Identity{Issuer: identity.Local, Subject: "ci", Roles: []identity.Role{identity.Admin}}, nil},
		"no kind":                   {identity.Identity{Issuer: "https://idp.example", Subject: "a"}, nil},
		"unverified address":        {generic("alice@acme.example", map[string]string{"email": "alice@acme.example"}), nil},
		"address as subject":        {generic("alice@acme.example", nil), nil},
		"domain in subject":         {generic("root!acme.example", nil), nil},
	} {
		claims := maps.Clone(c.id.Claims)
		maps.Copy(claims, c.change)
		c.id.Claims = claims
		_, err := w.issuer.Issue(t.Context(), authority.CertificateRequest{Identity: c.id, Public: newKey(t, elliptic.P256()).Public()})
		if !errors.Is(err, authority.ErrIdentity) {
			t.Errorf("%s: %v", what, err)
			continue
		}
		for _, value := range c.change {
			if len(value) > 3 && strings.Contains(err.Error(), value) {
				t.Errorf("%s: the error repeats the claim", what)
			}
		}
	}
}

func FuzzName(f *testing.F) {
	for _, id := range []identity.Identity{github(), gitlab(), service(), generic("alice", nil)} {
		f.Add(id.Kind, id.Issuer, id.Subject, string(mustJSON(f, id.Claims)))
	}
	f.Fuzz(func(t *testing.T, kind, issuer, subject, claims string) {
		id := identity.Identity{Issuer: issuer, Subject: subject, Kind: kind}
		if json.Unmarshal([]byte(claims), &id.Claims) != nil {
			return
		}
		name, err := authority.Name(id)
		if err != nil {
			if !errors.Is(err, authority.ErrIdentity) {
				t.Errorf("error outside the family: %v", err)
			}
			return
		}
		if name == "" || len(name) > 16<<10 {
			t.Errorf("name of %d bytes", len(name))
		}
		if kind != "generic" {
			if u, err := url.Parse(name); err != nil || u.Host == "" || u.User != nil {
				t.Errorf("name %q: %v", name, err)
			}
		}
	})
}
