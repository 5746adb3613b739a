package signer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign/countersign/archive"
	"github.com/countersign/countersign/audit"
	"github.com/countersign/countersign/authority"
	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/internal/testauthority"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/signer"
	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/trust"
	"github.com/countersign/countersign/verifier"
)

const (
	jobIssuer  = "https://token.actions.githubusercontent.com"
	jobSubject = "https://github.com/acme/app/.github/workflows/release.yml@refs/heads/main"
)

// job is the identity of a workflow's run.
func job() identity.Identity {
	return identity.Identity{
		Issuer: jobIssuer, Subject: "repo:acme/app:ref:refs/heads/main", Kind: "github",
		Claims: map[string]string{"repository": "acme/app", "job_workflow_ref": strings.TrimPrefix(jobSubject, "https://github.com/")},
		Roles:  []identity.Role{identity.Signer},
	}
}

// certificates is a certificate authority that keeps its contract: it names
// the identity it is given, and refuses an API token's.
type certificates struct {
	ca *testauthority.CA
	// life is how long a certificate is good; ten minutes when 0.
	life time.Duration
	// lie is the issuer it names instead of the caller's.
	lie string
	err error
	// now is when it issues; the present when nil.
	now    func() time.Time
	issued atomic.Int64
}

func (c *certificates) Issue(ctx context.Context, r authority.CertificateRequest) (authority.Certificate, error) {
	if err := errors.Join(ctx.Err(), c.err); err != nil {
		return authority.Certificate{}, err
	}
	workflow := r.Identity.Claims["job_workflow_ref"]
	if r.Identity.Issuer == identity.Local || r.Identity.Kind != "github" || workflow == "" {
		return authority.Certificate{}, authority.ErrIdentity
	}
	c.issued.Add(1)
	issuer, at := r.Identity.Issuer, time.Now()
	if c.lie != "" {
		issuer = c.lie
	}
	if c.now != nil {
		at = c.now()
	}
	cert := c.ca.Issue(r.Public, testauthority.CertificateRequest{
		Issuer: issuer, Subject: "https://github.com/" + workflow, At: at, Life: c.life,
		Extensions: map[int]string{5: r.Identity.Claims["repository"]},
	})
	out := authority.Certificate{Leaf: cert.Raw}
	for _, parent := range c.ca.Chain() {
		out.Chain = append(out.Chain, parent.Raw)
	}
	return out, nil
}

// newIdentitySite lets the job sign with its own identity.
func newIdentitySite(t testing.TB, w *world) (*site, *certificates) {
	t.Helper()
	s := newSite(t, w)
	s.grants = append(s.grants, w.grant(t, `{"issuer":"`+jobIssuer+`","subject":"repo:acme/*:ref:refs/heads/main","repositories":["`+
		w.local.Host+`/team/**"],"keys":["identity"],"actions":["sign"]}`))
	return s, &certificates{ca: w.ca}
}

