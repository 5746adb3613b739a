package main

import (
	"fmt"
	"io"
	"strings"
	"testing"
)

// said is the output of one test that passes.
func said(name string, attrs ...string) string {
	var out strings.Builder
	for i := 0; i < len(attrs); i += 2 {
		fmt.Fprintf(&out, "{\"Action\":\"attr\",\"Package\":\"p\",\"Test\":%q,\"Key\":%q,\"Value\":%q}\n", name, attrs[i], attrs[i+1])
	}
	fmt.Fprintf(&out, "{\"Action\":\"pass\",\"Package\":\"p\",\"Test\":%q}\n", name)
	return out.String()
}

// full fills each required cell once.
func full() string {
	var out strings.Builder
	for _, r := range rows() {
		forms := r.forms
		if forms == nil {
			forms = []string{anyForm}
		}
		for _, f := range forms {
			out.WriteString(said("TestX/"+r.id+"_in_"+f, "format", f, "verdict", "PASSED", "verdict", "FAILED code"))
		}
	}
	return out.String()
}

func TestFaults(t *testing.T) {
	for name, tt := range map[string]struct{ more, want string }{
		"control":                 {"", ""},
		"failing test":            {`{"Action":"fail","Package":"p","Test":"TestX"}`, "failed: p TestX"},
		"failing build":           {`{"Action":"build-fail","ImportPath":"p"}`, "failed"},
		"no control":              {said("TestY/B1_x", "verdict", "FAILED code"), "no positive control: p TestY/B1_x"},
		"control beside":          {said("TestY/B1_x", "verdict", "FAILED code") + said("TestY/control", "verdict", "PASSED"), ""},
		"control of another test": {said("TestY/B1_x", "verdict", "FAILED code") + said("TestZ", "verdict", "PASSED"), "no positive control"},
		"no code":                 {said("TestB1Y", "verdict", "PASSED", "verdict", "FAILED"), "without a reason code"},
	} {
		t.Run(name, func(t *testing.T) {
			err := run(strings.NewReader(full()+tt.more), io.Discard, 100)
			if (err == nil) != (tt.want == "") || (err != nil && !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
	if err := run(strings.NewReader(full()), io.Discard, 100_000); err == nil {
		t.Error("fewer cases than the floor")
	}
	if err := run(strings.NewReader(""), io.Discard, 0); err == nil {
		t.Error("nothing at all")
	}
	if err := run(strings.NewReader("no JSON"), io.Discard, 0); err == nil {
		t.Error("not the output of go test")
	}
	hole := strings.Replace(full(), "TestX/B1_in_message-id", "TestX/signed_by_another", 2)
	hole = strings.ReplaceAll(hole, "TestX/B1_in_message-id", "TestX/signed_by_another")
	if err := run(strings.NewReader(hole), io.Discard, 100); err == nil || !strings.Contains(err.Error(), "row B1 has no case in the form message-id") {
		t.Errorf("a hole: %v", err)
	}
}

func TestRowsOf(t *testing.T) {
	for name, want := range map[string]string{
		"TestB2TransplantUnderEveryRoot/full_root_bundle": "B2", "TestC4F5Several": "C4 F5", "TestX/F1_F2_attestation": "F1 F2",
		"TestX/form/B6_time/deeper": "B6", "TestX/signed_by_another": "", "TestBundle": "", "TestX/C14N": "", "TestD1": "D1", "TestX/E7_alg_none_application/jose+json": "E7",
	} {
		if got := strings.Join(rowsOf("p "+name), " "); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
