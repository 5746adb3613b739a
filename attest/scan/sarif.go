package scan

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// sarifReport is the part of SARIF 2.1.0 that is read; section numbers below
// are those of that standard.
type sarifReport struct {
	Version string     `json:"version"`
	Runs    []sarifRun `json:"runs"`
}

type sarifRun struct {
	Tool struct {
		Driver sarifDriver `json:"driver"`
	} `json:"tool"`
	Invocations []sarifInvocation `json:"invocations"`
	// Results is nil when the member is null or not there: the run failed to
	// produce any (3.14.23).
	Results []sarifResult `json:"results"`
}

type sarifDriver struct {
	Name            string      `json:"name"`
	Version         string      `json:"version"`
	SemanticVersion string      `json:"semanticVersion"`
	InformationURI  string      `json:"informationUri"`
	Rules           []sarifRule `json:"rules"`
}

type sarifRule struct {
	ID               string `json:"id"`
	ShortDescription struct {
		Text string `json:"text"`
	} `json:"shortDescription"`
	DefaultConfiguration struct {
		Level string `json:"level"`
	} `json:"defaultConfiguration"`
	Properties sarifProperties `json:"properties"`
}

type sarifProperties struct {
	SecuritySeverity any      `json:"security-severity"`
	Tags             []string `json:"tags"`
}

type sarifInvocation struct {
	ExecutionSuccessful *bool  `json:"executionSuccessful"`
	Start               string `json:"startTimeUtc"`
	End                 string `json:"endTimeUtc"`
	Notifications       []struct {
		Level string `json:"level"`
	} `json:"toolExecutionNotifications"`
}

type sarifResult struct {
	RuleID    string `json:"ruleId"`
	RuleIndex *int   `json:"ruleIndex"`
	Rule      struct {
		ID    string `json:"id"`
		Index *int   `json:"index"`
	} `json:"rule"`
	Kind          string          `json:"kind"`
	Level         string          `json:"level"`
	BaselineState string          `json:"baselineState"`
	Properties    sarifProperties `json:"properties"`
	Message       struct {
		Text string `json:"text"`
	} `json:"message"`
	Locations []struct {
		Physical struct {
			Artifact struct {
				URI string `json:"uri"`
			} `json:"artifactLocation"`
		} `json:"physicalLocation"`
	} `json:"locations"`
	Suppressions []struct {
		Status string `json:"status"`
	} `json:"suppressions"`
}

// readSARIF reads a SARIF log of one run.
func readSARIF(b []byte) (*report, error) {
	var w sarifReport
	if err := decode(b, "SARIF", &w); err != nil {
		return nil, err
	}
	if w.Version != "2.1.0" {
		return nil, fmt.Errorf("%w: SARIF of another version; want 2.1.0", ErrReport)
	}
	if len(w.Runs) != 1 {
		return nil, fmt.Errorf("%w: SARIF of %d runs; want one, since a record names one scanner", ErrReport, len(w.Runs))
	}
	run := w.Runs[0]
	if run.Tool.Driver.Name == "" || run.Results == nil {
		return nil, fmt.Errorf("%w: SARIF that names no tool or has no list of results, so it says nothing of vulnerabilities", ErrReport)
	}
	r := &report{scanner: run.Tool.Driver.scanner()}
	if err := r.invoked(run.Invocations); err != nil {
		return nil, err
	}
	rules := make(map[string]*sarifRule, len(run.Tool.Driver.Rules))
	for i := range run.Tool.Driver.Rules {
		rules[run.Tool.Driver.Rules[i].ID] = &run.Tool.Driver.Rules[i]
	}
	for _, result := range run.Results {
		f, err := result.finding(run.Tool.Driver, rules)
		switch {
		case err != nil:
			return nil, err
		case result.isNone():
		case result.isSuppressed():
			r.ignored = append(r.ignored, f)
		default:
			r.findings = append(r.findings, f)
		}
	}
	return r, nil
}

func (d sarifDriver) scanner() scanner {
	version := d.Version
	if version == "" {
		version = d.SemanticVersion
	}
	switch strings.ToLower(d.Name) {
	case "trivy":
		return trivy(version)
	case "grype":
		return grype(version)
	}
	s := scanner{uri: d.InformationURI, version: version}
	if u, err := url.Parse(d.InformationURI); err != nil || u.Scheme == "" {
		s.uri = withVersion("pkg:generic/"+url.PathEscape(d.Name), url.PathEscape(version))
	}
	return s
}

