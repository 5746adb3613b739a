package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ctypes "github.com/sigstore/cosign/v2/pkg/types"
	"golang.org/x/sync/errgroup"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/attest/notary"
	"github.com/countersign/countersign/internal/limits"
)

// Formats of an attachment.
const (
	FormatBundle = "bundle"
	FormatLegacy = "legacy"
	// FormatLegacyAttestation is a layer of cosign's .att tag: its payload is a
	// DSSE envelope.
	FormatLegacyAttestation = "legacy-attestation"
	// FormatNotation is an envelope of the Notary Project.
	FormatNotation = "notation"
)

// How an attachment was found.
const (
	ViaReferrers    = "referrers"
	ViaReferrersTag = "referrers-tag"
	ViaLegacyTag    = "legacy-tag"
)

// Attachment is one signature or attestation that the registry keeps with a
// subject. Its bytes hash to the digests that named them; nothing else is
// verified.
type Attachment struct {
	// Format is one of the formats above.
	Format string
	// Digest is that of the referrer manifest, or of the payload layer.
	Digest attest.Digest
	// Via says how it was found.
	Via string
	// Bundle is the bundle's JSON if Format is FormatBundle, else nil.
	Bundle []byte
	// Legacy is set if Format is FormatLegacy or FormatLegacyAttestation.
	Legacy *Legacy
	// Envelope is set if Format is FormatNotation.
	Envelope *Envelope
}

// Legacy is one layer of a .sig or .att manifest.
type Legacy struct {
	// Payload is the simple-signing document, the bytes that were signed; of
	// an attestation the envelope.
	Payload []byte
	// Annotations are the layer's: signature, certificate, log entry.
	Annotations map[string]string
}

// Want says what is looked for among the attachments. What the registry says of
// their types is a hint: it decides what is fetched first, and what counts as
// left unread, never what something is.
type Want struct {
	// Type reports whether attachments of a predicate type are looked for; nil
	// looks for all. Plain signatures in a bundle have the type
	// attest.PredicateCosignSign.
	Type func(predicateType string) bool
}

func (w Want) wants(predicateType string) bool {
	return w.Type == nil || predicateType == "" || w.Type(predicateType)
}

// Problem is an attachment that was listed and could not be read.
type Problem struct {
	Digest attest.Digest
	Err    error
}

// Found is what a registry keeps with a subject.
type Found struct {
	Attachments []Attachment
	// Problems are entries that were passed over: wrong digest, too large,
	// gone, not what they were listed as.
	Problems []Problem
	// Truncated reports that a limit left entries unread, so that "there is no
	// good signature" is not proven.
	Truncated bool
}

const (
	bundleMediaType   = "application/vnd.dev.sigstore.bundle.v0.3+json"
	envelopeMediaType = "application/vnd.dsse.envelope.v1+json"
	emptyMediaType    = "application/vnd.oci.empty.v1+json"
	legacySuffix      = ".sig"
	attestationSuffix = ".att"
	// annotationLayerType is cosign's name for the predicate type of a layer
	// of an .att manifest.
	annotationLayerType = "predicateType"
)

// Attachments is AttachmentsFor everything.
func (c *Client) Attachments(ctx context.Context, subject Reference) (Found, error) {
	return c.AttachmentsFor(ctx, subject, Want{})
}

// AttachmentsFor reads the bundles, legacy signatures and legacy attestations
// that the registry keeps with the subject, which must have a digest. Listings
// are hints: each bundle's manifest must name the subject, and all bytes must
// hash to their digests. What cannot be read is a Problem, what exceeds a limit
// sets Truncated; an error means that the registry could not be asked
// (ErrNotListed, ErrUnavailable, ErrDenied, ErrUnsafe). No attachment at all is
// no error.
//
// What is said to be of a type that is not looked for is read last, as far as
// there is room for it: a crowd of it hides nothing that is.
func (c *Client) AttachmentsFor(ctx context.Context, subject Reference, want Want) (Found, error) {
	if subject.Digest.IsZero() {
		return Found{}, fmt.Errorf("%w: attachments need a digest", ErrReference)
	}
	return fromAny(ctx, c, subject, func(ctx context.Context, s source) (Found, error) {
		found, err := s.attachments(ctx, subject.Digest, want)
		if err == nil && s.mirror && len(found.Attachments) == 0 {
			// Many mirrors copy images without what is attached to them.
			err = fmt.Errorf("%w: attachments of %s at the mirror %s", ErrNotFound, subject.Digest, s.rule.Host)
		}
		return found, err
	})
}

