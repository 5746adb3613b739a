package server_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/server/api"
)

// except lets an image pass the policy production.
func (h *house) except(name, digest string) api.Exception {
	h.t.Helper()
	e, err := h.admin.PutException(h.t.Context(), name, api.ExceptionRequest{
		Digests: []string{digest}, Policy: "production", Reason: "INC-1: the scanner is down", ExpiresAt: time.Now().Add(time.Hour),
	}, api.PutOptions{})
	h.must(err)
	return e
}

// TestException: an unsigned image passes while an exception is there, with the
// exception in the answer, in the decision, in admission's warnings and in the
// journal, and with no summary.
func TestException(t *testing.T) {
	h := open(t)
	h.furnish()
	ctx := t.Context()
	image := h.push("unsigned")
	_, digest, _ := strings.Cut(image, "@")
	before, err := h.admin.Verify(ctx, api.VerifyRequest{Images: []string{image}})
	if h.must(err); before.Verdict != policy.Failed { // control
		t.Fatalf("%+v", before)
	}
	h.except("inc-1", digest)
	a := h.asked(h.admin, false, image)
	r := a.Results[0]
	if a.Verdict != policy.Passed || len(r.Reasons) != 1 || r.Reasons[0].Code != policy.Excepted || !strings.Contains(r.Reasons[0].Message, "INC-1: the scanner is down") {
		t.Fatalf("%+v", a)
	}
	if r.VSA != nil || r.VSAProblem == nil {
		t.Errorf("a summary of an excepted image: %+v, %+v", r.VSA, r.VSAProblem)
	}
	if p := r.Policies[0]; p.Exception == nil || p.Exception.Name != "inc-1" || p.Requirements[0].Verdict != policy.Failed {
		t.Errorf("%+v", p)
	}
	d, err := h.admin.Decision(ctx, r.DecisionID)
	if h.must(err); !strings.Contains(string(d.Result), `"excepted"`) || !strings.Contains(string(d.Result), `"inc-1"`) {
		t.Errorf("decision %s", d.Result)
	}
	review := h.ask(http.MethodPost, "/v1/admission/validate", h.secret, `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","kind":{"group":"","version":"v1","kind":"Pod"},
		"operation":"CREATE","object":{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"name":"a","image":"`+image+`"}]}}}}`)
	if !strings.Contains(string(review.body), `"allowed":true`) || !strings.Contains(string(review.body), "excepted: exception inc-1") {
		t.Errorf("admission %s", review.body)
	}
	h.must(h.admin.Delete(ctx, "exceptions", "inc-1", api.PutOptions{}))
	after, err := h.admin.Verify(ctx, api.VerifyRequest{Images: []string{image}})
	if h.must(err); after.Verdict != policy.Failed {
		t.Errorf("after it was deleted: %+v", after)
	}
	h.settled()
	journal, err := h.admin.Audit(ctx, api.ListOptions{})
	h.must(err)
	done := map[string]bool{}
	for _, record := range journal.Items {
		if record.Resource == "exception/inc-1" && record.Outcome == "done" {
			done[record.Action] = true
			if record.Log == nil {
				t.Errorf("%s has no log entry", record.Action)
			}
		}
	}
	if !done["exception.put"] || !done["exception.delete"] {
		t.Errorf("journal: %v", done)
	}
}

// TestExceptionsAreManaged: who may change one, what is refused, and revisions.
func TestExceptionsAreManaged(t *testing.T) {
	h := open(t)
	h.furnish()
	ctx := t.Context()
	digest := "sha256:" + strings.Repeat("a", 64)
	good := api.ExceptionRequest{Digests: []string{digest}, Policy: "production", Reason: "INC-1", ExpiresAt: time.Now().Add(time.Hour)}
	for name, tc := range map[string]struct {
		change func(*api.ExceptionRequest)
		ok     bool
	}{
		"a digest": {func(*api.ExceptionRequest) {}, true},
		"a listed repository": {func(r *api.ExceptionRequest) {
			r.Digests, r.Images = nil, []string{h.registry.Host + "/team/**"}
		}, true},
		"a repository that is not listed": {func(r *api.ExceptionRequest) {
			r.Digests, r.Images = nil, []string{h.registry.Host + "/other/app"}
		}, false},
		"a registry that is not listed": {func(r *api.ExceptionRequest) { r.Digests, r.Images = nil, []string{"r.example/team/app"} }, false},
		"a whole registry":              {func(r *api.ExceptionRequest) { r.Digests, r.Images = nil, []string{h.registry.Host + "/**"} }, false},
		"a policy that is not there":    {func(r *api.ExceptionRequest) { r.Policy = "none" }, false},
		"no reason":                     {func(r *api.ExceptionRequest) { r.Reason = " " }, false},
		"an end that is past":           {func(r *api.ExceptionRequest) { r.ExpiresAt = time.Now().Add(-time.Second) }, false},
		"an end far away":               {func(r *api.ExceptionRequest) { r.ExpiresAt = time.Now().Add(91 * 24 * time.Hour) }, false},
		"nothing":                       {func(r *api.ExceptionRequest) { r.Digests = nil }, false},
	} {
		request := good
		tc.change(&request)
		_, err := h.admin.PutException(ctx, strings.ReplaceAll(name, " ", "-"), request, api.PutOptions{})
		if tc.ok {
			h.must(err)
			continue
		}
		if p := wantProblem(t, err, http.StatusBadRequest, "invalid_request"); len(p.Errors) != 1 {
			t.Errorf("%s: %+v", name, p)
		}
	}
	list, err := h.admin.Exceptions(ctx, api.ListOptions{})
	if h.must(err); len(list.Items) != 2 || list.Items[0].Expired {
		t.Errorf("%+v", list)
	}
	e, err := h.admin.Exception(ctx, "a-digest")
	if h.must(err); e.Digests[0] != digest || e.Policy != "production" {
		t.Errorf("%+v", e)
	}
	_, err = h.admin.PutException(ctx, "a-digest", good, api.PutOptions{})
	wantProblem(t, err, http.StatusPreconditionRequired, "precondition_required")
	if _, err = h.admin.PutException(ctx, "a-digest", good, api.PutOptions{Revision: e.Revision}); err != nil {
		t.Errorf("revision %s: %v", strconv.FormatInt(e.Revision, 10), err)
	}
	verifier, _ := h.as("gate", "verifier")
	if _, err := verifier.Exceptions(ctx, api.ListOptions{}); err != nil {
		t.Errorf("a verifier reads: %v", err)
	}
	_, err = verifier.PutException(ctx, "mine", good, api.PutOptions{})
	wantProblem(t, err, http.StatusForbidden, "forbidden")
}
