package sequencer_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	formatsnote "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"

	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/tlog/sequencer"
)

func witnessVKey(t testing.TB, name string) string {
	t.Helper()
	_, vkey, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		t.Fatal(err)
	}
	if vkey, err = formatsnote.VKeyToCosignatureV1(vkey); err != nil {
		t.Fatal(err)
	}
	return vkey
}

// TestParseWitnessPolicy: what counts a witness twice or asks for none is
// refused (row C2: one key under two names).
func TestParseWitnessPolicy(t *testing.T) {
	a, b := witnessVKey(t, "a"), witnessVKey(t, "b")
	two := fmt.Sprintf("witness A %s https://a.example.com\nwitness B %s https://b.example.com/w/\n", a, b)
	renamed := strings.Replace(a, "a+", "z+", 1)
	_, plain, err := note.GenerateKey(rand.Reader, "a")
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		text string
		ok   bool
	}{
		"one witness":         {two + "quorum A\n", true},
		"all":                 {"# ours\n\nlog " + a + "\n" + two + "\tgroup g all A B\nquorum g", true},
		"one of two":          {two + "group g 1 A B\nquorum g\n", true},
		"nested":              {two + "group g any A\ngroup h 2 g B\nquorum h\n", true},
		"empty":               {"", false},
		"no quorum":           {two, false},
		"quorum of none":      {two + "quorum none\n", false},
		"two quorums":         {two + "quorum A\nquorum B\n", false},
		"unknown quorum":      {two + "quorum C\n", false},
		"threshold 0":         {two + "group g 0 A B\nquorum g\n", false},
		"threshold 3":         {two + "group g 3 A B\nquorum g\n", false},
		"threshold 01":        {two + "group g 01 A B\nquorum g\n", false},
		"member twice":        {two + "group g 2 A A\nquorum g\n", false},
		"member of two":       {two + "group g any A\ngroup h all g A\nquorum h\n", false},
		"member below":        {"group g any A\n" + two + "quorum g\n", false},
		"name twice":          {two + "witness A " + witnessVKey(t, "c") + " https://c\nquorum A\n", false},
		"key twice":           {two + "witness C " + a + " https://c.example.com\nquorum A\n", false},
		"key under two names": {two + "witness C " + renamed + " https://c.example.com\nquorum A\n", false},
		"URL twice":           {two + "witness C " + witnessVKey(t, "c") + " https://b.example.com/w\nquorum A\n", false},
		"no URL":              {"witness A " + a + "\nquorum A\n", false},
		"URL of a file":       {"witness A " + a + " file:///a\nquorum A\n", false},
		"key of a log":        {"witness A " + plain + " https://a\nquorum A\n", false},
		"word":                {two + "watcher A\nquorum A\n", false},
		"reserved name":       {"witness any " + a + " https://a\nquorum any\n", false},
		"hash in a line":      {"witness A " + a + " https://a/#x\nquorum A\n", false},
		"control character":   {two + "quorum A\x00\n", false},
		"too large":           {two + "quorum A\n" + strings.Repeat("#", 70_000), false},
	} {
		policy, err := sequencer.ParseWitnessPolicy([]byte(test.text))
		if test.ok != (err == nil) || (err != nil && !errors.Is(err, sequencer.ErrWitnessPolicy)) {
			t.Errorf("%s: %v", name, err)
		}
		if test.ok != (policy != nil) {
			t.Errorf("%s: policy %v", name, policy)
		}
	}
	many := strings.Builder{}
	for i := range 33 {
		fmt.Fprintf(&many, "witness w%d %s https://w%d\n", i, witnessVKey(t, "w"), i)
	}
	if _, err := sequencer.ParseWitnessPolicy([]byte(many.String() + "quorum w1\n")); !errors.Is(err, sequencer.ErrWitnessPolicy) {
		t.Errorf("33 witnesses: %v", err)
	}
}

func TestNewWitnessesRefuses(t *testing.T) {
	policy, err := sequencer.ParseWitnessPolicy([]byte("witness A " + witnessVKey(t, "a") + " https://a\nquorum A\n"))
	if err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]sequencer.WitnessConfig{
		"no policy": {Clock: clock.System{}}, "no clock": {Policy: policy},
		"timeout too short": {Policy: policy, Clock: clock.System{}, Timeout: time.Millisecond},
		"timeout too long":  {Policy: policy, Clock: clock.System{}, Timeout: time.Hour},
	} {
		if _, err := sequencer.NewWitnesses(cfg); !errors.Is(err, sequencer.ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := sequencer.NewWitnesses(sequencer.WitnessConfig{Policy: policy, Clock: clock.System{}}); err != nil {
		t.Error(err)
	}
}

// FuzzParseWitnessPolicy: whatever the bytes, a policy or an error of its kind.
func FuzzParseWitnessPolicy(f *testing.F) {
	vkey := witnessVKey(f, "a")
	f.Add([]byte("witness A " + vkey + " https://a\ngroup g any A\nquorum g\n"))
	f.Add([]byte("group g 0 A\nquorum none\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		policy, err := sequencer.ParseWitnessPolicy(raw)
		if (policy == nil) != (err != nil) || (err != nil && !errors.Is(err, sequencer.ErrWitnessPolicy)) {
			t.Errorf("%v %v", policy, err)
		}
	})
}
