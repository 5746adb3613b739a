package verifier

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/attest/predicate"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
	"github.com/countersign/countersign/store"
)

// round decides one subject under the policies of one question: the work
// behind one cache miss.
type round struct {
	*Verifier
	question *question
	// policies are those of the question that look at this subject.
	policies []Loaded
	subject  registry.Reference
	bench    bench
	panel    []seat
	seen     map[[sha256.Size]byte]bool
	// known are the managed keys read so far.
	known map[string]keys.Key
	// roots are the other trusted roots read so far.
	roots map[string]*trusted
	// links are the envelopes of in-toto links found so far.
	links [][]byte
	// needs is what the policies of the panel look at.
	needs policy.Needs
	// bytes are of the attachments parsed so far; placed says that the round
	// holds a place among the large ones.
	bytes  int
	placed bool
	// unsure: something could not be read, so a FAILED must not be kept.
	unsure bool
	// unread, if it has a code, is why not everything about the image is known.
	unread policy.Reason
	// ahead is what is attached, if that is being read already.
	ahead *ahead
	// unreached: the registry gave no answer about what is attached.
	unreached bool
	// asked: something rests on what was said about revoked certificates.
	asked bool
	// explained is nil unless an explanation is asked for.
	explained *Explanation
}

// seat is a matching policy with its authorities' keys read and its facts so
// far.
type seat struct {
	Loaded
	signers []signer
	facts   []policy.Fact
	outcome policy.Outcome
}

// decide is steps 2 to 4 of the package comment for a subject whose manifest
// was read.
func (r *round) decide(ctx context.Context) outcome {
	if err := r.seatPolicies(ctx); err != nil {
		r.log.WarnContext(ctx, "reading keys and trusted roots of policies", "error", err)
		return undecided(policy.PolicyError, "the keys and trusted roots that the policies name could not be read")
	}
	if len(r.panel) == 0 {
		return outcome{
			verdict: policy.Failed, sure: true, settled: true, at: r.bench.now,
			reasons: []policy.Reason{{Code: policy.NoPolicy, Message: "no policy covers " + r.subject.Name() + ": an image that no policy covers may not run"}},
		}
	}
	defer r.leave()
	r.weigh(ctx, r.kept(ctx))
	if r.needs.Everything || !r.satisfied() {
		r.leave() // a registry that is slow to answer must not hold a place
		r.weigh(ctx, r.attached(ctx))
	}
	if ctx.Err() != nil {
		out := undecided(policy.DeadlineExceeded, "the image could not be decided in time")
		out.unreached = true
		return out
	}
	out := r.outcome()
	out.settled, out.unreached = !r.needs.Everything, r.unreached
	return out
}

func (r *round) seatPolicies(ctx context.Context) error {
	for _, loaded := range r.policies {
		if !loaded.Policy.Matches(r.subject.Name(), r.question.context) {
			continue
		}
		if err := r.seat(ctx, loaded); err != nil {
			return err
		}
	}
	return nil
}

// seat reads the keys and trusted roots that a policy names.
func (r *round) seat(ctx context.Context, loaded Loaded) error {
	s := seat{Loaded: loaded}
	for _, name := range sortedNames(loaded.Policy.Authorities) {
		who, err := r.signerOf(ctx, name, loaded.Policy.Authorities[name])
		if err != nil {
			return err
		}
		s.signers = append(s.signers, who)
	}
	r.panel = append(r.panel, s)
	r.need(loaded.Policy.Needs())
	return nil
}

// need adds what one policy looks at.
func (r *round) need(n policy.Needs) {
	if r.needs.PredicateTypes == nil {
		r.needs.PredicateTypes = make(map[string]bool)
	}
	r.needs.Signatures = r.needs.Signatures || n.Signatures
	r.needs.Everything = r.needs.Everything || n.Everything
	r.needs.Links = r.needs.Links || n.Links
	maps.Copy(r.needs.PredicateTypes, n.PredicateTypes)
}

