package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
	"github.com/countersign/countersign/server/api"
)

const (
	oneDigest   = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	otherDigest = "sha256:2222222222222222222222222222222222222222222222222222222222222222"
)

// TestAnswerIsAboutTheImage: G7. An answer that passes another digest, several
// images or none admits nothing.
func TestAnswerIsAboutTheImage(t *testing.T) {
	image, err := registry.ParseReference("registry.example.com/app@" + oneDigest)
	check(t, err)
	result := func(verdict policy.Verdict, digest string) api.VerifyResult {
		return api.VerifyResult{Verdict: verdict, Digest: digest}
	}
	good := result(policy.Passed, oneDigest)
	if reason, err := verdictOn(api.VerifyAnswer{Verdict: policy.Passed, Results: []api.VerifyResult{good}}, image); err != nil || !strings.HasPrefix(reason, "PASSED") {
		t.Fatalf("the control is refused: %q, %v", reason, err)
	}
	for name, answer := range map[string]api.VerifyAnswer{
		"no result":          {Verdict: policy.Passed},
		"two results":        {Verdict: policy.Passed, Results: []api.VerifyResult{good, good}},
		"another digest":     {Verdict: policy.Passed, Results: []api.VerifyResult{result(policy.Passed, otherDigest)}},
		"no digest":          {Verdict: policy.Passed, Results: []api.VerifyResult{result(policy.Passed, "")}},
		"FAILED as a whole":  {Verdict: policy.Failed, Results: []api.VerifyResult{good}},
		"FAILED of an image": {Verdict: policy.Passed, Results: []api.VerifyResult{result(policy.Failed, oneDigest)}},
		"no verdict":         {Results: []api.VerifyResult{good}},
	} {
		if _, err := verdictOn(answer, image); err == nil {
			t.Errorf("%s: admitted", name)
		}
	}
}

// FuzzDescriptor: a descriptor is accepted only if a plain reader finds the digest
// in it that the flags name.
func FuzzDescriptor(f *testing.F) {
	f.Add([]byte(`{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"` + oneDigest + `","size":500}`))
	f.Add([]byte(`{"mediaType":"x","digest":"` + oneDigest + `","digest":"` + otherDigest + `","size":5}`))
	f.Add([]byte(`{"mediaType":"x","digest":"` + otherDigest + `","size":5,"annotations":{"a":"b"}}`))
	f.Add([]byte(`{"size":-1}`))
	digest, err := attest.ParseDigest(oneDigest)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if checkDescriptor(bytes.NewReader(raw), digest) != nil {
			return
		}
		read := map[string]any{}
		err := json.Unmarshal(raw, &read)
		if size, _ := read["size"].(float64); err != nil || read["digest"] != oneDigest || read["mediaType"] == "" || size <= 0 {
			t.Errorf("accepted: %q", raw)
		}
	})
}
