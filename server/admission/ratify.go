package admission

import (
	"time"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/verifier"
)

// verifierName is what reports call this service.
const verifierName = "countersign"

// RatifyV1 is the value of an item in version 1 of Ratify's provider. Its
// templates ask `isSuccess == false`, so that a field that is missing would
// pass: it is always there.
type RatifyV1 struct {
	Version         string           `json:"version"`
	IsSuccess       bool             `json:"isSuccess"`
	TraceID         string           `json:"traceID,omitempty"`
	Timestamp       string           `json:"timestamp"`
	VerifierReports []RatifyV1Report `json:"verifierReports"`
}

// RatifyV1Report is what one policy said.
type RatifyV1Report struct {
	Subject      string `json:"subject"`
	IsSuccess    bool   `json:"isSuccess"`
	Name         string `json:"name"`
	VerifierName string `json:"verifierName"`
	Type         string `json:"type"`
	Message      string `json:"message"`
	ErrorReason  string `json:"errorReason,omitempty"`
}

// RatifyV2 is the value of an item in version 2; succeeded is always there.
type RatifyV2 struct {
	Succeeded       bool             `json:"succeeded"`
	ArtifactReports []RatifyV2Report `json:"artifactReports"`
}

// RatifyV2Report is what was said of one artifact.
type RatifyV2Report struct {
	Subject         string           `json:"subject"`
	Artifact        string           `json:"artifact"`
	Results         []RatifyV2Result `json:"results"`
	ArtifactReports []RatifyV2Report `json:"artifactReports"`
}

// RatifyV2Result is what one policy said.
type RatifyV2Result struct {
	VerifierName string `json:"verifierName"`
	Description  string `json:"description"`
	Detail       any    `json:"detail,omitempty"`
	ErrorReason  string `json:"errorReason,omitempty"`
}

// RatifyV1Items render items as version 1 does; trace is the request's id.
func RatifyV1Items(trace string, now time.Time) Render {
	return func(k Key, r verifier.Result) Item {
		value := RatifyV1{
			Version: "1.1.0", IsSuccess: r.Verdict == policy.Passed, TraceID: trace,
			Timestamp: now.UTC().Format(time.RFC3339Nano), VerifierReports: []RatifyV1Report{},
		}
		for _, s := range sayings(r) {
			value.VerifierReports = append(value.VerifierReports, RatifyV1Report{
				Subject: subject(k, r), IsSuccess: s.reason == "", Name: s.policy, VerifierName: verifierName, Type: verifierName,
				Message: s.message, ErrorReason: s.reason,
			})
		}
		return Item{Key: k.Text, Value: value}
	}
}

// RatifyV2Item renders an item as version 2 does.
func RatifyV2Item(k Key, r verifier.Result) Item {
	report := RatifyV2Report{Subject: subject(k, r), Artifact: r.Digest, Results: []RatifyV2Result{}, ArtifactReports: []RatifyV2Report{}}
	for _, s := range sayings(r) {
		report.Results = append(report.Results, RatifyV2Result{VerifierName: verifierName + "/" + s.policy, Description: s.message, ErrorReason: s.reason})
	}
	return Item{Key: k.Text, Value: RatifyV2{Succeeded: r.Verdict == policy.Passed, ArtifactReports: []RatifyV2Report{report}}}
}

func subject(k Key, r verifier.Result) string {
	if r.Pinned != "" {
		return r.Pinned
	}
	return k.Reference
}

// saying is what a policy, or the service without one, says of an image; reason
// is empty if it has nothing against it.
type saying struct{ policy, message, reason string }

func sayings(r verifier.Result) []saying {
	var out []saying
	for _, p := range r.Policies {
		s := saying{policy: p.Name, message: "PASSED by policy " + p.Name}
		if p.Verdict != policy.Passed && len(p.Reasons) > 0 {
			s.message, s.reason = cut(plain(p.Reasons[0].Message), maxMessage), string(p.Reasons[0].Code)
		}
		out = append(out, s)
	}
	if len(out) == 0 {
		for _, reason := range r.Reasons {
			out = append(out, saying{message: cut(plain(reason.Message), maxMessage), reason: string(reason.Code)})
		}
	}
	return out
}
