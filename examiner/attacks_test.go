package examiner_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"

	"github.com/countersign/countersign/examiner"
	"github.com/countersign/countersign/server/api"
)

// TestDeliberate: what somebody with the whole database would do, with all
// hashes in it made right again.
func TestDeliberate(t *testing.T) {
	if testing.Short() {
		t.Skip("nothing in it runs at once, and short runs look for races")
	}
	w := sharedWorld(t)
	for name, c := range map[string]struct {
		harm func(*testing.T, *sql.DB)
		// where and what are of one of the problems.
		where, what string
	}{
		"an edited audit record": {func(t *testing.T, db *sql.DB) {
			do(t, db, `UPDATE chain SET body = CAST(replace(CAST(body AS TEXT), 'local admin', 'local other') AS BLOB) WHERE sequence = 9`)
		}, "audit record 9", "its hash is not that of its content"},
		"a deleted row":     {func(t *testing.T, db *sql.DB) { do(t, db, `DELETE FROM chain WHERE sequence = 9`) }, "audit record 9", "missing"},
		"a rewritten chain": {func(t *testing.T, db *sql.DB) { rewrite(t, db, 9) }, "audit record 9", "it is not the one that log entry"},
		"a rewritten chain and its anchors": {func(t *testing.T, db *sql.DB) {
			rewrite(t, db, 9)
			do(t, db, `UPDATE anchors SET hash = (SELECT hash FROM chain WHERE chain.sequence = anchors.sequence)`)
		}, "log entry", "it tells of an audit record with the hash"},
		"a rewritten chain without its anchors": {func(t *testing.T, db *sql.DB) {
			rewrite(t, db, 9)
			do(t, db, `DELETE FROM anchors WHERE sequence >= 9`)
		}, "log entry", "which the journal does not have"},
		"a truncated chain": {func(t *testing.T, db *sql.DB) { truncate(t, db, 30) }, "audit record", "tells of it"},
		"a truncated chain and its anchors": {func(t *testing.T, db *sql.DB) {
			truncate(t, db, 30)
			do(t, db, `DELETE FROM anchors WHERE sequence > 30`)
		}, "log entry", "which the journal does not have"},
		"a deleted anchor of a head": {func(t *testing.T, db *sql.DB) {
			do(t, db, `DELETE FROM anchors WHERE sequence = 20`)
		}, "anchor of audit record 20", "missing: log entry"},
		"a deleted operation with all of its bundles": {func(t *testing.T, db *sql.DB) {
			do(t, db, `DELETE FROM bundles WHERE operation = (SELECT MIN(id) FROM operations)`)
			do(t, db, `DELETE FROM operations WHERE id = (SELECT MIN(id) FROM operations)`)
		}, "operation ", "missing"},
		"another bundle for an operation": {func(t *testing.T, db *sql.DB) {
			do(t, db, `INSERT INTO bundles SELECT 'zz', digest, repository || 'x', format, predicate_type, key_id, signer, log_index, operation, body, body_hash, created_at
				FROM bundles WHERE operation <> '' LIMIT 1`)
		}, "kept bundle zz", "did not make it"},
		"a policy that nobody wrote": {func(t *testing.T, db *sql.DB) {
			do(t, db, `INSERT INTO objects SELECT kind, 'mine', alias, 1, body, created_at, updated_at FROM objects WHERE kind = 'policy'`)
		}, "policy/mine", "no audit record tells of it"},
		"a token with another role": {func(t *testing.T, db *sql.DB) {
			do(t, db, `UPDATE objects SET body = CAST(replace(CAST(body AS TEXT), 'auditor', 'admin') AS BLOB) WHERE kind = 'token' AND name = 'reader'`)
		}, "token/reader", "it is not what the audit journal tells of"},
		// Row J1: an older policy that was valid is put back, body and revision,
		// and so is a key from before it was revoked.
		"an older policy": {func(t *testing.T, db *sql.DB) { older(t, db, w, "policy", "managed") }, "policy/managed", "revision 1 is not what the audit journal tells of, which is revision 2"},
		"an older policy under the newest revision": {func(t *testing.T, db *sql.DB) {
			older(t, db, w, "policy", "managed")
			do(t, db, `UPDATE objects SET revision = 2 WHERE kind = 'policy'`)
		}, "policy/managed", "revision 2 is not what"},
		"an older key": {func(t *testing.T, db *sql.DB) { older(t, db, w, "key", "spare") }, "key/spare", "revision 1 is not"},
		// The controls: nothing, and what is not protected.
		"nothing":              {func(*testing.T, *sql.DB) {}, "", ""},
		"a deleted decision":   {func(t *testing.T, db *sql.DB) { do(t, db, `DELETE FROM decisions`) }, "", ""},
		"another display date": {func(t *testing.T, db *sql.DB) { do(t, db, `UPDATE objects SET updated_at = 1 WHERE kind = 'policy'`) }, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			copyFolder(t, w.dir, dir)
			db, err := sql.Open("sqlite3", "file:"+filepath.Join(dir, "countersign.db")+"?_pragma=busy_timeout(5000)")
			check(t, err)
			c.harm(t, db)
			check(t, db.Close())
			report := examine(t, dir)
			if c.where == "" {
				if !report.Sound() {
					t.Errorf("%+v", report.Problems)
				}
				return
			}
			if !tells(report, c.where, c.what) {
				t.Errorf("want %q: %q; have %+v", c.where, c.what, report.Problems)
			}
		})
	}
}

