package registry

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/internal/limits"
)

// recentKey names a manifest that was read under exactly one rule: another rule,
// also with other credentials, has to read it itself.
type recentKey struct {
	rule       [sha256.Size]byte
	repository string
	digest     attest.Digest
}

type recentManifest struct {
	manifest Manifest
	until    time.Time
}

// recent are manifests that were read a moment ago, bounded by their bytes.
type recent = otter.Cache[recentKey, recentManifest]

func newRecent() *recent {
	// The options are constant and valid, so there is no error.
	cache, _ := otter.New(&otter.Options[recentKey, recentManifest]{
		MaximumWeight: limits.ManifestsFresh,
		Weigher: func(k recentKey, m recentManifest) uint32 {
			return uint32(len(m.manifest.Raw) + 64*len(m.manifest.Children) + len(k.repository) + 512) //nolint:gosec // bounded by limits.Manifest
		},
	})
	return cache
}

// ResolveRecent is Resolve for who only judges: by digest, it takes a manifest
// that was read within limits.ManifestFresh, by whomever in this process, as
// still there. The bytes are what the digest names in any case; the rule of the
// registry is looked at each time. So an image that was just signed here, or
// whose tag was just resolved, is judged without asking for it again.
func (c *Client) ResolveRecent(ctx context.Context, ref Reference) (Manifest, error) {
	if ref.Digest.IsZero() {
		return c.Resolve(ctx, ref)
	}
	o, err := c.origin(ctx, ref.Host, ref.Repository)
	if err != nil {
		return Manifest{}, err
	}
	if m, ok := c.recall(o.mark, ref); ok {
		return m, nil
	}
	return c.Resolve(ctx, ref)
}

// recall is a manifest that was read a moment ago under exactly this rule.
func (c *Client) recall(rule [sha256.Size]byte, ref Reference) (Manifest, bool) {
	m, ok := c.recent.GetIfPresent(recentKey{rule: rule, repository: ref.Repository, digest: ref.Digest})
	if !ok || !c.config.Clock.Now().Before(m.until) {
		return Manifest{}, false
	}
	m.manifest.Reference = ref
	return m.manifest, true
}

// note keeps a manifest that was just read, and forgets one that the registry
// no longer has. The rule is that under which it was asked for.
func (c *Client) note(s source, ref Reference, m Manifest, err error) {
	switch {
	case err == nil:
		c.recent.Set(recentKey{rule: s.asked, repository: ref.Repository, digest: m.Digest},
			recentManifest{manifest: m, until: c.config.Clock.Now().Add(limits.ManifestFresh)})
	case !s.mirror && errIs(err, ErrNotFound, ErrDenied) && !ref.Digest.IsZero():
		c.recent.Invalidate(recentKey{rule: s.asked, repository: ref.Repository, digest: ref.Digest})
	}
}
