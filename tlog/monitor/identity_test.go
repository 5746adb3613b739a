package monitor_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/countersign/countersign/internal/testauthority"
	"github.com/countersign/countersign/tlog"
	"github.com/countersign/countersign/tlog/monitor"
)

const actions = "https://token.actions.githubusercontent.com"

// certified is an entry of a signature by whoever a certificate names.
func certified(t testing.TB, ca *testauthority.CA, issuer, subject string) []byte {
	t.Helper()
	key := testauthority.NewECDSA(t)
	certificate := ca.Issue(key.Public(), testauthority.CertificateRequest{Issuer: issuer, Subject: subject, At: time.Now()})
	message := []byte(subject)
	body, err := tlog.HashedRekordV002Certificate(certificate, message, testauthority.SignP256(t, key, message))
	must(t, err)
	return body
}

// TestWatchIdentities: whoever is not expected is told, also who only looks
// alike (row E2: a pattern is the whole subject, an issuer is exact); those who
// are expected, by name and by pattern, are the control.
func TestWatchIdentities(t *testing.T) {
	ca := testauthority.NewCA(t, testauthority.CAOptions{})
	const watch = `
identities:
  expected:
    - issuer: https://token.actions.githubusercontent.com
      subjectRegexp: https://github\.com/acme/[a-z]+/release\.yml@refs/heads/main
    - issuer: https://accounts.example.com
      subject: https://people.example.com/alice
  forbidden:
    - issuer: https://accounts.example.com
      subject: https://people.example.com/mallory
`
	s := newServed(t).add(
		certified(t, ca, actions, "https://github.com/acme/app/release.yml@refs/heads/main"),
		certified(t, ca, "https://accounts.example.com", "https://people.example.com/alice"))
	w := newWatched(t, s, watch)
	w.expect("control")
	for _, test := range []struct {
		issuer, subject string
		want            monitor.Kind
	}{
		{actions, "https://github.com/acme/app/release.yml@refs/heads/other", monitor.UnexpectedIdentity},
		{actions, "https://github.com/acme/app/release.yml@refs/heads/main/evil", monitor.UnexpectedIdentity},
		{actions, "https://evil.example.com/https://github.com/acme/app/release.yml@refs/heads/main", monitor.UnexpectedIdentity},
		{actions + ".evil.example.com", "https://github.com/acme/app/release.yml@refs/heads/main", monitor.UnexpectedIdentity},
		{actions, "https://people.example.com/alice", monitor.UnexpectedIdentity},
		{"https://accounts.example.com", "https://people.example.com/mallory", monitor.ForbiddenIdentity},
	} {
		s.add(certified(t, ca, test.issuer, test.subject))
		w.expect(test.subject, test.want)
		if len(w.told) == 1 && (w.told[0].Issuer != test.issuer || w.told[0].Subject != test.subject) {
			t.Errorf("%s: %+v", test.subject, w.told[0])
		}
	}
	// Keys are not watched here.
	key, _ := newKey(t)
	s.add(signed(t, key), certified(t, ca, actions, "https://github.com/acme/app/release.yml@refs/heads/main"))
	w.expect("control after all", []monitor.Kind{}...)
	if got := fmt.Sprint(w.pass()); got != "[]" {
		t.Errorf("again: %s", got)
	}
}