// wants reports whether attachments of a predicate type are looked at.
func (r *round) wants(predicateType string) bool {
	if predicateType == attest.PredicateCosignSign {
		return r.needs.Signatures
	}
	return r.needs.Links && policy.IsLink(predicateType) || r.needs.PredicateTypes[predicate.Canonical(predicateType)]
}

func sortedNames(authorities map[string]policy.Authority) []string {
	names := make([]string, 0, len(authorities))
	for name := range authorities {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// weigh judges new evidence under every authority and decides every policy
// again over all facts so far.
func (r *round) weigh(ctx context.Context, found []*evidence) {
	if r.enter(ctx, 0) != nil {
		return
	}
	for _, e := range found {
		if ctx.Err() != nil {
			return
		}
		r.explained.consider(r.bench.artifact.digest.String(), e)
		for i := range r.panel {
			for _, who := range r.panel[i].signers {
				r.bench.checks = r.bench.checks[:0]
				fact := r.bench.judge(e, who)
				r.explained.judged(r.panel[i].Policy.Name, fact, r.bench.checks)
				r.panel[i].facts = append(r.panel[i].facts, fact)
			}
		}
	}
	for i := range r.panel {
		s := &r.panel[i]
		s.outcome = s.Policy.Decide(ctx, policy.Question{
			Facts: s.facts, Links: r.links, Context: r.question.context, Now: r.bench.now, Unread: r.unread,
			Image: imageOf(r.subject),
		})
	}
}

func (r *round) satisfied() bool {
	for i := range r.panel {
		if r.panel[i].outcome.Verdict != policy.Passed {
			return false
		}
	}
	return true
}

// kept is what the archive has of the digest, in whatever repository: what is
// signed is the digest. An archive that cannot be read only costs the registry
// round trips, unless everything must be known.
func (r *round) kept(ctx context.Context) []*evidence {
	most := limits.Bundles
	if r.needs.Everything {
		most = limits.Kept
	}
	items, complete, err := r.archive.BySubject(ctx, r.bench.artifact.digest, r.looksAt, most)
	if err != nil {
		r.log.WarnContext(ctx, "reading archive", "error", err)
		r.missed(faultf(policy.PolicyError, "what is kept of the image could not be read"), false)
		return nil
	}
	if !complete {
		r.missed(tooMany(most), true)
	}
	var found []*evidence
	for _, item := range items {
		a := attachment{format: item.Format, bundle: item.Bundle}
		if item.Legacy != nil {
			a.payload, a.annotations = item.Legacy.Payload, item.Legacy.Annotations
		}
		if item.Notation != nil {
			a.envelope = registry.Envelope{MediaType: item.Notation.MediaType, Content: item.Notation.Envelope}
			a.entry = item.Notation.LogEntry
		}
		found = r.add(ctx, found, a, SourceArchive)
	}
	return found
}

// looksAt is wants for what is kept, where a plain signature has no type.
func (r *round) looksAt(predicateType string) bool {
	if predicateType == "" {
		predicateType = attest.PredicateCosignSign
	}
	return r.wants(predicateType)
}

// missed notes that something about the image is not known. sure is false when
// asking again may tell it.
func (r *round) missed(f *fault, sure bool) {
	r.unsure = r.unsure || !sure
	if r.unread.Code == "" {
		r.unread = f.reason()
	}
}

func tooMany(n int) *fault {
	return faultf(policy.LimitExceeded, "the image has more signatures and attestations than are read (%d): remove stale ones", n)
}

// attached is what the registry keeps with the digest. What could not be read
// is evidence of its own kind: it accepts nothing and says why.
func (r *round) attached(ctx context.Context) []*evidence {
	got, err := r.attachments(ctx)
	if err != nil {
		r.unreached = unreached(err)
		r.log.InfoContext(ctx, "reading attachments", "image", r.subject.String(), "error", err)
		f, sure := faultOfAttachment(err)
		r.missed(f, sure)
		return []*evidence{unreadable(f)}
	}
	var found []*evidence
	for _, a := range got.Attachments {
		found = r.add(ctx, found, attachmentOf(a), SourceRegistry)
	}
	if got.Truncated {
		f := tooMany(limits.Bundles)
		r.missed(f, true)
		found = append(found, unreadable(f))
	}
	for _, problem := range got.Problems {
		f, sure := faultOfAttachment(problem.Err)
		r.missed(f, sure)
		if !got.Truncated { // which tells more than what became of one of them
			found = append(found, unreadable(f))
		}
	}
	return found
}

// faultOfAttachment is faultOf where the image itself was found: what is listed
// and gone says nothing of the image.
func faultOfAttachment(err error) (f *fault, sure bool) {
	if errors.Is(err, registry.ErrNotFound) {
		return faultf(policy.RegistryUnavailable, "the registry lists a signature or attestation that it does not have: try again, or remove its manifest"), false
	}
	return faultOf(err)
}

func unreadable(f *fault) *evidence {
	return &evidence{fault: f, kind: policy.KindUnknown, source: SourceRegistry}
}

func (r *round) add(ctx context.Context, found []*evidence, a attachment, source string) []*evidence {
	id := a.identity()
	if r.seen[id] {
		return found
	}
	r.seen[id] = true
	if f := r.enter(ctx, a.size()); f != nil {
		r.missed(f, false)
		return append(found, unreadable(f))
	}
	e := &evidence{kind: a.kind(), attached: a.digest(), format: a.format, source: source}
	e.signed, e.fault = a.parse()
	if e.fault != nil {
		r.log.DebugContext(ctx, "unreadable signature", "image", r.subject.String(), "reason", e.fault.text, "cause", e.fault.cause)
	}
	if r.needs.Links && e.signed != nil && policy.IsLink(e.signed.predicateType) {
		// What was parsed is what is judged: the envelope is written anew.
		if raw, err := e.signed.dsse.Marshal(); err == nil {
			r.links = append(r.links, raw)
		}
	}
	return append(found, e)
}

// outcome is what each policy says, for settle.
func (r *round) outcome() outcome {
	out := outcome{sure: !r.unsure, at: r.bench.now, explained: r.explained}
	for _, s := range r.panel {
		result := PolicyResult{
			Name: s.Policy.Name, Revision: s.Revision, Digest: attest.DigestOf(s.Policy.Document()).String(), Mode: s.Policy.Mode,
			Verdict: s.outcome.Verdict, Reasons: s.outcome.Reasons, Requirements: s.outcome.Requirements,
		}
		if result.Verdict == policy.Passed {
			result.BuildLevel, result.Since = s.outcome.BuildLevel, s.outcome.Since
			result.Until = endsAt(s.outcome, result.Name)
		}
		out.policies = append(out.policies, result)
		out.expire(s.outcome.Expires)
	}
	if r.asked {
		out.expire(r.bench.now.Add(limits.RevocationAge))
	}
	return out
}

// faultOf words an error of the registry; sure is false when asking again may
// give another answer.
func faultOf(err error) (f *fault, sure bool) {
	switch {
	case errors.Is(err, registry.ErrNotListed):
		return faultf(policy.RegistryNotTrusted, "the registry or repository is not listed, so it was not contacted: list it under /v1/registries"), true
	case errors.Is(err, registry.ErrReference):
		return faultf(policy.ImageNotFound, "this is not an image reference: want HOST/REPOSITORY with :TAG or @sha256:DIGEST"), true
	case errors.Is(err, registry.ErrDigestMismatch):
		return faultf(policy.DigestMismatch, "the registry answered with other bytes than the digest names"), false
	case errors.Is(err, registry.ErrAmbiguous):
		return faultf(policy.AmbiguousManifest, "the manifest can be read as more than one kind of document"), false
	case errors.Is(err, registry.ErrLimit):
		return faultf(policy.LimitExceeded, "the registry's answer exceeds a limit"), false
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return faultf(policy.DeadlineExceeded, "the registry did not answer in time"), false
	case errors.Is(err, registry.ErrNotFound):
		return faultf(policy.ImageNotFound, "the registry has no such image"), false
	case errors.Is(err, registry.ErrDenied):
		return faultf(policy.RegistryUnavailable, "the registry refused access: check the credentials under /v1/registries"), false
	case errors.Is(err, registry.ErrUnsafe):
		return faultf(policy.RegistryUnavailable, "the registry pointed to an address that may not be contacted"), false
	default:
		return faultf(policy.RegistryUnavailable, "the registry could not be read: try again"), false
	}
}

// signerOf reads the keys of an authority. A managed key that does not exist
// is a fault of the policy; a store that cannot be read is an error.
func (r *round) signerOf(ctx context.Context, name string, authority policy.Authority) (signer, error) {
	s := signer{name: name, trusted: r.question.trusted, logNeeded: authority.Log != policy.LogOptional}
	if authority.Identity != nil {
		return r.identityOf(ctx, s, authority.Identity)
	}
	if authority.X509 != nil {
		s.timeNeeded = authority.X509.Timestamp == policy.TimestampRequired
		return r.x509Of(ctx, s, authority.X509)
	}
	if authority.Key == nil {
		s.fault = faultf(policy.PolicyError, "authority %s names no key", name)
		return s, nil
	}
	if authority.Key.Ref != "" {
		return r.referencedOf(ctx, s, authority.Key.Ref), nil
	}
	if authority.Key.Public != nil {
		id, err := keyID(authority.Key.Public)
		if err != nil {
			return s, err
		}
		s.candidates = []candidate{{id: id, public: authority.Key.Public}}
		return s, nil
	}
	s.timeNeeded = true
	key, ok := r.known[authority.Key.Name]
	var err error
	if !ok {
		key, err = r.keys.Get(ctx, authority.Key.Name)
	}
	if errors.Is(err, keys.ErrNotFound) || err == nil && key.Service() && !key.Summarizes() {
		s.fault = faultf(policy.PolicyError, "authority %s names the managed key %s, which does not exist", name, authority.Key.Name)
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("reading key %s: %w", authority.Key.Name, err)
	}
	r.known[authority.Key.Name] = key
	s.summarizes = key.Summarizes()
	for i := range key.Versions {
		v := &key.Versions[i]
		s.candidates = append(s.candidates, candidate{id: v.KeyID, public: v.Public, version: v})
	}
	return s, nil
}

// identityOf reads the trusted root of an identity authority. One that does
// not exist is a fault of the policy; a store that cannot be read is an error.
func (r *round) identityOf(ctx context.Context, s signer, who *policy.IdentityAuthority) (signer, error) {
	s.identity, s.timeNeeded = who, true
	if who.TrustRoot == policy.SelfRoot {
		return s, nil
	}
	return r.otherRoot(ctx, s, who.TrustRoot)
}

// otherRoot has a signer judged under the trusted root of that name.
func (r *round) otherRoot(ctx context.Context, s signer, name string) (signer, error) {
	if known, ok := r.roots[name]; ok {
		s.trusted = known
		return s, nil
	}
	other, err := r.trustRoot(ctx, name)
	if errors.Is(err, store.ErrNotFound) {
		s.fault = faultf(policy.PolicyError, "authority %s names the trusted root %s, which does not exist", s.name, name)
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("reading trusted root %s: %w", name, err)
	}
	if r.roots == nil {
		r.roots = make(map[string]*trusted)
	}
	r.roots[name], s.trusted = other, other
	return s, nil
}

func (r *round) trustRoot(ctx context.Context, name string) (*trusted, error) {
	return r.question.others.get(ctx, r.Verifier.roots, name)
}
