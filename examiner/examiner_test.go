package examiner_test

import (
	"testing"
)

// TestSound is the positive control of everything here: a folder in which much
// happened proves.
func TestSound(t *testing.T) {
	w := sharedWorld(t)
	for name, dir := range map[string]string{"now": w.dir, "older": w.older} {
		report := examine(t, dir)
		if !report.Sound() || len(report.NotChecked) > 0 {
			t.Errorf("%s: %+v", name, report)
		}
		c := report.Counts
		if c.Leaves == 0 || c.Behind != 0 || c.Records == 0 || c.Anchors == 0 || c.Uncovered != 0 || c.Operations == 0 || c.Unsealed != 0 || c.Bundles == 0 || c.Objects == 0 {
			t.Errorf("%s: %+v", name, c)
		}
		t.Logf("%s: %d entries, %+v", name, report.Size, c)
	}
}
