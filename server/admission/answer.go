package admission

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/countersign/countersign/internal/strictjson"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/verifier"
)

// ReviewAnswer is an AdmissionReview as it goes back.
type ReviewAnswer struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Response   Response `json:"response"`
}

// Response is the verdict in it. The API server reads Status only of a denial,
// and refuses a PatchType without a Patch.
type Response struct {
	UID              string            `json:"uid"`
	Allowed          bool              `json:"allowed"`
	Status           *Status           `json:"status,omitempty"`
	Patch            []byte            `json:"patch,omitempty"`
	PatchType        string            `json:"patchType,omitempty"`
	AuditAnnotations map[string]string `json:"auditAnnotations,omitempty"`
	Warnings         []string          `json:"warnings,omitempty"`
}

// Status says why a review is denied.
type Status struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Reason  string `json:"reason"`
}

// Wrap makes the document of a response.
func Wrap(r Response) ReviewAnswer {
	return ReviewAnswer{APIVersion: reviewVersion, Kind: reviewKind, Response: r}
}

// Deny refuses a review that was not judged. Code is stable, for the audit log.
func Deny(uid string, status int, code, message string) Response {
	return Response{
		UID:              uid,
		AuditAnnotations: map[string]string{"verdict": string(policy.Failed), "code": code},
		Status:           &Status{Code: status, Reason: "Forbidden", Message: cut(plain(fmt.Sprintf("%s (%s)", message, code)), maxMessage)},
	}
}

// Passed allows a review of which nothing is judged.
func (r *Rules) Passed(uid string, q Question) Response {
	return Response{
		UID: uid, Allowed: true, Warnings: Warnings(r.Hardening(q.Object)),
		AuditAnnotations: map[string]string{"rule": string(q.Pass)},
	}
}

// Judged answers a review by the verdict on the images of its question; with
// pin, what is named by tag is patched to the digest that was judged.
func (r *Rules) Judged(review Review, q Question, a verifier.Answer, pin bool) (Response, error) {
	out := Response{UID: review.UID, Allowed: a.Verdict == policy.Passed, AuditAnnotations: annotations(a)}
	warnings := slices.Clone(a.Warnings)
	if !out.Allowed {
		out.Status = denial(Failures(a))
		out.Warnings = Warnings(append(warnings, r.Hardening(q.Object)...))
		return out, nil
	}
	if pin {
		if err := out.pin(q, a); err != nil {
			return Response{}, err
		}
	} else if tags := tagged(q.Images); len(tags) > 0 && review.Kind.IsPod() {
		warnings = append(warnings, r.unpinned(&out, tags, a)...)
	}
	out.Warnings = Warnings(append(warnings, r.Hardening(q.Object)...))
	return out, nil
}

func denial(failures []string) *Status {
	return &Status{Code: http.StatusForbidden, Reason: "Forbidden", Message: cut(plain(strings.Join(failures, "; ")), maxMessage)}
}

func (r *Response) pin(q Question, a verifier.Answer) error {
	patch, err := Patch(q.Images, digests(a))
	if err != nil || len(patch) == 0 {
		return err
	}
	if r.Patch, err = strictjson.Marshal(patch); err != nil {
		return fmt.Errorf("encoding the patch: %w", err)
	}
	r.PatchType = "JSONPatch"
	return nil
}

func tagged(images []Image) []string {
	return References(slices.DeleteFunc(slices.Clone(images), Image.ByDigest))
}

// unpinned says of a Pod that runs by tag what was judged, or denies it.
func (r *Rules) unpinned(out *Response, tags []string, a verifier.Answer) []string {
	known := digests(a)
	var told []string
	for _, tag := range tags {
		told = append(told, fmt.Sprintf("%s is named by tag: the node may pull something else than what was judged (%s)", tag, known[tag]))
	}
	switch r.settings.Tags {
	case TagsAllow:
		return nil
	case TagsDeny:
		out.Allowed = false
		out.Status = denial(append([]string{"name images by digest, or register the mutating webhook, which pins them"}, told...))
		out.AuditAnnotations["verdict"] = string(policy.Failed)
		out.AuditAnnotations["rule"] = "tag"
		return nil
	}
	return told
}

// digests are what was judged, by the reference that was asked for.
func digests(a verifier.Answer) map[string]string {
	out := make(map[string]string, len(a.Results))
	for _, r := range a.Results {
		if r.Verdict == policy.Passed {
			out[r.Image] = r.Digest
		}
	}
	return out
}

// annotations are of the API server's audit log, which puts the webhook's name
// before their keys.
func annotations(a verifier.Answer) map[string]string {
	out := map[string]string{"verdict": string(a.Verdict)}
	var decisions, pinned []string
	for _, r := range a.Results {
		if r.DecisionID != "" {
			decisions = append(decisions, r.DecisionID)
		}
		if r.Pinned != "" {
			pinned = append(pinned, r.Pinned)
		}
		if r.Unrecorded {
			out["unrecorded"] = "true"
		}
	}
	if len(decisions) > 0 {
		out["decisions"] = joined(decisions)
	}
	if len(pinned) > 0 {
		out["images"] = joined(pinned)
	}
	return out
}

// Failures say of each image that may not run why, nearest reason first.
func Failures(a verifier.Answer) []string {
	var out []string
	for _, r := range a.Results {
		if r.Verdict != policy.Passed {
			out = append(out, failure(r))
		}
	}
	return out
}

func failure(r verifier.Result) string {
	if len(r.Reasons) == 0 {
		return r.Image + ": FAILED"
	}
	first := r.Reasons[0]
	text := fmt.Sprintf("%s: %s (%s)", cmp.Or(r.Pinned, r.Image), first.Message, first.Code)
	if first.Policy != "" {
		text += " by policy " + first.Policy
	}
	return text
}

// Undecided reports a FAILED that only says that nothing could be found out:
// asking again may help, and remembering it does harm.
func Undecided(r verifier.Result) bool {
	for _, reason := range r.Reasons {
		switch reason.Code {
		case policy.RegistryUnavailable, policy.DeadlineExceeded, policy.PolicyError:
		default:
			return false
		}
	}
	return r.Verdict != policy.Passed && len(r.Reasons) > 0
}
