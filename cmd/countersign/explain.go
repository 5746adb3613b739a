package main

import (
	"fmt"
	"strings"

	"charm.land/lipgloss/v2/tree"

	"github.com/countersign/countersign/server/api"
)

// explanation is the evidence of one result as a tree: each piece, each
// authority that looked at it, the checks it passed and the one that refused it.
func explanation(r api.VerifyResult) string {
	root := tree.Root("evidence")
	for _, c := range r.Explain.Evidence {
		name := strings.TrimSpace(clean(fmt.Sprintf("%s %s from the %s", c.Format, short(c.Attachment), c.Source)))
		if r.Index != "" || c.Subject != r.Digest {
			name += " of " + short(c.Subject)
		}
		if c.PredicateType != "" {
			name += ", " + clean(c.PredicateType)
		}
		piece := tree.Root(name)
		if c.Problem != nil {
			piece.Child(fmt.Sprintf("unreadable: %s: %s", c.Problem.Code, clean(c.Problem.Message)))
		} else {
			for _, j := range c.Judgements {
				piece.Child(judgement(j))
			}
		}
		root.Child(piece)
	}
	if len(r.Explain.Evidence) == 0 {
		root.Child("none was found, or none was asked for by a policy")
	}
	if r.Explain.Truncated {
		root.Child("… there is more than is told")
	}
	return root.String()
}

func judgement(j api.Judgement) string {
	line := fmt.Sprintf("%s/%s: ", clean(j.Policy), clean(j.Authority))
	if len(j.Checks) > 0 {
		line += strings.Join(j.Checks, " ✓ ") + " ✓ "
	}
	if j.Accepted {
		return line + "accepted, " + clean(short(j.Signer))
	}
	return line + fmt.Sprintf("✗ %s: %s", j.Reason.Code, clean(j.Reason.Message))
}

// indented puts every line of a text below a result.
func indented(text string) string {
	return "        " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n        ") + "\n"
}
