package scan

import "fmt"

// trivyReport is Trivy's JSON (pkg/types/report.go of Trivy).
type trivyReport struct {
	SchemaVersion int    `json:"SchemaVersion"`
	CreatedAt     string `json:"CreatedAt"`
	Trivy         struct {
		Version string `json:"Version"`
	} `json:"Trivy"`
	Results []trivyResult `json:"Results"`
}

type trivyResult struct {
	Class           string         `json:"Class"`
	Vulnerabilities []trivyFinding `json:"Vulnerabilities"`
	// Modified are findings that an ignore file or a VEX document took out.
	Modified []struct {
		Type    string       `json:"Type"`
		Finding trivyFinding `json:"Finding"`
	} `json:"ExperimentalModifiedFindings"`
}

type trivyFinding struct {
	VulnerabilityID  string `json:"VulnerabilityID"`
	PkgName          string `json:"PkgName"`
	InstalledVersion string `json:"InstalledVersion"`
	FixedVersion     string `json:"FixedVersion"`
	Severity         string `json:"Severity"`
}

func (f trivyFinding) finding() finding {
	return finding{ID: f.VulnerabilityID, Severity: severityOf(f.Severity), Package: f.PkgName, Version: f.InstalledVersion, FixedIn: f.FixedVersion}
}

// readTrivy reads Trivy's JSON. A report must name at least one set of packages
// that was looked into: Trivy leaves Results out when it found nothing to scan,
// and a scan for secrets alone has other classes.
func readTrivy(b []byte) (*report, error) {
	var w trivyReport
	if err := decode(b, "Trivy's JSON", &w); err != nil {
		return nil, err
	}
	if w.SchemaVersion != 2 {
		return nil, fmt.Errorf("%w: Trivy's JSON has SchemaVersion %d; want 2", ErrReport, w.SchemaVersion)
	}
	created, err := moment(w.CreatedAt)
	if err != nil {
		return nil, err
	}
	r := &report{scanner: trivy(w.Trivy.Version), started: created, finished: created}
	scanned := false
	for _, result := range w.Results {
		scanned = scanned || result.Class == "os-pkgs" || result.Class == "lang-pkgs"
		for _, f := range result.Vulnerabilities {
			scanned = true
			r.findings = append(r.findings, f.finding())
		}
		for _, m := range result.Modified {
			if m.Type == "vulnerability" {
				r.ignored = append(r.ignored, m.Finding.finding())
			}
		}
	}
	if !scanned {
		return nil, fmt.Errorf("%w: Trivy found no packages to scan, so it says nothing of vulnerabilities", ErrReport)
	}
	return r, nil
}

// trivy names the scanner as Trivy does in its own vulnerability records.
func trivy(version string) scanner {
	return scanner{uri: withVersion("pkg:github/aquasecurity/trivy", version), version: version}
}

func withVersion(purl, version string) string {
	if version == "" {
		return purl
	}
	return purl + "@" + version
}