func tells(report examiner.Report, where, what string) bool {
	for _, p := range report.Problems {
		if strings.Contains(p.Where, where) && strings.Contains(p.What, what) {
			return true
		}
	}
	return false
}

func do(t *testing.T, db *sql.DB, query string, args ...any) {
	t.Helper()
	result, err := db.ExecContext(context.Background(), query, args...)
	check(t, err)
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		t.Fatalf("%s: %d rows, %v", query, n, err)
	}
}

// rewrite edits a record and computes every hash from there on anew.
func rewrite(t *testing.T, db *sql.DB, from int64) {
	t.Helper()
	ctx := context.Background()
	var last int64
	check(t, db.QueryRowContext(ctx, "SELECT MAX(sequence) FROM chain").Scan(&last))
	var hash []byte
	check(t, db.QueryRowContext(ctx, "SELECT hash FROM chain WHERE sequence = ?", from-1).Scan(&hash))
	for n := from; n <= last; n++ {
		var body []byte
		check(t, db.QueryRowContext(ctx, "SELECT body FROM chain WHERE sequence = ?", n).Scan(&body))
		var record map[string]any
		check(t, json.Unmarshal(body, &record))
		record["previousHash"] = hex.EncodeToString(hash)
		if n == from {
			record["actor"] = "somebody else"
		}
		plain, err := json.Marshal(record)
		check(t, err)
		body, err = jsoncanonicalizer.Transform(plain)
		check(t, err)
		sum := sha256.Sum256(body)
		hash = sum[:]
		do(t, db, "UPDATE chain SET body = ?, hash = ? WHERE sequence = ?", body, hash, n)
	}
	do(t, db, "UPDATE chain_head SET hash = ?", hash)
}

// truncate removes the end of the chain and moves the head.
func truncate(t *testing.T, db *sql.DB, last int64) {
	t.Helper()
	do(t, db, "DELETE FROM chain WHERE sequence > ?", last)
	do(t, db, "UPDATE chain_head SET sequence = ?, hash = (SELECT hash FROM chain WHERE sequence = ?)", last, last)
}

// older puts an object's row of the older copy in the place of today's.
func older(t *testing.T, db *sql.DB, w world, kind, name string) {
	t.Helper()
	before, err := sql.Open("sqlite3", "file:"+filepath.Join(w.older, "countersign.db"))
	check(t, err)
	defer func() { check(t, before.Close()) }()
	var body []byte
	var revision int64
	check(t, before.QueryRowContext(context.Background(), "SELECT body, revision FROM objects WHERE kind = ? AND name = ?", kind, name).Scan(&body, &revision))
	do(t, db, "UPDATE objects SET body = ?, revision = ? WHERE kind = ? AND name = ?", body, revision, kind, name)
}

