package witness_test

import (
	"errors"
	"testing"

	"github.com/countersign/countersign/tlog/witness"
)

// FuzzParseLogs: no list is read in part.
func FuzzParseLogs(f *testing.F) {
	f.Add("# logs\nlog sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8 https://sum.golang.org\n")
	f.Add("log\n")
	f.Fuzz(func(t *testing.T, list string) {
		logs, err := witness.ParseLogs(list)
		if err != nil && (logs != nil || !errors.Is(err, witness.ErrConfig)) {
			t.Fatalf("%d logs, %v", len(logs), err)
		}
	})
}