// invoked takes the times of a run, and refuses a run that failed (3.20.14) or
// noted an error of its own (3.20.21).
func (r *report) invoked(invocations []sarifInvocation) error {
	for _, i := range invocations {
		if i.ExecutionSuccessful != nil && !*i.ExecutionSuccessful {
			return fmt.Errorf("%w: SARIF of a run that says it failed", ErrReport)
		}
		for _, n := range i.Notifications {
			if n.Level == "error" {
				return fmt.Errorf("%w: SARIF of a run that notes an error of the scanner", ErrReport)
			}
		}
		start, err := moment(i.Start)
		if err != nil {
			return err
		}
		end, err := moment(i.End)
		if err != nil {
			return err
		}
		if r.started.IsZero() || !start.IsZero() && start.Before(r.started) {
			r.started = start
		}
		if end.After(r.finished) {
			r.finished = end
		}
	}
	return nil
}

// isNone reports whether a result is not a finding: what was checked and held,
// did not apply or only informs (3.27.9), or is gone since the baseline
// (3.27.24).
func (s sarifResult) isNone() bool {
	switch s.Kind {
	case "pass", "notApplicable", "informational":
		return true
	}
	return s.BaselineState == "absent"
}

// isSuppressed reports whether all suppressions of a result, at least one, were
// accepted (3.27.23, 3.35.3).
func (s sarifResult) isSuppressed() bool {
	for _, p := range s.Suppressions {
		if p.Status != "" && p.Status != "accepted" {
			return false
		}
	}
	return len(s.Suppressions) > 0
}

func (s sarifResult) finding(driver sarifDriver, rules map[string]*sarifRule) (finding, error) {
	id, index := s.RuleID, s.RuleIndex
	if id == "" {
		id = s.Rule.ID
	}
	if index == nil {
		index = s.Rule.Index
	}
	rule := rules[id]
	if id == "" && index != nil && *index >= 0 && *index < len(driver.Rules) {
		rule = &driver.Rules[*index]
		id = rule.ID
	}
	if id == "" {
		return finding{}, fmt.Errorf("%w: SARIF with a result that names no rule", ErrReport)
	}
	if rule == nil {
		rule = &sarifRule{}
	}
	f := finding{ID: id, Severity: s.severity(rule)}
	s.locate(&f, driver.Name, rule)
	return f, nil
}

// severity is told by the first of these that the result or its rule has: a
// `security-severity` score, a severity among the rule's tags, the level
// (3.27.10). A score of zero rates nothing and leaves it to the tags.
func (s sarifResult) severity(rule *sarifRule) severity {
	scored := false
	for _, p := range []sarifProperties{s.Properties, rule.Properties} {
		if p.SecuritySeverity == nil {
			continue
		}
		scored = true
		score, err := strconv.ParseFloat(fmt.Sprint(p.SecuritySeverity), 64)
		if rated := severityOfScore(score); err == nil && rated != unknown {
			return rated
		}
	}
	for _, tag := range append(s.Properties.Tags[:len(s.Properties.Tags):len(s.Properties.Tags)], rule.Properties.Tags...) {
		if rated := severityOf(tag); rated != unknown {
			return rated
		}
	}
	if scored {
		return unknown
	}
	level := s.Level
	if level == "" {
		level = rule.DefaultConfiguration.Level
	}
	switch level {
	case "error":
		return high
	case "warning", "":
		return medium
	case "note":
		return low
	}
	return unknown
}

// locate finds the package. SARIF has no member for it: Trivy writes lines into
// the message, and Grype makes the rule's id of the vulnerability and the
// package. Other tools' findings are told apart by file and message.
func (s sarifResult) locate(f *finding, tool string, rule *sarifRule) {
	switch strings.ToLower(tool) {
	case "trivy":
		for line := range strings.Lines(s.Message.Text) {
			name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
			switch name {
			case "Package":
				f.Package = value
			case "Installed Version":
				f.Version = value
			case "Fixed Version":
				f.FixedIn = value
			}
		}
	case "grype":
		id, _, _ := strings.Cut(rule.ShortDescription.Text, " ")
		if pkg, ok := strings.CutPrefix(f.ID, id+"-"); ok && id != "" {
			f.ID, f.Package = id, pkg
		}
	}
	if f.Version == "" {
		f.place = s.Message.Text
		for _, l := range s.Locations {
			f.place += "\n" + l.Physical.Artifact.URI
		}
	}
}
