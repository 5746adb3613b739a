package examiner_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/countersign/countersign/daemon"
	"github.com/countersign/countersign/internal/localregistry"
	"github.com/countersign/countersign/store/storetest"
	"github.com/countersign/countersign/trust"
)

// TestInteropPostgres: the same over a PostgreSQL database, whose journal is
// missed when the database is not named.
func TestInteropPostgres(t *testing.T) {
	ctx := context.Background()
	address := storetest.PostgresSchema(t, storetest.Postgres(t))
	dir := filepath.Join(t.TempDir(), "data")
	registry, err := localregistry.Start(ctx, localregistry.Options{})
	check(t, err)
	t.Cleanup(func() { registry.Close() })
	c := config(dir)
	c.Database = address
	s := serveOver(t, c, registry)
	s.trust()
	s.sign("first")
	s.close()
	raw := readFile(t, filepath.Join(dir, "trusted_root.json"))
	root, err := trust.ParseTrustedRoot(raw)
	check(t, err)
	report, err := daemon.Examine(ctx, daemon.ExamineConfig{DataDir: dir, Database: address, Logs: root.Logs})
	check(t, err)
	if !report.Sound() || report.Counts.Operations != 1 || report.Counts.Records == 0 {
		t.Errorf("%+v", report)
	}
	without, err := daemon.Examine(ctx, daemon.ExamineConfig{DataDir: dir, Logs: root.Logs})
	check(t, err)
	if !tells(without, "log entry", "which the journal does not have") {
		t.Errorf("without its database: %+v", without.Problems)
	}
}