// judge asks a verifier with a policy by identity about what the registry holds.
func (w *world) judge(t testing.TB, image, subject string) verifier.Result {
	t.Helper()
	v := must[*verifier.Verifier](t)(verifier.New(verifier.Config{
		Registry: w.client, Keys: w.ring, Policies: identityPolicy{w, subject},
		Archive: archive.New(archive.Config{Bundles: w.db.Bundles(), Decisions: w.db.Decisions()}),
		Trust:   func() trust.Root { return w.root }, NewID: newID, Clock: clock.System{},
	}))
	answer, err := v.Verify(t.Context(), verifier.Request{Images: []string{image}, DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	return answer.Results[0]
}

type identityPolicy struct {
	w       *world
	subject string
}

func (p identityPolicy) Policies(context.Context) ([]verifier.Loaded, error) {
	parsed, err := policy.Parse(fmt.Appendf(nil, `{
		"apiVersion": "countersign.dev/v1", "kind": "TrustPolicy", "metadata": {"name": "ci"},
		"spec": {"match": {"images": [%q]}, "mode": "enforce",
			"authorities": {"ci": {"identity": {"issuer": %q, "subject": %q}}},
			"require": {"all": [{"signature": {"by": "ci"}}]}}}`, p.w.local.Host+"/**", jobIssuer, p.subject))
	return []verifier.Loaded{{Policy: parsed, Revision: 1}}, err
}

func (p identityPolicy) Revision(context.Context) (int64, error) { return 1, nil }

func TestSignWithIdentity(t *testing.T) {
	t.Parallel()
	for name, request := range map[string]signer.Request{
		"named":             {Key: "identity"},
		"the default":       {},
		"legacy":            {Key: "identity", Formats: []string{"legacy"}},
		"both":              {Key: "identity", Formats: []string{"bundle", "legacy"}},
		"with annotations":  {Key: "identity", Annotations: map[string]string{"git.sha": "abc<&>"}},
		"in the background": {Key: "identity", IdempotencyKey: "async"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, ca := newIdentitySite(t, newWorld(t))
			cfg := s.config()
			cfg.Certificates = ca
			sg := start(t, cfg)
			_, request.Image = s.push(t, name)
			if request.IdempotencyKey == "async" {
				if _, err := sg.Start(t.Context(), job(), request); err != nil {
					t.Fatal(err)
				}
			}
			result, _, err := sg.Sign(t.Context(), job(), request)
			if err != nil {
				t.Fatal(err)
			}
			want := signer.Signatory{Identity: &signer.SignatoryIdentity{Issuer: jobIssuer, Subject: jobSubject}}
			if result.Signer.Key != "" || result.Signer.KeyID != "" || result.Signer.Identity == nil || *result.Signer.Identity != *want.Identity {
				t.Errorf("signer %+v", result.Signer)
			}
			if !bytes.Contains(result.Body(), []byte(`"signer":{"identity":{"issuer":`)) {
				t.Errorf("body %s", result.Body())
			}
			if formats := max(1, len(request.Formats)); len(s.found(t, request.Image)) != formats || s.archived(t, result.Digest) != formats {
				t.Errorf("%d attached, %d archived, want %d", len(s.found(t, request.Image)), s.archived(t, result.Digest), formats)
			}
			if n := ca.issued.Load(); n != 1 {
				t.Errorf("%d certificates for one operation", n)
			}
			if got := s.judge(t, request.Image, jobSubject); got.Verdict != policy.Passed {
				t.Errorf("the verifier says %+v", got.Reasons)
			}
			if got := s.judge(t, request.Image, jobSubject+"2"); got.Verdict != policy.Failed || got.Reasons[0].Code != policy.IdentityMismatch {
				t.Errorf("for another identity the verifier says %+v", got.Reasons)
			}
			if got := s.outcomes(t); !slices.Equal(got, []string{audit.Allowed, audit.Done}) {
				t.Errorf("journal says %v", got)
			}
		})
	}
}

// The service's own certificate authority, with every kind of identity that it
// certifies: what it issues, the verifier believes.
func TestSignWithIssuer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	issuer := must[*authority.Issuer](t)(authority.OpenIssuer(t.Context(), authority.IssuerConfig{
		Keys:    authority.IssuerKeys{Root: testauthority.NewECDSA(t), Issuing: testauthority.NewECDSA(t), CT: testauthority.NewECDSA(t)},
		Objects: w.db.Objects(), Log: w.log, Clock: clock.System{},
	}))
	w.root.CertificateAuthorities, w.root.CTLogs = nil, nil
	for _, chain := range issuer.Chains() {
		w.root.CertificateAuthorities = append(w.root.CertificateAuthorities, trust.CertificateAuthority{
			URI: "https://" + origin, Chain: chain.Certificates, Start: chain.Start, End: chain.End,
		})
	}
	for _, log := range issuer.CTLogs() {
		w.root.CTLogs = append(w.root.CTLogs, trust.Log{BaseURL: "https://" + origin, Public: log.Public, Start: log.Start, End: log.End})
	}
	s := newSite(t, w)
	s.grants = []policy.Grant{w.grant(t, `{"issuer":"https://cluster.example","subject":"system:serviceaccount:*","repositories":["`+
		w.local.Host+`/team/**"],"keys":["identity"],"actions":["sign"]}`)}
	cfg := s.config()
	cfg.Certificates = issuer
	_, image := s.push(t, "by a service account")
	pod := identity.Identity{
		Issuer: "https://cluster.example", Subject: "system:serviceaccount:shop:builder", Kind: "kubernetes",
		Claims: map[string]string{"kubernetes.io.namespace": "shop", "kubernetes.io.serviceaccount.name": "builder"},
		Roles:  []identity.Role{identity.Signer},
	}
	result, _, err := start(t, cfg).Sign(t.Context(), pod, signer.Request{Image: image, Formats: []string{"bundle", "legacy"}})
	if err != nil {
		t.Fatal(err)
	}
	const subject = "https://kubernetes.io/namespaces/shop/serviceaccounts/builder"
	if result.Signer.Identity == nil || result.Signer.Identity.Subject != subject {
		t.Fatalf("signer %+v", result.Signer)
	}
	if n := len(s.found(t, image)); n != 2 {
		t.Errorf("%d signatures are attached", n)
	}
}

func TestIdentityRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, image := w.push(t, "refused")
	otherBranch, unnamed := job(), job()
	otherBranch.Subject = "repo:acme/app:ref:refs/heads/evil"
	unnamed.Claims = nil
	cases := map[string]struct {
		caller identity.Identity
		key    string
		change func(*signer.Config, *certificates)
		want   error
		code   string
	}{
		"an API token":            {ci(), "identity", nil, signer.ErrIdentityKey, "identity_required"},
		"an API token by default": {ci(), "", nil, signer.ErrIdentityKey, "identity_required"},
		"nobody":                  {identity.Identity{}, "", nil, signer.ErrIdentityKey, "identity_required"},
		"no grant":                {otherBranch, "identity", nil, signer.ErrForbidden, "forbidden"},
		"no grant for the key":    {job(), "release", nil, signer.ErrForbidden, "forbidden"},
		"no claims":               {unnamed, "identity", nil, signer.ErrIdentityRefused, "identity_refused"},
		"no authority":            {job(), "identity", func(c *signer.Config, _ *certificates) { c.Certificates = nil }, signer.ErrNoCertificates, "certificates_unavailable"},
		"authority down":          {job(), "identity", func(_ *signer.Config, c *certificates) { c.err = errors.New("disk full") }, signer.ErrCertificate, "certificate_unavailable"},
		"authority names another": {job(), "identity", func(_ *signer.Config, c *certificates) { c.lie = "https://evil.io" }, signer.ErrSign, "signing_failed"},
		"authority not trusted": {job(), "identity", func(_ *signer.Config, c *certificates) {
			c.ca = testauthority.NewCA(t, testauthority.CAOptions{})
		}, signer.ErrRejected, "signature_rejected"},
	}
	t.Run("cases", func(t *testing.T) {
		for name, tt := range cases {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s, ca := newIdentitySite(t, w)
				cfg := s.config()
				cfg.Certificates = ca
				if tt.change != nil {
					tt.change(&cfg, ca)
				}
				_, _, err := start(t, cfg).Sign(t.Context(), tt.caller, signer.Request{Image: image, Key: tt.key})
				if !errors.Is(err, tt.want) || signer.Code(err) != tt.code {
					t.Errorf("%v, code %s; want %v, %s", err, signer.Code(err), tt.want, tt.code)
				}
			})
		}
	})
	if n := len(w.found(t, image)); n != 0 {
		t.Errorf("%d signatures were attached", n)
	}
}

// Neither the ephemeral key nor anything that would sign in its place is kept
// anywhere, whatever the operation's state.
func TestIdentityKeyIsNotKept(t *testing.T) {
	t.Parallel()
	s, ca := newIdentitySite(t, newWorld(t))
	in := newInjector("attach bundle", errorBefore)
	cfg := s.config()
	cfg.Certificates = ca
	_, image := s.push(t, "kept")
	_, _, err := start(t, in.into(cfg)).Sign(t.Context(), job(), signer.Request{Image: image, IdempotencyKey: "k"})
	if !errors.Is(err, signer.ErrPending) {
		t.Fatalf("control: the operation is not pending: %v", err)
	}
	ops, _, err := s.db.Operations().List(t.Context(), store.OperationFilter{State: signer.StatePending}, store.Page{Limit: 10})
	if err != nil || len(ops) != 1 {
		t.Fatalf("%d operations, %v", len(ops), err)
	}
	var doc map[string]json.RawMessage
	if err := json.Unmarshal(ops[0].Body, &doc); err != nil {
		t.Fatal(err)
	}
	known := []string{"caller", "request", "image", "createdAt", "keyId", "certificate", "chain", "provenAt", "steps", "targets", "stampedAt", "attempts", "failure"}
	for field := range doc {
		if !slices.Contains(known, field) {
			t.Errorf("the document keeps %s", field)
		}
	}
	if len(doc["certificate"]) == 0 || bytes.Contains(ops[0].Body, []byte("PRIVATE")) {
		t.Errorf("document %s", ops[0].Body)
	}
}

