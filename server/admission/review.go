package admission

import (
	"fmt"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
)

// admission.k8s.io/v1, the only version spoken.
const (
	reviewVersion = "admission.k8s.io/v1"
	reviewKind    = "AdmissionReview"
)

// Review is the request of an AdmissionReview. What else it says (who asks, by
// which resource) decides nothing here.
type Review struct {
	UID         string
	Kind        Kind
	SubResource string
	Namespace   string
	Operation   string
	DryRun      bool
	// Object and OldObject are JSON that was checked; nil when absent.
	Object, OldObject []byte
}

type wireReview struct {
	APIVersion string       `json:"apiVersion"`
	Kind       string       `json:"kind"`
	Request    *wireRequest `json:"request"`
}

// wireRequest has what decides. Kubernetes adds fields within a version of its
// API (API conventions, compatibility): to refuse those would stop a cluster on
// the day it is upgraded.
type wireRequest struct {
	UID         string         `json:"uid"`
	Kind        Kind           `json:"kind"`
	SubResource string         `json:"subResource"`
	Namespace   string         `json:"namespace"`
	Operation   string         `json:"operation"`
	Object      jsontext.Value `json:"object"`
	OldObject   jsontext.Value `json:"oldObject"`
	DryRun      *bool          `json:"dryRun"`
}

// ParseReview reads an AdmissionReview: no name twice, no invalid UTF-8. With an error the review has
// its UID still if one can be made out, because an answer without it is none.
func ParseReview(body []byte) (Review, error) {
	var wire wireReview
	if err := strictjson.UnmarshalOpen(body, &wire); err != nil {
		return Review{UID: uidOf(body)}, unreadable(err)
	}
	uid := uidOf(body)
	switch {
	case wire.APIVersion != reviewVersion || wire.Kind != reviewKind:
		return Review{UID: uid}, fault("body", "want an AdmissionReview of "+reviewVersion)
	case wire.Request == nil:
		return Review{}, fault("body.request", "is missing")
	case uid == "":
		return Review{}, fault("body.request.uid", fmt.Sprintf("want 1 to %d bytes", limits.AdmissionUID))
	}
	r := wire.Request
	return Review{
		UID: uid, Kind: r.Kind, SubResource: r.SubResource, Namespace: r.Namespace, Operation: r.Operation,
		DryRun: r.DryRun != nil && *r.DryRun, Object: present(r.Object), OldObject: present(r.OldObject),
	}, nil
}

func present(raw jsontext.Value) []byte {
	if raw == nil || raw.Kind() == jsontext.KindNull {
		return nil
	}
	return raw
}

// uidOf makes out the uid in a review that may be wrong in other ways.
func uidOf(body []byte) string {
	if strictjson.Check(body) != nil {
		return ""
	}
	review, err := members(body, "body", "request")
	if err != nil || review["request"] == nil {
		return ""
	}
	request, err := members(review["request"], "body.request", "uid")
	if err != nil {
		return ""
	}
	uid := text(request["uid"])
	if len(uid) > limits.AdmissionUID {
		return ""
	}
	return uid
}

// Pass is why a review passes without anything being judged.
type Pass string

// The reasons.
const (
	PassDeletion  Pass = "deletion"
	PassStatus    Pass = "status"
	PassScale     Pass = "scale"
	PassUnchanged Pass = "unchanged"
	PassNoImages  Pass = "no-images"
)

// Question is what a review asks.
type Question struct {
	// Pass is set if nothing is to be judged and the review passes. Otherwise
	// there is an image.
	Pass Pass
	// Images are those to be judged.
	Images []Image
	// Object is all that was found; empty with PassDeletion, PassStatus and
	// PassScale.
	Object Object
}

// Ask says what a review asks, by the rules of the package.
func (r *Rules) Ask(review Review) (Question, error) {
	switch review.Operation {
	case "DELETE":
		return Question{Pass: PassDeletion}, nil
	case "CREATE", "UPDATE":
	default:
		return Question{}, fault("request.operation", "want CREATE, UPDATE or DELETE: register the webhook for CREATE and UPDATE only")
	}
	switch {
	case review.SubResource == "status":
		return Question{Pass: PassStatus}, nil
	case review.SubResource == "scale" && review.Kind.isScale():
		return Question{Pass: PassScale}, nil
	case review.Object == nil:
		return Question{}, fault("request.object", "is missing")
	}
	object, err := r.find(review.Kind, review.Object)
	if err != nil {
		return Question{}, err
	}
	q := Question{Object: object, Images: object.Images}
	if review.Operation == "UPDATE" && !r.settings.JudgeUnchanged {
		q.Images = r.changed(review, object.Images)
	}
	switch {
	case len(object.Images) == 0:
		q.Pass = PassNoImages
	case len(q.Images) == 0:
		q.Pass = PassUnchanged
	case len(References(q.Images)) > limits.Images:
		return Question{}, fault("request.object", fmt.Sprintf("names more than %d different images", limits.Images))
	}
	return q, nil
}

// changed are the images that the old object does not have. An old object that
// cannot be read has none: it must be possible to mend what was broken before
// this service looked.
func (r *Rules) changed(review Review, images []Image) []Image {
	if review.OldObject == nil {
		return images
	}
	old, err := r.find(review.Kind, review.OldObject)
	if err != nil {
		return images
	}
	type place struct {
		reference string
		sort      Sort
	}
	had := make(map[place]bool, len(old.Images))
	for _, i := range old.Images {
		had[place{i.Reference, i.Sort}] = true
	}
	var out []Image
	for _, i := range images {
		if !had[place{i.Reference, i.Sort}] {
			out = append(out, i)
		}
	}
	return out
}
