package server

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/verifier"
)

// admission.k8s.io/v1, the only version spoken.
const (
	admissionVersion = "admission.k8s.io/v1"
	admissionKind    = "AdmissionReview"
)

// What the Kubernetes API server shows of an answer: warnings beyond 256
// characters may be cut, and all of them together at 4096.
const (
	maxWarning  = 256
	maxWarnings = 16
	maxMessage  = 1024
	maxContext  = 256
)

// defaultWebhookTimeout is Kubernetes' own for a webhook that names none. The
// API server sends the one in force as ?timeout=.
const defaultWebhookTimeout = 10 * time.Second

type admissionReview struct {
	APIVersion string             `json:"apiVersion"`
	Kind       string             `json:"kind"`
	Request    *admissionRequest  `json:"request,omitempty"`
	Response   *admissionResponse `json:"response,omitempty"`
}

type admissionRequest struct {
	UID       string          `json:"uid"`
	Kind      groupKind       `json:"kind"`
	Namespace string          `json:"namespace"`
	Operation string          `json:"operation"`
	Object    json.RawMessage `json:"object"`
	DryRun    bool            `json:"dryRun"`
}

type groupKind struct {
	Group   string `json:"group"`
	Version string `json:"version"`
	Kind    string `json:"kind"`
}

type admissionResponse struct {
	UID              string            `json:"uid"`
	Allowed          bool              `json:"allowed"`
	Status           *admissionStatus  `json:"status,omitempty"`
	AuditAnnotations map[string]string `json:"auditAnnotations,omitempty"`
	Warnings         []string          `json:"warnings,omitempty"`
}

type admissionStatus struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Reason  string `json:"reason"`
}

func (s *Server) admissionRoutes() {
	s.engine.POST("/v1/admission/validate", s.validate)
	s.document(foreign{
		http.MethodPost, "/v1/admission/validate", "validateAdmission", "Admission",
		"Kubernetes validating admission (admission.k8s.io/v1 AdmissionReview); ?cluster= names the cluster", "application/json", "application/json", http.StatusOK,
	})
}

// validate always answers an AdmissionReview. Whatever is not understood is
// denied: an HTTP error would leave the decision to the webhook's
// failurePolicy.
func (s *Server) validate(c *gin.Context) {
	response := s.review(c)
	c.JSON(http.StatusOK, admissionReview{APIVersion: admissionVersion, Kind: admissionKind, Response: response})
}

func (s *Server) review(c *gin.Context) *admissionResponse {
	ctx := c.Request.Context()
	body, err := io.ReadAll(c.Request.Body)
	if err != nil {
		return s.refuse(ctx, "", readError(err))
	}
	var review admissionReview
	if err := strictjson.UnmarshalOpen(body, &review); err != nil {
		return s.refuse(ctx, "", err)
	}
	if review.APIVersion != admissionVersion || review.Kind != admissionKind || review.Request == nil || review.Request.UID == "" {
		return s.refuse(ctx, "", badField("body", "want an AdmissionReview of "+admissionVersion+" with a request"))
	}
	r := review.Request
	// What is deleted runs no image. It cannot be wrong to let it go.
	if r.Operation == "DELETE" {
		return &admissionResponse{UID: r.UID, Allowed: true}
	}
	images, err := r.images()
	if err != nil {
		return s.refuse(ctx, r.UID, err)
	}
	place, err := r.context(c.Query("cluster"))
	if err != nil {
		return s.refuse(ctx, r.UID, err)
	}
	answer, err := s.cfg.Verifier.Verify(ctx, verifier.Request{
		Images: images, Context: place, Caller: callerOf(ctx), DryRun: r.DryRun, Timeout: webhookTimeout(c.Query("timeout")),
	})
	if err != nil {
		return s.refuse(ctx, r.UID, err)
	}
	return admit(r.UID, answer)
}

func (r *admissionRequest) context(cluster string) (map[string]string, error) {
	place := map[string]string{}
	if r.Namespace != "" {
		place["namespace"] = r.Namespace
	}
	if cluster != "" {
		place["cluster"] = cluster
	}
	if len(r.Namespace) > maxContext || len(cluster) > maxContext {
		return nil, badField("query.cluster", "namespace and cluster have at most 256 bytes")
	}
	return place, nil
}

// webhookTimeout leaves a tenth of the API server's patience for the way back:
// an answer that comes too late is none.
func webhookTimeout(query string) time.Duration {
	timeout, err := time.ParseDuration(query)
	if err != nil || timeout <= 0 {
		timeout = defaultWebhookTimeout
	}
	return min(timeout-timeout/10, limits.VerifyTimeoutMax)
}

// admit makes the answer of a verdict.
func admit(uid string, a verifier.Answer) *admissionResponse {
	out := &admissionResponse{UID: uid, Allowed: a.Verdict == policy.Passed, AuditAnnotations: map[string]string{"verdict": string(a.Verdict)}}
	var decisions, pinned, failures []string
	warnings := a.Warnings
	for _, r := range a.Results {
		if r.DecisionID != "" {
			decisions = append(decisions, r.DecisionID)
		}
		if r.Unrecorded {
			out.AuditAnnotations["unrecorded"] = "true"
		}
		if r.Pinned != "" {
			pinned = append(pinned, r.Pinned)
		}
		if r.Verdict != policy.Passed {
			failures = append(failures, failure(r))
		}
		warnings = append(warnings[:len(warnings):len(warnings)], r.Warnings...)
	}
	if len(decisions) > 0 {
		out.AuditAnnotations["decisions"] = strings.Join(decisions, ",")
	}
	if len(pinned) > 0 {
		out.AuditAnnotations["images"] = strings.Join(pinned, ",")
	}
	out.Warnings = trimWarnings(warnings)
	if !out.Allowed {
		out.Status = &admissionStatus{Code: http.StatusForbidden, Reason: "Forbidden", Message: cut(strings.Join(failures, "; "), maxMessage)}
	}
	return out
}

// failure says of one image why it may not run, nearest reason first.
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

func trimWarnings(warnings []string) []string {
	var out []string
	seen := map[string]bool{}
	for _, w := range warnings {
		if w = cut(w, maxWarning); !seen[w] && len(out) < maxWarnings {
			seen[w] = true
			out = append(out, w)
		}
	}
	return out
}

// cut shortens s to at most n bytes of whole characters.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// refuse denies what could not be judged, with the words of the table.
func (s *Server) refuse(ctx context.Context, uid string, err error) *admissionResponse {
	p := s.problem(ctx, err)
	message := p.Detail
	for _, f := range p.Errors {
		message += " " + f.Location + ": " + f.Detail + "."
	}
	return &admissionResponse{
		UID: uid, Allowed: false, AuditAnnotations: map[string]string{"verdict": string(policy.Failed), "code": p.Code},
		Status: &admissionStatus{Code: p.Status, Reason: "Forbidden", Message: cut(fmt.Sprintf("%s (%s)", message, p.Code), maxMessage)},
	}
}