func (s source) attachments(ctx context.Context, subject attest.Digest, want Want) (Found, error) {
	var bundles listing
	var signatures, attestations legacyListing
	group, gctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		bundles, err = s.referrers(gctx, subject)
		return err
	})
	group.Go(func() (err error) {
		signatures, err = s.legacyLayers(gctx, fallbackTag(subject)+legacySuffix, subject, ctypes.SimpleSigningMediaType)
		return err
	})
	group.Go(func() (err error) {
		attestations, err = s.legacyLayers(gctx, fallbackTag(subject)+attestationSuffix, subject, envelopeMediaType)
		return err
	})
	if err := group.Wait(); err != nil {
		return Found{}, err
	}
	g := gathering{source: s, subject: subject, budget: limits.AttachmentBytes, payloads: map[payloadKey]*payload{}}
	return g.run(ctx, want, bundles, signatures, attestations)
}

// gathering fetches what was listed, a bounded number and sum of bytes of it.
type gathering struct {
	source
	subject attest.Digest

	mu sync.Mutex
	// budget is what may still be fetched; guarded by mu.
	budget int64
	// payloads are fetched once for all layers that share them; guarded by mu.
	payloads map[payloadKey]*payload
}

// payloadKey has the size too: a descriptor that lies about it must not spoil
// the same payload for an honest one.
type payloadKey struct {
	digest attest.Digest
	size   int64
}

// payload is one blob shared by layers.
type payload struct {
	once  sync.Once
	bytes []byte
	err   error
}

// work is one entry that was listed and how to fetch it.
type work struct {
	digest attest.Digest
	fetch  func(context.Context) result
}

// plan is what to fetch: what is looked for, and what is said to be something
// else.
type plan struct {
	wanted, others []work
}

func (p *plan) add(wanted bool, w work) {
	if wanted {
		p.wanted = append(p.wanted, w)
	} else {
		p.others = append(p.others, w)
	}
}

func (g *gathering) run(ctx context.Context, want Want, bundles listing, signatures, attestations legacyListing) (Found, error) {
	kinds := [4]plan{}
	for _, d := range bundles.entries {
		w := work{d.Digest, func(ctx context.Context) result { return g.referrer(ctx, d, bundles.via) }}
		if d.ArtifactType == notary.ArtifactType {
			kinds[3].add(want.wants(attest.PredicateCosignSign), w)
		} else {
			kinds[0].add(want.wants(d.Annotations[annotationPredicateType]), w)
		}
	}
	for _, layer := range signatures.layers {
		kinds[1].add(want.wants(attest.PredicateCosignSign), work{layer.digest, func(ctx context.Context) result { return g.legacy(ctx, FormatLegacy, layer) }})
	}
	for _, layer := range attestations.layers {
		kinds[2].add(want.wants(layer.annotations[annotationLayerType]), work{layer.digest, func(ctx context.Context) result { return g.legacy(ctx, FormatLegacyAttestation, layer) }})
	}
	found := Found{
		Problems:  slices.Concat(signatures.problems, attestations.problems),
		Truncated: bundles.truncated || signatures.truncated || attestations.truncated,
	}
	wanted := shares(limits.Bundles, [4][]work{kinds[0].wanted, kinds[1].wanted, kinds[2].wanted, kinds[3].wanted})
	for i, k := range kinds {
		found.Truncated = found.Truncated || len(wanted[i]) < len(k.wanted)
	}
	if err := g.fetch(ctx, slices.Concat(wanted[:]...), &found); err != nil {
		return Found{}, err
	}
	// What is left says no more than that there is something else.
	room := min(limits.Bundles-len(found.Attachments)-len(found.Problems), limits.OtherAttachments)
	others := shares(max(room, 0), [4][]work{kinds[0].others, kinds[1].others, kinds[2].others, kinds[3].others})
	extra := Found{}
	err := g.fetch(ctx, slices.Concat(others[:]...), &extra)
	found.Attachments = append(found.Attachments, extra.Attachments...)
	return found, err
}

