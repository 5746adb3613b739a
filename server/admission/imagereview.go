package admission

import (
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/countersign/countersign/internal/strictjson"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/verifier"
)

// imagepolicy.k8s.io/v1alpha1, the only version there is.
const (
	imageReviewVersion = "imagepolicy.k8s.io/v1alpha1"
	imageReviewKind    = "ImageReview"
)

// ImageReview is what the API server's ImagePolicyWebhook asks. Annotations,
// among them the customary break-glass, are of whoever made the pod and exempt
// nothing.
type ImageReview struct {
	Images    []string
	Namespace string
}

// ParseImageReview reads an ImageReview strictly.
func ParseImageReview(body []byte) (ImageReview, error) {
	var wire struct {
		APIVersion string         `json:"apiVersion"`
		Kind       string         `json:"kind"`
		Metadata   jsontext.Value `json:"metadata"`
		Spec       struct {
			Containers []struct {
				Image string `json:"image"`
			} `json:"containers"`
			Annotations map[string]string `json:"annotations"`
			Namespace   string            `json:"namespace"`
		} `json:"spec"`
		Status jsontext.Value `json:"status"`
	}
	if err := strictjson.Unmarshal(body, &wire); err != nil {
		return ImageReview{}, unreadable(err)
	}
	if wire.APIVersion != imageReviewVersion || wire.Kind != imageReviewKind {
		return ImageReview{}, fault("body", "want an ImageReview of "+imageReviewVersion)
	}
	var images []Image
	for _, c := range wire.Spec.Containers {
		if c.Image == "" {
			return ImageReview{}, fault("body.spec.containers", "has a container without an image")
		}
		images = append(images, Image{Reference: c.Image})
	}
	if len(images) == 0 {
		return ImageReview{}, fault("body.spec.containers", "names no image")
	}
	return ImageReview{Images: References(images), Namespace: wire.Spec.Namespace}, nil
}

// ImageReviewAnswer is an ImageReview as it goes back.
type ImageReviewAnswer struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Status     ImageReviewStatus `json:"status"`
}

// ImageReviewStatus is the verdict in it.
type ImageReviewStatus struct {
	Allowed          bool              `json:"allowed"`
	Reason           string            `json:"reason,omitempty"`
	AuditAnnotations map[string]string `json:"auditAnnotations,omitempty"`
}

// JudgedImages answers an ImageReview by a verdict.
func JudgedImages(a verifier.Answer) ImageReviewAnswer {
	return imageReview(a.Verdict == policy.Passed, strings.Join(Failures(a), "; "), annotations(a))
}

// DenyImages refuses an ImageReview that was not judged.
func DenyImages(code, message string) ImageReviewAnswer {
	return imageReview(false, message+" ("+code+")", map[string]string{"verdict": string(policy.Failed), "code": code})
}

func imageReview(allowed bool, reason string, audit map[string]string) ImageReviewAnswer {
	return ImageReviewAnswer{
		APIVersion: imageReviewVersion, Kind: imageReviewKind,
		Status: ImageReviewStatus{Allowed: allowed, Reason: cut(plain(reason), maxMessage), AuditAnnotations: audit},
	}
}
