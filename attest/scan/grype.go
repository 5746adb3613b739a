package scan

import (
	"fmt"
	"strings"
)

// grypeReport is Grype's JSON (grype/presenter/models/document.go of Grype).
type grypeReport struct {
	// Matches is nil when the member is not there.
	Matches        []grypeMatch `json:"matches"`
	IgnoredMatches []grypeMatch `json:"ignoredMatches"`
	Descriptor     struct {
		Name      string  `json:"name"`
		Version   string  `json:"version"`
		Timestamp string  `json:"timestamp"`
		DB        grypeDB `json:"db"`
	} `json:"descriptor"`
}

type grypeMatch struct {
	Vulnerability struct {
		ID       string `json:"id"`
		Severity string `json:"severity"`
		Fix      struct {
			Versions []string `json:"versions"`
		} `json:"fix"`
	} `json:"vulnerability"`
	Artifact struct {
		Name    string `json:"name"`
		Version string `json:"version"`
	} `json:"artifact"`
}

// grypeDB has the facts of the database itself up to version 5 of its schema,
// and below status from version 6.
type grypeDB struct {
	grypeDBStatus
	Status *grypeDBStatus `json:"status"`
}

type grypeDBStatus struct {
	Built         string `json:"built"`
	SchemaVersion any    `json:"schemaVersion"`
	From          string `json:"from"`
	Valid         *bool  `json:"valid"`
	Error         any    `json:"error"`
}

func (m grypeMatch) finding() finding {
	return finding{
		ID: m.Vulnerability.ID, Severity: severityOf(m.Vulnerability.Severity),
		Package: m.Artifact.Name, Version: m.Artifact.Version, FixedIn: strings.Join(m.Vulnerability.Fix.Versions, ", "),
	}
}

// readGrype reads Grype's JSON. A report by a database that Grype itself calls
// broken is refused.
func readGrype(b []byte) (*report, error) {
	var w grypeReport
	if err := decode(b, "Grype's JSON", &w); err != nil {
		return nil, err
	}
	db := w.Descriptor.DB.grypeDBStatus
	if w.Descriptor.DB.Status != nil {
		db = *w.Descriptor.DB.Status
	}
	switch {
	case w.Descriptor.Name != "grype":
		return nil, fmt.Errorf("%w: its descriptor does not name grype; %s", ErrReport, wanted)
	case w.Matches == nil:
		return nil, fmt.Errorf("%w: Grype's JSON has no list of matches, so it says nothing of vulnerabilities", ErrReport)
	case db.Error != nil && db.Error != "", db.Valid != nil && !*db.Valid:
		return nil, fmt.Errorf("%w: Grype says its database was not valid", ErrReport)
	}
	taken, err := moment(w.Descriptor.Timestamp)
	if err != nil {
		return nil, err
	}
	built, err := moment(db.Built)
	if err != nil {
		return nil, err
	}
	r := &report{scanner: grype(w.Descriptor.Version), started: taken, finished: taken}
	r.scanner.dbURI = db.From
	if db.SchemaVersion != nil {
		r.scanner.dbVersion = fmt.Sprint(db.SchemaVersion)
	}
	if !built.IsZero() {
		r.scanner.dbUpdated = stamp(built)
	}
	for _, m := range w.Matches {
		r.findings = append(r.findings, m.finding())
	}
	for _, m := range w.IgnoredMatches {
		r.ignored = append(r.ignored, m.finding())
	}
	return r, nil
}

// grype names the scanner by its release, whose tag has a v.
func grype(version string) scanner {
	tag := version
	if tag != "" && !strings.HasPrefix(tag, "v") {
		tag = "v" + tag
	}
	return scanner{uri: withVersion("pkg:github/anchore/grype", tag), version: version}
}
