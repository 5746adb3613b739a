//go:build !interop && !kubernetes && !soak

package storetest

import "testing"

func startPostgres(t testing.TB) string {
	t.Helper()
	t.Skipf("NOT RUN against PostgreSQL: `make interop` starts a server of its own, or set %s to a postgres:// URL", PostgresVariable)
	return ""
}
