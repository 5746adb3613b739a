package scan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/countersign/countersign/internal/limits"
)

// severity is one of the six words of a result, by falling weight.
type severity string

const (
	critical   severity = "critical"
	high       severity = "high"
	medium     severity = "medium"
	low        severity = "low"
	negligible severity = "negligible"
	unknown    severity = "unknown"
)

func severities() []severity {
	return []severity{critical, high, medium, low, negligible, unknown}
}

// severityOf reads a scanner's word in any case; a word that is not known is
// unknown.
func severityOf(word string) severity {
	s := severity(strings.ToLower(strings.TrimSpace(word)))
	if slices.Contains(severities(), s) {
		return s
	}
	return unknown
}

// severityOfScore reads a CVSS base score by the bands of CVSS v3.1, section 5.
// Zero is no rating here: scanners write it for what they could not rate.
func severityOfScore(score float64) severity {
	switch {
	case score >= 9 && score <= 10:
		return critical
	case score >= 7 && score < 9:
		return high
	case score >= 4 && score < 7:
		return medium
	case score > 0 && score < 4:
		return low
	}
	return unknown
}

func (s severity) weight() int { return slices.Index(severities(), s) }

// finding is one vulnerability in one package.
type finding struct {
	ID       string   `json:"id"`
	Severity severity `json:"severity"`
	Package  string   `json:"package"`
	Version  string   `json:"version"`
	FixedIn  string   `json:"fixedIn"`
	// place tells findings apart that name no version, and is not written.
	place string
}

type result struct {
	Critical        int       `json:"critical"`
	High            int       `json:"high"`
	Medium          int       `json:"medium"`
	Low             int       `json:"low"`
	Negligible      int       `json:"negligible"`
	Unknown         int       `json:"unknown"`
	Total           int       `json:"total"`
	Ignored         int       `json:"ignored"`
	Vulnerabilities []finding `json:"vulnerabilities"`
}

// tally counts each vulnerability of one package in one version once, however
// many layers or files it was found in.
func tally(findings, ignored []finding) (result, error) {
	counted, err := distinct(findings)
	if err != nil {
		return result{}, err
	}
	suppressed, err := distinct(ignored)
	if err != nil {
		return result{}, err
	}
	r := result{Total: len(counted), Ignored: len(suppressed), Vulnerabilities: counted}
	for _, f := range counted {
		switch f.Severity {
		case critical:
			r.Critical++
		case high:
			r.High++
		case medium:
			r.Medium++
		case low:
			r.Low++
		case negligible:
			r.Negligible++
		default:
			r.Unknown++
		}
	}
	return r, nil
}

// distinct is the findings without repetitions, gravest first. Of repetitions
// that differ the gravest stays, and a severity that is known before one that
// is not.
func distinct(findings []finding) ([]finding, error) {
	slices.SortFunc(findings, func(a, b finding) int {
		return cmp.Or(cmp.Compare(a.Severity.weight(), b.Severity.weight()), strings.Compare(a.ID, b.ID),
			strings.Compare(a.Package, b.Package), strings.Compare(a.Version, b.Version), strings.Compare(a.place, b.place),
			strings.Compare(a.FixedIn, b.FixedIn))
	})
	type key struct{ id, pkg, version, place string }
	seen := make(map[key]bool, len(findings))
	out := make([]finding, 0, len(findings))
	for _, f := range findings {
		if f.ID == "" {
			return nil, fmt.Errorf("%w: a finding has no identifier", ErrReport)
		}
		if k := (key{f.ID, f.Package, f.Version, f.place}); !seen[k] {
			seen[k] = true
			out = append(out, f)
		}
	}
	if len(out) > limits.Findings {
		return nil, fmt.Errorf("%w: more than %d findings", ErrReport, limits.Findings)
	}
	return out, nil
}
