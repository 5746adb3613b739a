package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
)

// InlinePolicy is the name of a policy that a question brought along.
const InlinePolicy = "inline"

// MatchesBlob reports whether the policy speaks of a blob by the name that its
// caller gives it: match.blobs and match.context must match.
func (p *Policy) MatchesBlob(name string, context map[string]string) bool {
	return matchesAny(p.match.blobs, name) && p.matchesContext(context)
}

// AppliesToBlob is MatchesBlob for a policy that the caller asked for by name.
// One that says nothing of blobs is then taken at the caller's word; one that
// says which blobs it is for is not, and context holds in either case.
func (p *Policy) AppliesToBlob(name string, context map[string]string) bool {
	if p.match.blobs == nil {
		return len(p.match.images) > 0 && p.matchesContext(context)
	}
	return p.MatchesBlob(name, context)
}

// Inline is a policy of one authority, as a TrustPolicy spells it in JSON, that
// must have signed; or, with a predicate type, have attested. Errors are those
// of Parse, with places in the authority.
func Inline(authority json.RawMessage, predicateType string) (*Policy, error) {
	require := map[string]any{"signature": map[string]any{"by": signerName}}
	if predicateType != "" {
		require = map[string]any{"attestation": map[string]any{"by": signerName, "predicateType": predicateType}}
	}
	// The authority's bytes go in as they are, so that it is read as strictly as
	// in a policy.
	document, err := strictjson.Marshal(map[string]any{
		"apiVersion": apiVersion, "kind": kind, "metadata": map[string]any{"name": InlinePolicy},
		"spec": map[string]any{
			"match":       map[string]any{"blobs": []string{"**"}},
			"authorities": map[string]any{signerName: authority},
			"require":     require,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("%w: the authority is not JSON", ErrPolicy)
	}
	p, err := Parse(document)
	if err != nil {
		return nil, inlineFault(err)
	}
	return p, nil
}

// signerName is the policy's name of the one authority.
const signerName = "signer"

// inlineFault gives a fault its place in the authority.
func inlineFault(err error) error {
	at, ok := errors.AsType[*FieldError](err)
	if !ok {
		return err
	}
	inner := &FieldError{Pointer: strings.TrimPrefix(at.Pointer, "/spec/authorities/"+signerName), Problem: at.Problem}
	return fmt.Errorf("%w: %w", ErrPolicy, inner)
}

// checkRef wants a reference that some back end may know; which key it names,
// and whether it may be asked for, is found out there.
func checkRef(pointer, ref string) error {
	schemes := []string{"hashivault://", "openbao://", "awskms://", "gcpkms://", "azurekms://", "pkcs11:"}
	known := slices.ContainsFunc(schemes, func(s string) bool { return strings.HasPrefix(ref, s) && len(ref) > len(s) })
	strange := strings.ContainsFunc(ref, func(r rune) bool { return r <= ' ' || r > '~' })
	if !known || strange || len(ref) > limits.KeyRef {
		return fault(pointer, "is no reference to a key: want one of %s and the key, at most %d bytes", strings.Join(schemes, ", "), limits.KeyRef)
	}
	return nil
}