// A certificate that ended before its signature was stamped is of no use to
// anybody: it is replaced while the caller's proof is fresh, and later not.
func TestCertificateEndsMeanwhile(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		pause time.Duration
		want  error
	}{
		"shortly after": {2 * time.Minute, nil},
		"much later":    {time.Hour, signer.ErrIdentityExpired},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, ca := newIdentitySite(t, newWorld(t))
			var ahead atomic.Int64
			// The first attempt is in the past, the second in the present.
			now := func() time.Time { return time.Now().Add(-tt.pause + time.Duration(ahead.Load())) }
			ca.now, ca.life = now, time.Minute
			_, image := s.push(t, name)
			request := signer.Request{Image: image, IdempotencyKey: "k"}

			in := newInjector("log", killBefore)
			cfg := s.config()
			cfg.Certificates, cfg.Clock = ca, clock.Func(now)
			sg := start(t, in.into(cfg))
			if _, _, err := sg.Sign(t.Context(), job(), request); err == nil {
				t.Fatal("control: the first attempt succeeded")
			}
			stop(t, sg)

			ahead.Store(int64(tt.pause))
			cfg = s.config()
			cfg.Certificates, cfg.Clock = ca, clock.Func(now)
			sg = start(t, cfg)
			if err := sg.Resume(t.Context()); err != nil {
				t.Fatal(err)
			}
			ops, _, err := s.db.Operations().List(t.Context(), store.OperationFilter{}, store.Page{Limit: 10})
			if err != nil || len(ops) != 1 {
				t.Fatalf("%d operations, %v", len(ops), err)
			}
			if tt.want == nil {
				if ops[0].State != signer.StateDone || ca.issued.Load() != 2 {
					t.Errorf("state %s, %d certificates", ops[0].State, ca.issued.Load())
				}
			} else if op := must[signer.Operation](t)(sg.Operation(t.Context(), ops[0].ID)); op.State != signer.StateFailed || op.Failure.Code != signer.Code(tt.want) {
				t.Errorf("operation %+v", op)
			}
			// Whoever asks again has proven who it is again.
			if _, _, err := sg.Sign(t.Context(), job(), request); err != nil {
				t.Fatalf("asked again: %v", err)
			}
			if got := s.judge(t, image, jobSubject); got.Verdict != policy.Passed {
				t.Errorf("the verifier says %+v", got.Reasons)
			}
		})
	}
}

// TestIdentityFaults is TestFaultAtEveryStep for signatures by certificate:
// after a fault anywhere the operation ends with one answer, and no entry of a
// second certificate is logged beside a first that was kept.
func TestIdentityFaults(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	t.Run("faults", func(t *testing.T) {
		for _, point := range []string{
			"find", "grants", "journal allowed", "resolve", "begin", "log", "stamp", "update pending", "check",
			"attach bundle", "attach legacy", "archive", "journal done", "update done",
		} {
			for _, m := range modes() {
				t.Run(fmt.Sprintf("%s/%s", point, m), func(t *testing.T) {
					t.Parallel()
					identityFaultAt(t, w, point, m)
				})
			}
		}
	})
	auditLog(t, w)
}

func identityFaultAt(t *testing.T, w *world, point string, m mode) {
	s, ca := newIdentitySite(t, w)
	_, image := w.push(t, t.Name())
	request := signer.Request{Image: image, Key: "identity", Formats: []string{"bundle", "legacy"}, IdempotencyKey: "job"}
	cfg := s.config()
	cfg.Certificates = ca
	in := newInjector(point, m)
	sg := start(t, in.into(cfg))
	first, _, err := sg.Sign(t.Context(), job(), request)
	if !in.fired() {
		t.Fatal("the point was not reached")
	}
	stop(t, sg)

	second := newInjector("", 0)
	sg = start(t, second.into(cfg))
	if err := sg.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	result, _, errAgain := sg.Sign(t.Context(), job(), request)
	if errAgain != nil {
		t.Fatalf("after the fault: %v", errAgain)
	}
	if err == nil {
		sameAnswer(t, first.Body(), result.Body())
	}
	bodies := map[string]bool{}
	for _, seen := range []map[string]bool{in.bodies, second.bodies} {
		for body := range seen {
			bodies[body] = true
		}
	}
	if len(bodies) != 2 {
		t.Errorf("%d different entries were appended, want one per format", len(bodies))
	}
	if n := len(s.found(t, image)); n != 2 {
		t.Errorf("the registry holds %d signatures, want 2", n)
	}
	if got := s.judge(t, image, jobSubject); got.Verdict != policy.Passed {
		t.Errorf("the verifier says %+v", got.Reasons)
	}
	if err := s.journal.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}