// TestKeptOutside: an insider with the master key makes a journal of their
// own, keys and all; a kept journal.pem finds it. A checkpoint that was kept
// finds the log that was set back.
func TestKeptOutside(t *testing.T) {
	w := sharedWorld(t)
	dir := filepath.Join(t.TempDir(), "data")
	copyFolder(t, w.dir, dir)
	check(t, os.Remove(filepath.Join(dir, "master.key")))
	other, err := os.ReadFile(filepath.Join(w.older, "journal.pem"))
	check(t, err)
	if report := examine(t, dir); !report.Sound() || len(report.NotChecked) != 1 {
		t.Errorf("a copy without the master key: %+v, not checked %v", report.Problems, report.NotChecked)
	}
	check(t, os.WriteFile(filepath.Join(dir, "journal.pem"), other, 0o600)) // without the second key
	if report := examine(t, dir); !tells(report, "anchor of audit record", "no key of the journal signed it") {
		t.Errorf("a key that is not the journal's: %+v", report.Problems)
	}
}

// TestSecretsStayOut is row K1: canaries in every secret that a caller hands in
// or is given are in no audit record, no log entry and no row of the database
// in the open. The control finds a word that is no secret.
func TestSecretsStayOut(t *testing.T) {
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "data")
	s := serve(t, dir)
	s.trust()
	canaries := map[string]string{}
	for i := range 20 {
		canaries[fmt.Sprint("password ", i)] = fmt.Sprintf("canary-password-%02d", i)
		canaries[fmt.Sprint("token ", i)] = fmt.Sprintf("canary-token-%02d", i)
		_, err := s.admin.PutRegistry(ctx, fmt.Sprintf("r%d.example.com", i), api.RegistryRequest{
			Repositories: []string{"**"}, Credentials: &api.Credentials{Username: "plain-user", Password: canaries[fmt.Sprint("password ", i)]},
		}, api.PutOptions{})
		check(t, err)
		_, err = s.admin.PutRegistry(ctx, fmt.Sprintf("t%d.example.com", i), api.RegistryRequest{
			Repositories: []string{"**"}, Credentials: &api.Credentials{Token: canaries[fmt.Sprint("token ", i)]},
		}, api.PutOptions{})
		check(t, err)
		made, err := s.admin.CreateToken(ctx, api.TokenRequest{Name: fmt.Sprint("made-", i), Roles: []string{"verifier"}})
		check(t, err)
		canaries[fmt.Sprint("made ", i)] = made.Secret
	}
	s.sign("first")
	s.close()
	master, err := os.ReadFile(filepath.Join(dir, "master.key"))
	check(t, err)
	canaries["master key"] = strings.TrimSpace(string(master))
	admin, err := os.ReadFile(filepath.Join(dir, "admin.token"))
	check(t, err)
	canaries["admin token"] = strings.TrimSpace(string(admin))
	stored := everything(t, dir)
	if !bytes.Contains(stored, []byte("r0.example.com")) || !bytes.Contains(stored, []byte("hashedRekordV002")) {
		t.Fatal("control: the journal or the log is not among what is searched")
	}
	for name, secret := range canaries {
		for how, form := range map[string]string{
			"as it is": secret, "base64": base64.StdEncoding.EncodeToString([]byte(secret)), "hexadecimal": hex.EncodeToString([]byte(secret)),
		} {
			if bytes.Contains(stored, []byte(form)) {
				t.Errorf("%s is stored %s", name, how)
			}
		}
	}
}

// everything is the database and the files of the log.
func everything(t *testing.T, dir string) (all []byte) {
	t.Helper()
	check(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "master.key" || d.Name() == "admin.token" {
			return err
		}
		raw, err := os.ReadFile(path)
		all = append(all, raw...)
		return err
	}))
	return all
}
