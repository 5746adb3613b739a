package verifier_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign/countersign/attest/predicate"
	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/testauthority"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/verifier"
)

// Large attestations are judged a few at a time, whether they pass or not, and
// every question gets its answer: a place is always given back.
func TestLargeRounds(t *testing.T) {
	w := attested(t, `{attestation: {predicateType: custom, by: release, condition: "predicate.Timestamp == ''"}}`)
	text, err := json.Marshal(strings.Repeat("x", limits.LargeRound))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]policy.Verdict{}
	for i := range limits.LargeRounds {
		digest, image := w.image(fmt.Sprint("large", i))
		statement := testauthority.Attested(digest, predicate.CosignCustom, fmt.Sprintf(`{"Data":%s,"Timestamp":""}`, text))
		want[image] = policy.Passed
		if i%2 == 1 { // of another image
			other, _ := w.image("other")
			statement = testauthority.Attested(other, predicate.CosignCustom, fmt.Sprintf(`{"Data":%s,"Timestamp":""}`, text))
			want[image] = policy.Failed
		}
		w.attachStatement([]string{"bundle", "att"}[i/2%2], digest, statement, w.signedAt)
	}
	var wg sync.WaitGroup
	for question := range 4 * limits.LargeRounds {
		for image, verdict := range want {
			wg.Go(func() {
				answer, err := w.Verify(t.Context(), verifier.Request{
					Images: []string{image}, Context: map[string]string{"question": fmt.Sprint(question)},
					Timeout: 30 * time.Second, Caller: identity.Identity{Issuer: identity.Local, Subject: "test"},
				})
				if err != nil || answer.Verdict != verdict {
					t.Errorf("%s: %s, %v; want %s", image, answer.Verdict, err, verdict)
				}
			})
		}
	}
	wg.Wait()
}
