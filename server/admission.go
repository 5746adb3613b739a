package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/server/admission"
	"github.com/countersign/countersign/verifier"
)

// maxContext bounds a namespace or cluster, in bytes.
const maxContext = 256

// How long callers wait by default. The Kubernetes API server sends what is in
// force as ?timeout=; whoever raises a provider's may send it too.
const (
	webhookPatience    = 10 * time.Second
	gatekeeperPatience = 3 * time.Second
	mutationPatience   = time.Second
)

// admissionRoute is a door of an admission protocol.
type admissionRoute struct {
	path, id, summary string
	handle            gin.HandlerFunc
}

// admissionTable is every admission route; all of them are POST and JSON. Those
// of Ratify stand a second time where its own server has them.
func (s *Server) admissionTable() []admissionRoute {
	return []admissionRoute{
		{"/v1/admission/validate", "validateAdmission", "Kubernetes validating admission (admission.k8s.io/v1 AdmissionReview); ?cluster= names the cluster", s.validateReview},
		{"/v1/admission/mutate", "mutateAdmission", "The same, with a patch that pins tags to digests; ?pin=false only judges", s.mutateReview},
		{"/v1/admission/image-review", "reviewImages", "Kubernetes ImagePolicyWebhook (imagepolicy.k8s.io/v1alpha1 ImageReview)", s.imageReview},
		{"/v1/admission/gatekeeper", "gatekeeperValidate", "Gatekeeper external data (externaldata.gatekeeper.sh/v1beta1 ProviderRequest)", s.gatekeeperValidate},
		{"/v1/admission/gatekeeper/mutate", "gatekeeperMutate", "The same for mutation: the values are pinned references", s.gatekeeperMutate},
		{"/v1/admission/ratify/gatekeeper/v1/verify", "ratifyV1Verify", "Ratify's provider, version 1", s.ratifyV1Verify},
		{"/v1/admission/ratify/gatekeeper/v1/mutate", "ratifyV1Mutate", "Ratify's mutation provider, version 1", s.gatekeeperMutate},
		{"/v1/admission/ratify/gatekeeper/v2/verify", "ratifyV2Verify", "Ratify's provider, version 2", s.ratifyV2Verify},
		{"/v1/admission/ratify/gatekeeper/v2/mutate", "ratifyV2Mutate", "Ratify's mutation provider, version 2", s.gatekeeperMutate},
		{"/ratify/gatekeeper/v1/verify", "ratifyV1VerifyBare", "Ratify's provider, version 1, at its own path", s.ratifyV1Verify},
		{"/ratify/gatekeeper/v1/mutate", "ratifyV1MutateBare", "Ratify's mutation provider, version 1, at its own path", s.gatekeeperMutate},
		{"/ratify/gatekeeper/v2/verify", "ratifyV2VerifyBare", "Ratify's provider, version 2, at its own path", s.ratifyV2Verify},
		{"/ratify/gatekeeper/v2/mutate", "ratifyV2MutateBare", "Ratify's mutation provider, version 2, at its own path", s.gatekeeperMutate},
		{"/v1/admission/kyverno/checkimages", "kyvernoCheckImages", "A Kyverno external verifier (checkimages)", s.checkImages},
	}
}

func (s *Server) admissionRoutes() {
	for _, r := range s.admissionTable() {
		s.engine.POST(r.path, r.handle)
		s.document(foreign{http.MethodPost, r.path, r.id, "Admission", r.summary, "application/json", "application/json", http.StatusOK})
	}
}

// readAdmission reads the whole body, within its bound.
func readAdmission(c *gin.Context) ([]byte, error) {
	body, err := io.ReadAll(c.Request.Body)
	if err != nil {
		return nil, readError(err)
	}
	return body, nil
}

// admissionQuestion is a question about images from where the caller is.
func admissionQuestion(c *gin.Context, images []string, namespace string, patience time.Duration) (verifier.Request, error) {
	cluster := c.Query("cluster")
	if len(namespace) > maxContext || len(cluster) > maxContext {
		return verifier.Request{}, badField("query.cluster", "namespace and cluster have at most 256 bytes")
	}
	place := map[string]string{}
	if namespace != "" {
		place["namespace"] = namespace
	}
	if cluster != "" {
		place["cluster"] = cluster
	}
	return verifier.Request{
		Images: images, Context: place, Caller: callerOf(c.Request.Context()), Timeout: withinPatience(c.Query("timeout"), patience),
	}, nil
}

// withinPatience leaves a tenth of the caller's patience for the way back: an
// answer that comes too late is none.
func withinPatience(query string, patience time.Duration) time.Duration {
	timeout, err := time.ParseDuration(query)
	if err != nil || timeout <= 0 {
		timeout = patience
	}
	return min(timeout-timeout/10, limits.VerifyTimeoutMax)
}

// unjudged is what a caller is told of a question that could not be put, in the
// words of the table.
type unjudged struct {
	status        int
	code, message string
}

func (s *Server) unjudged(ctx context.Context, err error) unjudged {
	var at *admission.Fault
	if errors.As(err, &at) {
		err = badField(at.Field, at.Problem)
	}
	p := s.problem(ctx, err)
	message := p.Detail
	if len(p.Errors) > 0 { // they say more, where the detail only refers to them
		var places []string
		for _, f := range p.Errors {
			places = append(places, f.Location+": "+f.Detail)
		}
		message = strings.Join(places, "; ")
	}
	return unjudged{status: p.Status, code: p.Code, message: message}
}
