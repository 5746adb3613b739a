package scan

import (
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/countersign/countersign/attest/predicate"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
)

// ErrReport is wrapped by errors of Vuln.
var ErrReport = errors.New("invalid scan report")

// report is what a scanner said, before findings are counted.
type report struct {
	scanner scanner
	// started and finished are zero where the report says nothing.
	started, finished time.Time
	findings, ignored []finding
}

type scanner struct{ uri, version, dbURI, dbVersion, dbUpdated string }

// Vuln is the predicate (cosign's vulnerability record) for a scanner's report
// of at most limits.ScanReport bytes, the same bytes for the same report and
// time. Which scanner wrote it is told by its content.
//
// The times of the scan are those of the report; one that lies after now, by
// more than limits.ClockSkew, is refused. A report without a time gets now.
// Errors wrap ErrReport.
func Vuln(b []byte, now time.Time) ([]byte, error) {
	r, err := read(b)
	if err != nil {
		return nil, err
	}
	if err := r.settleTimes(now); err != nil {
		return nil, err
	}
	result, err := tally(r.findings, r.ignored)
	if err != nil {
		return nil, err
	}
	out, err := strictjson.Marshal(wirePredicate{
		Scanner: wireScanner{
			URI: r.scanner.uri, Version: r.scanner.version,
			DB:     wireDB{URI: r.scanner.dbURI, Version: r.scanner.dbVersion, LastUpdate: r.scanner.dbUpdated},
			Result: result,
		},
		Metadata: wireMetadata{Started: stamp(r.started), Finished: stamp(r.finished)},
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrReport, err)
	}
	if err := predicate.Check(predicate.CosignVuln, out); err != nil {
		return nil, fmt.Errorf("%w: its record: %w", ErrReport, err)
	}
	return out, nil
}

type wirePredicate struct {
	Invocation wireInvocation `json:"invocation"`
	Scanner    wireScanner    `json:"scanner"`
	Metadata   wireMetadata   `json:"metadata"`
}

// wireInvocation is empty but there, as cosign writes it: policies in the field
// read its members.
type wireInvocation struct {
	Parameters []string `json:"parameters"`
	URI        string   `json:"uri"`
	EventID    string   `json:"event_id"`
	BuilderID  string   `json:"builder.id"`
}

type wireScanner struct {
	URI     string `json:"uri"`
	Version string `json:"version"`
	DB      wireDB `json:"db"`
	Result  result `json:"result"`
}

type wireDB struct {
	URI     string `json:"uri"`
	Version string `json:"version"`
	// LastUpdate is absent when the report does not tell: an empty time is none.
	LastUpdate string `json:"lastUpdate,omitzero"`
}

type wireMetadata struct {
	Started  string `json:"scanStartedOn"`
	Finished string `json:"scanFinishedOn"`
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// settleTimes gives the report both times. One that it has stands for the one
// that it lacks: now in its place would make an old scan look fresh.
func (r *report) settleTimes(now time.Time) error {
	switch {
	case r.started.IsZero() && r.finished.IsZero():
		r.started, r.finished = now, now
	case r.started.IsZero():
		r.started = r.finished
	case r.finished.IsZero():
		r.finished = r.started
	}
	if r.finished.Before(r.started) {
		return fmt.Errorf("%w: the scan ended before it began", ErrReport)
	}
	if r.finished.After(now.Add(limits.ClockSkew)) {
		return fmt.Errorf("%w: its time lies in the future; check the scanner's clock", ErrReport)
	}
	return nil
}

// moment reads a time of a report; the zero time is what scanners written in Go
// write for one they do not know.
func moment(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: a time is not in RFC 3339", ErrReport)
	}
	return t, nil
}

// read tells the form of a report and reads it.
func read(b []byte) (*report, error) {
	if len(b) > limits.ScanReport {
		return nil, fmt.Errorf("%w: larger than %d bytes", ErrReport, limits.ScanReport)
	}
	if err := strictjson.Check(b); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrReport, err)
	}
	var has map[string]presence
	if err := json.Unmarshal(b, &has); err != nil {
		return nil, fmt.Errorf("%w: not a JSON object; %s", ErrReport, wanted)
	}
	isTrivy := bool(has["SchemaVersion"] || has["ArtifactName"])
	isGrype := bool(has["matches"] || has["descriptor"])
	isSARIF := bool(has["runs"])
	switch {
	case isTrivy && !isGrype && !isSARIF:
		return readTrivy(b)
	case isGrype && !isTrivy && !isSARIF:
		return readGrype(b)
	case isSARIF && !isTrivy && !isGrype:
		return readSARIF(b)
	case isTrivy || isGrype || isSARIF:
		return nil, fmt.Errorf("%w: it has members of more than one form; %s", ErrReport, wanted)
	case bool(has["scanner"] && has["metadata"]):
		return nil, fmt.Errorf("%w: it is a vulnerability record already: sign it under the type vuln", ErrReport)
	}
	return nil, fmt.Errorf("%w: of a form that is not known; %s", ErrReport, wanted)
}

const wanted = "want Trivy's JSON (SchemaVersion 2), Grype's JSON, or SARIF 2.1.0"

// presence is true for any value, and keeps nothing of it.
type presence bool

// UnmarshalJSON is called for any value that is there.
func (p *presence) UnmarshalJSON([]byte) error {
	*p = true
	return nil
}

// decode reads the members that v names and passes over all others.
func decode(b []byte, form string, v any) error {
	err := json.Unmarshal(b, v)
	if err == nil {
		return nil
	}
	if semantic, ok := errors.AsType[*json.SemanticError](err); ok {
		return fmt.Errorf("%w: %s: %s is not what %s has there", ErrReport, form, semantic.JSONPointer, form)
	}
	return fmt.Errorf("%w: %s: malformed", ErrReport, form)
}
