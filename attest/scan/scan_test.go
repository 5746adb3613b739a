package scan_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sigstore/cosign/v2/pkg/cosign/attestation"

	"github.com/countersign/countersign/attest/predicate"
	"github.com/countersign/countersign/attest/scan"
	"github.com/countersign/countersign/internal/limits"
)

var update = flag.Bool("update", false, "write the golden files")

// now is after all reports' times.
var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func reports(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "*.json"))
	if err != nil || len(files) < 7 {
		t.Fatal(files, err)
	}
	return files
}

func read(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestVulnGolden(t *testing.T) {
	for _, file := range reports(t) {
		got, err := scan.Vuln([]byte(read(t, file)), now)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, got, "", "  "); err != nil {
			t.Fatal(err)
		}
		pretty.WriteByte('\n')
		golden := strings.TrimSuffix(file, ".json") + ".golden"
		if *update {
			if err := os.WriteFile(golden, pretty.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(read(t, golden), pretty.String()); diff != "" {
			t.Errorf("%s: %s", file, diff)
		}
	}
}

// Cosign's own type reads what we write.
func TestVulnIsCosigns(t *testing.T) {
	for _, file := range reports(t) {
		got, err := scan.Vuln([]byte(read(t, file)), now)
		if err != nil {
			t.Fatal(err)
		}
		var theirs attestation.CosignVulnPredicate
		if err := json.Unmarshal(got, &theirs); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		if theirs.Scanner.URI == "" || theirs.Scanner.Result == nil || theirs.Metadata.ScanFinishedOn.IsZero() {
			t.Errorf("%s: %+v", file, theirs)
		}
		if err := predicate.Check(predicate.CosignVuln, got); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

type record struct {
	Scanner struct {
		Result struct {
			Critical, High, Medium, Low, Negligible, Unknown, Total, Ignored int
			Vulnerabilities                                                  []struct{ ID, Severity, Package, Version, FixedIn string }
		}
	}
	Metadata struct{ ScanStartedOn, ScanFinishedOn time.Time }
}

func vuln(t testing.TB, report string, at time.Time) record {
	t.Helper()
	b, err := scan.Vuln([]byte(report), at)
	if err != nil {
		t.Fatalf("%v\n%.200s", err, report)
	}
	var r record
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// Silence is not a clean result. Each case edits a good report once.
func TestVulnRefuses(t *testing.T) {
	const results = `"results": [`
	tests := []struct{ name, file, old, new string }{
		{"other schema version", "trivy", `"SchemaVersion": 2`, `"SchemaVersion": 1`},
		{"no schema version", "trivy", `"SchemaVersion": 2,`, ``},
		{"schema version of another type", "trivy", `"SchemaVersion": 2`, `"SchemaVersion": "2"`},
		{"no results", "trivy", `"Results"`, `"Outcome"`},
		{"null results", "trivy", `"Results": [`, `"Results": null, "x": [`},
		{"empty results", "trivy", `"Results": [`, `"Results": [], "x": [`},
		{"results of another type", "trivy", `"Results": [`, `"Results": "none", "x": [`},
		{"only secrets were scanned", "trivy-clean-old", `"os-pkgs"`, `"secret"`},
		{"finding without id", "trivy", `"VulnerabilityID": "GHSA-aaaa-bbbb-cccc", `, ``},
		{"ignored finding without id", "trivy", `"VulnerabilityID": "CVE-2026-33333",`, ``},
		{"of two forms", "trivy", `{`, `{"runs": [],`},
		{"of two forms", "trivy", `{`, `{"matches": [],`},
		{"of two forms", "grype", `{`, `{"runs": [],`},
		{"from the future", "trivy", `2026-11-20T09:30:00.123456789Z`, `2026-12-20T09:30:00Z`},
		{"no time", "trivy", `2026-11-20T09:30:00.123456789Z`, `last week`},
		{"no matches", "grype", `"matches"`, `"found"`},
		{"null matches", "grype", `"matches": [`, `"matches": null, "x": [`},
		{"another scanner", "grype", `"name": "grype"`, `"name": "grope"`},
		{"no descriptor", "grype", `"descriptor"`, `"x"`},
		{"invalid database", "grype", `"valid": true`, `"valid": false`},
		{"broken database", "grype-clean-old", `"error": null`, `"error": "database is corrupt"`},
		{"broken database", "grype-clean-old", `"error": null`, `"error": {}`},
		{"other version", "sarif-other", `"2.1.0"`, `"2.0.0"`},
		{"no version", "sarif-other", `"version"`, `"x"`},
		{"no runs", "sarif-other", `"runs": [`, `"runs": [], "x": [`},
		{"two runs", "sarif-other", `"runs": [`, `"runs": [{},`},
		{"no tool", "sarif-other", `"name": "Acme Scanner"`, `"name": ""`},
		{"no results", "sarif-other", `"results"`, `"x"`},
		{"null results", "sarif-other", results, `"results": null, "x": [`},
		{"failed", "sarif-other", `"executionSuccessful": true`, `"executionSuccessful": false`},
		{"noted an error", "sarif-other", `"level": "warning", "message": { "text": "slow" }`, `"level": "error"`},
		{"ended before it began", "sarif-other", `09:29:00Z`, `09:39:00Z`},
		{"result without rule", "sarif-other", results, results + `{"message": {}},`},
		{"rule out of range", "sarif-other", results, results + `{"ruleIndex": 2},`},
		{"rule out of range", "sarif-other", results, results + `{"ruleIndex": -1},`},
		{"level of another type", "sarif-other", `"level": "none"`, `"level": 0`},
		{"duplicate name", "trivy", `"Results"`, `"Results": [], "Results"`},
		{"too deep", "trivy", `{`, `{"x":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `,`},
		{"cut short", "grype", "\n}\n", ``},
	}
	for _, tt := range tests {
		text := read(t, filepath.Join("testdata", tt.file+".json"))
		edited := strings.Replace(text, tt.old, tt.new, 1)
		if edited == text {
			t.Fatalf("%s: no %q", tt.file, tt.old)
		}
		if got, err := scan.Vuln([]byte(edited), now); !errors.Is(err, scan.ErrReport) || got != nil {
			t.Errorf("%s, %s: %v\n%s", tt.file, tt.name, err, got)
		}
	}
	for _, text := range []string{
		"", "null", "[]", "{}", `"clean"`, `{"Results":[]}`, `{"vulnerabilities":[]}`, `[{"Target":"x","Vulnerabilities":null}]`,
		`{"bomFormat":"CycloneDX","specVersion":"1.6","vulnerabilities":[]}`, `{"scanner":{"result":{}},"metadata":{}}`,
		`{"SchemaVersion":null,"runs":null}`, "CVE-2026-1 HIGH", `{"SchemaVersion":2}`,
		`{"SchemaVersion":2,"x":"` + strings.Repeat("x", limits.ScanReport) + `"}`,
	} {
		if got, err := scan.Vuln([]byte(text), now); !errors.Is(err, scan.ErrReport) || got != nil {
			t.Errorf("%.40s: %v", text, err)
		}
	}
}

func TestVulnTimes(t *testing.T) {
	sarif := func(invocation string) string {
		return `{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"x"}},"invocations":[` + invocation + `],"results":[]}]}`
	}
	ten, eleven := now.Add(-2*time.Hour), now.Add(-time.Hour)
	for report, want := range map[string][2]time.Time{
		sarif(``): {now, now},
		sarif(`{"startTimeUtc":"2026-11-24T10:00:00Z"}`):                                            {ten, ten},
		sarif(`{"endTimeUtc":"2026-11-24T11:00:00Z"}`):                                              {eleven, eleven},
		sarif(`{"endTimeUtc":"2026-11-24T11:00:00Z"},{"startTimeUtc":"2026-11-24T12:00:00+02:00"}`): {ten, eleven},
		read(t, "testdata/trivy-clean-old.json"):                                                    {now, now},
	} {
		r := vuln(t, report, now)
		if !r.Metadata.ScanStartedOn.Equal(want[0]) || !r.Metadata.ScanFinishedOn.Equal(want[1]) {
			t.Errorf("%s: %v", report, r.Metadata)
		}
	}
	future := sarif(`{"endTimeUtc":"2026-11-24T12:00:59Z"}`)
	if r := vuln(t, future, now); !r.Metadata.ScanFinishedOn.After(now) {
		t.Errorf("%v", r.Metadata)
	}
	if _, err := scan.Vuln([]byte(future), now.Add(-time.Minute)); !errors.Is(err, scan.ErrReport) {
		t.Errorf("a scan of the future: %v", err)
	}
}

// Scores follow the bands of CVSS v3.1; what is no score is unknown, never
// nothing.
func TestVulnScores(t *testing.T) {
	for score, want := range map[string]string{
		`"10.0"`: "critical", `9`: "critical", `"9.0"`: "critical", `"8.9"`: "high", `7.0`: "high", `"6.9"`: "medium", `4`: "medium",
		`"3.9"`: "low", `0.1`: "low", `0`: "unknown", `"0.0"`: "unknown", `"11"`: "unknown", `-1`: "unknown", `"NaN"`: "unknown", `"Inf"`: "unknown",
		`""`: "unknown", `"high"`: "unknown", `true`: "unknown", `[]`: "unknown", `{}`: "unknown", `null`: "high",
	} {
		report := `{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"x"}},"results":[{"ruleId":"A","level":"error","properties":{"security-severity":` + score + `}}]}]}`
		if r := vuln(t, report, now).Scanner.Result; len(r.Vulnerabilities) != 1 || r.Total != 1 || r.Vulnerabilities[0].Severity != want {
			t.Errorf("%s: %+v", score, r)
		}
	}
	for word, want := range map[string]string{"CRITICAL": "critical", "High": "high", " low ": "low", "Negligible": "negligible", "UNKNOWN": "unknown", "": "unknown", "severe": "unknown"} {
		report := `{"SchemaVersion":2,"Results":[{"Vulnerabilities":[{"VulnerabilityID":"A","Severity":"` + word + `"}]}]}`
		if r := vuln(t, report, now).Scanner.Result; len(r.Vulnerabilities) != 1 || r.Vulnerabilities[0].Severity != want {
			t.Errorf("%s: %+v", word, r)
		}
	}
}

// Of a finding that is there twice the graver stays.
func TestVulnCountsOnce(t *testing.T) {
	report := `{"SchemaVersion":2,"Results":[{"Vulnerabilities":[
		{"VulnerabilityID":"A","PkgName":"p","InstalledVersion":"1","Severity":"LOW"},{"VulnerabilityID":"A","PkgName":"p","InstalledVersion":"1","Severity":"HIGH"},
		{"VulnerabilityID":"A","PkgName":"p","InstalledVersion":"1","Severity":""},{"VulnerabilityID":"A","PkgName":"p","InstalledVersion":"2","Severity":"LOW"}]}]}`
	if r := vuln(t, report, now).Scanner.Result; r.Total != 2 || r.High != 1 || r.Low != 1 || r.Unknown != 0 {
		t.Errorf("%+v", r)
	}
}

func TestVulnBoundsFindings(t *testing.T) {
	many := func(n int) []byte {
		var b strings.Builder
		b.WriteString(`{"SchemaVersion":2,"Results":[{"Vulnerabilities":[`)
		for i := range n {
			fmt.Fprintf(&b, `{"VulnerabilityID":"CVE-%d"},`, i)
		}
		return []byte(strings.TrimSuffix(b.String(), ",") + `]}]}`)
	}
	if _, err := scan.Vuln(many(limits.Findings), now); err != nil {
		t.Error(err)
	}
	if _, err := scan.Vuln(many(limits.Findings+1), now); !errors.Is(err, scan.ErrReport) {
		t.Error(err)
	}
}

// What is taken gives a record that may be signed, whose numbers add up.
func FuzzVuln(f *testing.F) {
	for _, file := range reports(f) {
		f.Add([]byte(read(f, file)))
	}
	f.Add([]byte(`{"SchemaVersion":2,"Results":[{"Vulnerabilities":[{"VulnerabilityID":"\ud83d\ude00"}]}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<16 {
			return
		}
		got, err := scan.Vuln(b, now)
		if err != nil {
			if !errors.Is(err, scan.ErrReport) || got != nil {
				t.Fatal(err)
			}
			return
		}
		again, err := scan.Vuln(b, now)
		if err != nil || !bytes.Equal(got, again) {
			t.Fatal("other bytes for the same report")
		}
		if err := predicate.Check(predicate.CosignVuln, got); err != nil {
			t.Fatal(err)
		}
		r := vuln(t, string(b), now)
		n := r.Scanner.Result
		if n.Total != len(n.Vulnerabilities) || n.Total != n.Critical+n.High+n.Medium+n.Low+n.Negligible+n.Unknown {
			t.Fatalf("%+v", n)
		}
		if r.Metadata.ScanStartedOn.After(r.Metadata.ScanFinishedOn) || r.Metadata.ScanFinishedOn.After(now.Add(limits.ClockSkew)) {
			t.Fatalf("%+v", r.Metadata)
		}
	})
}
