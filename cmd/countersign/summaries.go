package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/server/api"
)

// summaryFlags are the flags of `verify` that ask for verification summaries.
type summaryFlags struct {
	wanted, attach bool
	out            string
}

func (f *summaryFlags) add(flags *pflag.FlagSet) {
	flags.BoolVar(&f.wanted, "vsa", false, "have the service sign a SLSA verification summary of each image that passes")
	flags.StringVar(&f.out, "vsa-out", "", "file to write the summary's bundle to (one image)")
	flags.BoolVar(&f.attach, "attach", false, "attach the summaries to the images in their registry too")
}

// check refuses flags that could not be fulfilled.
func (f *summaryFlags) check(offline bool, images []string) error {
	switch {
	case !f.wanted && (f.out != "" || f.attach):
		return usagef("--vsa-out and --attach need --vsa")
	case f.wanted && offline:
		return usagef("--vsa needs a server: without one there is nobody to vouch")
	case f.out != "" && len(images) > 1:
		return usagef("--vsa-out takes the summary of one image")
	}
	return nil
}

// write leaves the bundle where it was asked for. An older file does not stay
// when there is no summary: it would be taken for this one.
func (f *summaryFlags) write(answer api.VerifyAnswer) error {
	if f.out == "" {
		return nil
	}
	for _, r := range answer.Results {
		if r.VSA != nil {
			if err := os.WriteFile(f.out, append([]byte(r.VSA.Bundle), '\n'), 0o644); err != nil { //nolint:gosec // public, like what it speaks of
				return fmt.Errorf("writing the summary: %w", err)
			}
			return nil
		}
	}
	if err := os.Remove(f.out); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("removing an older summary: %w", err)
	}
	return nil
}

// missing is the problem of the first image that passed and has no summary
// although one was asked for. The verdict stands; what was asked for is not done.
func (f *summaryFlags) missing(answer api.VerifyAnswer) error {
	if !f.wanted {
		return nil
	}
	for _, r := range answer.Results {
		switch {
		case r.Verdict != policy.Passed || r.VSA != nil:
		case r.VSAProblem != nil:
			return fmt.Errorf("%s passed, but there is no verification summary: %w", clean(r.Image), r.VSAProblem)
		default:
			return fmt.Errorf("%s passed, but the server gave no verification summary", clean(r.Image))
		}
	}
	return nil
}

func writeSummary(out *strings.Builder, r api.VerifyResult) {
	if r.VSA != nil {
		fmt.Fprintf(out, "        summary %s by %s, log index %d", r.VSA.ID, signerText(r.VSA.Signer), r.VSA.LogEntry.Index)
		if r.VSA.Referrer != "" {
			fmt.Fprintf(out, ", attached as %s", short(r.VSA.Referrer))
		}
		out.WriteByte('\n')
	}
	if r.VSAProblem != nil {
		fmt.Fprintf(out, "        no summary: %s: %s\n", r.VSAProblem.Code, clean(r.VSAProblem.Detail))
	}
}