// shares divides n places so that no kind crowds out another: each gets what it
// needs up to its equal share, and what is left over goes around.
func shares(n int, kinds [4][]work) (out [4][]work) {
	for left := n; left > 0; {
		before := left
		for i := range kinds {
			if k := len(out[i]); k < len(kinds[i]) && left > 0 {
				out[i] = kinds[i][:k+1]
				left--
			}
		}
		if left == before {
			break
		}
	}
	return out
}

// fetch does work in parallel and adds what came of it in its order.
func (g *gathering) fetch(ctx context.Context, todo []work, found *Found) error {
	results := make([]fetched, len(todo))
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(limits.AttachmentsParallel)
	for i, w := range todo {
		group.Go(func() (err error) {
			results[i], err = g.outcome(w.digest, w.fetch(gctx))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, r := range results {
		r.addTo(found)
	}
	return nil
}

// fetched is one result: an attachment, a problem, or nothing to speak of.
type fetched struct {
	attachment *Attachment
	problem    *Problem
}

func (f fetched) addTo(found *Found) {
	if f.attachment != nil {
		found.Attachments = append(found.Attachments, *f.attachment)
	}
	if f.problem != nil {
		found.Problems = append(found.Problems, *f.problem)
		found.Truncated = found.Truncated || errors.Is(f.problem.Err, ErrLimit)
	}
}

// result of fetching one attachment; nil attachment and nil error is an entry
// that turned out to be something else.
type result struct {
	attachment *Attachment
	err        error
}

// outcome decides whether an error concerns one entry, which is passed over,
// or the registry.
func (g *gathering) outcome(digest attest.Digest, r result) (fetched, error) {
	switch {
	case r.err == nil:
		return fetched{attachment: r.attachment}, nil
	case errIs(r.err, ErrDigestMismatch, ErrAmbiguous, ErrLimit, ErrNotFound, ErrUnsafe):
		return fetched{problem: &Problem{Digest: digest, Err: r.err}}, nil
	}
	return fetched{}, r.err
}

// referrer fetches one referrer and the bundle or envelope in it.
func (g *gathering) referrer(ctx context.Context, d listed, via string) result {
	if err := g.spend(d.Size); err != nil {
		return result{err: err}
	}
	m, err := g.manifest(ctx, d.Digest.String())
	if err != nil {
		return result{err: err}
	}
	if int64(len(m.Raw)) != d.Size {
		return result{err: fmt.Errorf("%w: %s is not of the size listed", ErrAmbiguous, d.Digest)}
	}
	mediaType, layer, ok, err := referrerLayer(m, g.subject)
	if err != nil || !ok {
		return result{err: err}
	}
	b, err := g.blob(ctx, layer)
	if err != nil {
		return result{err: err}
	}
	if !attest.IsBundleMediaType(mediaType) {
		return result{attachment: &Attachment{
			Format: FormatNotation, Digest: m.Digest, Via: via, Envelope: &Envelope{MediaType: mediaType, Content: b},
		}}
	}
	return result{attachment: &Attachment{Format: FormatBundle, Digest: m.Digest, Via: via, Bundle: b}}
}

// referrerLayer is the descriptor of the bundle or envelope in a referrer
// manifest, and its media type; ok is false if the manifest is neither's.
func referrerLayer(m Manifest, subject attest.Digest) (mediaType string, ref blobRef, ok bool, err error) {
	if m.IsIndex {
		return "", blobRef{}, false, nil
	}
	image, err := decode[v1.Manifest](m.Raw)
	if err != nil {
		return "", blobRef{}, false, err
	}
	if !attest.IsBundleMediaType(image.ArtifactType) && !isNotation(image) {
		return "", blobRef{}, false, nil
	}
	switch {
	case image.Subject == nil || image.Subject.Digest.String() != subject.String():
		return "", blobRef{}, false, fmt.Errorf("%w: %s refers to another subject", ErrAmbiguous, m.Digest)
	case len(image.Layers) != 1 || !carries(image, string(image.Layers[0].MediaType)):
		return "", blobRef{}, false, fmt.Errorf("%w: %s must have one layer, the bundle or envelope", ErrAmbiguous, m.Digest)
	}
	ref, err = blobOf(image.Layers[0])
	return string(image.Layers[0].MediaType), ref, err == nil, err
}

// blobRef is what is needed of a layer's descriptor. Its urls are not: content
// comes from the registry or not at all.
type blobRef struct {
	digest      attest.Digest
	size        int64
	annotations map[string]string
}

func blobOf(d v1.Descriptor) (blobRef, error) {
	digest, err := attest.ParseDigest(d.Digest.String())
	if err != nil || d.Size < 0 {
		return blobRef{}, fmt.Errorf("%w: a layer has no sha256 digest or a negative size", ErrAmbiguous)
	}
	return blobRef{digest: digest, size: d.Size, annotations: d.Annotations}, nil
}

// blob fetches a blob of the size and digest that the descriptor names; not a
// byte more is read than it says.
func (g *gathering) blob(ctx context.Context, ref blobRef) ([]byte, error) {
	if ref.size > limits.Bundle {
		return nil, fmt.Errorf("%w: %s is larger than %d bytes", ErrLimit, ref.digest, limits.Bundle)
	}
	if err := g.spend(ref.size); err != nil {
		return nil, err
	}
	c := g.get(g.path("blobs", ref.digest.String()), "", max(ref.size, 1))
	c.elsewhere = true
	a, err := g.read(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := g.expect(a, "blob "+ref.digest.String(), http.StatusOK); err != nil {
		return nil, err
	}
	if int64(len(a.body)) != ref.size || attest.DigestOf(a.body) != ref.digest {
		return nil, fmt.Errorf("%w: blob %s", ErrDigestMismatch, ref.digest)
	}
	return a.body, nil
}

// spend takes n bytes from the budget before they are fetched.
func (g *gathering) spend(n int64) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n < 0 || n > g.budget {
		return fmt.Errorf("%w: attachments of one subject exceed %d bytes", ErrLimit, limits.AttachmentBytes)
	}
	g.budget -= n
	return nil
}

// legacyListing is the layers of a .sig or .att manifest.
type legacyListing struct {
	layers    []blobRef
	problems  []Problem
	truncated bool
}

// legacyLayers reads the layers of a media type under a tag; without a manifest
// the listing is empty.
func (s source) legacyLayers(ctx context.Context, tag string, subject attest.Digest, mediaType string) (legacyListing, error) {
	m, err := s.manifest(ctx, tag)
	switch {
	case errors.Is(err, ErrNotFound):
		return legacyListing{}, nil
	case errIs(err, ErrDigestMismatch, ErrAmbiguous, ErrLimit):
		return legacyListing{
			problems: []Problem{{Digest: subject, Err: fmt.Errorf("legacy tag: %w", err)}}, truncated: errors.Is(err, ErrLimit),
		}, nil
	case err != nil:
		return legacyListing{}, err
	}
	return layersOf(m, mediaType)
}

func layersOf(m Manifest, mediaType string) (legacyListing, error) {
	if m.IsIndex {
		return legacyListing{}, nil
	}
	image, err := decode[v1.Manifest](m.Raw)
	if err != nil {
		return legacyListing{}, err
	}
	var l legacyListing
	for _, d := range image.Layers {
		if string(d.MediaType) != mediaType {
			continue
		}
		ref, err := blobOf(d)
		if err != nil {
			l.problems = append(l.problems, Problem{Digest: m.Digest, Err: err})
			continue
		}
		if len(l.layers) == limits.LegacySignatures {
			l.truncated = true
			break
		}
		l.layers = append(l.layers, ref)
	}
	return l, nil
}

// legacy fetches one layer's payload.
func (g *gathering) legacy(ctx context.Context, format string, ref blobRef) result {
	p := g.payload(payloadKey{digest: ref.digest, size: ref.size})
	p.once.Do(func() { p.bytes, p.err = g.blob(ctx, ref) })
	if p.err != nil {
		return result{err: p.err}
	}
	return result{attachment: &Attachment{
		Format: format, Digest: ref.digest, Via: ViaLegacyTag,
		Legacy: &Legacy{Payload: bytes.Clone(p.bytes), Annotations: maps.Clone(ref.annotations)},
	}}
}

func (g *gathering) payload(key payloadKey) *payload {
	g.mu.Lock()
	defer g.mu.Unlock()
	p, ok := g.payloads[key]
	if !ok {
		p = &payload{}
		g.payloads[key] = p
	}
	return p
}
