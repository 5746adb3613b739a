package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/server/api"
)

// verifyFlags are the flags of `verify`.
type verifyFlags struct {
	policy             string
	context            []string
	cluster, namespace string
	timeout            time.Duration
	platform           string
	explain            bool
	offline            offlineFlags
	summary            summaryFlags
}

func (a *app) verifyCommand() *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use:   "verify IMAGE…",
		Short: "Ask whether images may run",
		Long: "Prints a verdict for each image and why. Exit code 0 is PASSED, 3 FAILED, 6 when\n" +
			"an image could not be judged and asking again may help.\n\n" +
			"--vsa has the service sign, log and keep a SLSA verification summary (VSA) of each\n" +
			"image that passes, for others to trust. Without one the exit code is not 0.\n\n" +
			"--offline judges without a server: the policy (its keys in PEM), the trusted root\n" +
			"and the image's own registry are all it uses.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("name at least one image")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.summary.check(f.offline.offline, args); err != nil {
				return err
			}
			answer, err := a.verify(cmd.Context(), f, args)
			if err != nil {
				return err
			}
			if err := errors.Join(a.printAnswer(answer), f.summary.write(answer)); err != nil {
				return err
			}
			if err := verdictError(answer); err != nil {
				return err
			}
			return f.summary.missing(answer)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.policy, "policy", "", "only this policy (with --offline: a file)")
	flags.StringArrayVar(&f.context, "context", nil, "key=value that policies match; may be repeated")
	flags.StringVar(&f.cluster, "cluster", "", "short for --context cluster=…")
	flags.StringVar(&f.namespace, "namespace", "", "short for --context namespace=…")
	flags.DurationVar(&f.timeout, "timeout", 0, "how long it may take, at most 30s")
	flags.StringVar(&f.platform, "platform", "", "of an image that is an index, judge the child of this platform (linux/amd64)")
	flags.BoolVar(&f.explain, "explain", false, "print each piece of evidence and the check that refused it")
	f.summary.add(flags)
	f.offline.add(flags)
	return cmd
}

func (a *app) verify(ctx context.Context, f verifyFlags, images []string) (api.VerifyAnswer, error) {
	place, err := f.place()
	if err != nil {
		return api.VerifyAnswer{}, err
	}
	if f.offline.offline {
		return a.verifyOffline(ctx, f, place, images)
	}
	client, err := a.client()
	if err != nil {
		return api.VerifyAnswer{}, err
	}
	request := api.VerifyRequest{Images: images, Context: place, Policy: f.policy, VSA: f.summary.wanted, VSAAttach: f.summary.attach, Platform: f.platform}
	if f.timeout > 0 {
		request.Timeout = f.timeout.String()
	}
	if f.explain {
		return client.Explain(ctx, request)
	}
	return client.Verify(ctx, request)
}

func (f verifyFlags) place() (map[string]string, error) {
	given := f.context
	if f.cluster != "" {
		given = append(given, "cluster="+f.cluster)
	}
	if f.namespace != "" {
		given = append(given, "namespace="+f.namespace)
	}
	return pairs("--context", given)
}

func (a *app) printAnswer(answer api.VerifyAnswer) error {
	for _, warning := range answer.Warnings {
		fmt.Fprintf(a.err, "warning: %s\n", clean(warning))
	}
	return a.print(answer, func() string {
		var out strings.Builder
		for _, r := range answer.Results {
			fmt.Fprintf(&out, "%s  %s\n", a.verdict(string(r.Verdict)), clean(r.Image))
			if r.Digest != "" {
				fmt.Fprintf(&out, "        %s\n", r.Digest)
			}
			for _, reason := range r.Reasons {
				fmt.Fprintf(&out, "        %s: %s\n", reason.Code, clean(reason.Message))
			}
			if r.Index != "" {
				fmt.Fprintf(&out, "        %s of index %s\n", clean(r.Platform), r.Index)
			}
			writeEvidence(&out, r)
			if r.Until != nil {
				fmt.Fprintf(&out, "        until %s: %s: %s\n", moment(&r.Until.At), r.Until.Reason.Code, clean(r.Until.Reason.Message))
			}
			if r.Explain != nil {
				out.WriteString(indented(explanation(r)))
			}
			writeSummary(&out, r)
		}
		return out.String()
	})
}

func writeEvidence(out *strings.Builder, r api.VerifyResult) {
	for _, p := range r.Policies {
		for _, requirement := range p.Requirements {
			for _, e := range requirement.Evidence {
				fmt.Fprintf(out, "        policy %s: %s by %s (%s)", clean(p.Name), e.Format, clean(e.Authority), short(e.Signer))
				if e.LogIndex != nil {
					fmt.Fprintf(out, ", log index %d of %s", *e.LogIndex, short(e.LogID))
				}
				if e.SignedAt != "" {
					fmt.Fprintf(out, ", signed %s", e.SignedAt)
				}
				out.WriteByte('\n')
			}
		}
	}
}

// verdictError is nil for PASSED. A FAILED that only says that nothing could be
// found out in time is a reason to ask again; any other FAILED is final.
func verdictError(answer api.VerifyAnswer) error {
	if answer.Verdict == policy.Passed {
		return nil
	}
	for _, r := range answer.Results {
		if r.Verdict != policy.Passed && !undecided(r.Reasons) {
			return errFailed
		}
	}
	return errUndecided
}

func undecided(reasons []policy.Reason) bool {
	for _, r := range reasons {
		if r.Code != policy.RegistryUnavailable && r.Code != policy.DeadlineExceeded {
			return false
		}
	}
	return len(reasons) > 0
}
