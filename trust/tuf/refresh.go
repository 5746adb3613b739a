package tuf

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/countersign/countersign/internal/limits"
)

// work is one Refresh: what is published, what is held, what is wanted. It is
// made under the folder's lock.
type work struct {
	folder   *Folder
	keys     Keys
	log      *slog.Logger
	told     map[Role]string
	now      time.Time
	state    *state
	floor    int64
	held     map[Role][]held
	contents map[string][]byte
}

func (r *Repository) begin(ctx context.Context) (*work, error) {
	w := &work{
		folder: r.folder, keys: r.cfg.Keys, log: r.cfg.Logger, told: r.drafts,
		now: r.cfg.Clock.Now(), held: map[Role][]held{}, floor: r.cfg.Floor,
	}
	var err error
	if w.state, err = r.folder.load(); err != nil {
		return nil, err
	}
	for _, role := range Roles() {
		signers, err := r.cfg.Keys.Signers(ctx, role)
		if err != nil {
			return nil, fmt.Errorf("opening TUF keys of %s: %w", role, err)
		}
		for _, signer := range signers {
			key, err := hold(signer)
			if err != nil {
				return nil, err
			}
			w.held[role] = append(w.held[role], key)
		}
	}
	contents, err := r.cfg.Targets()
	if err != nil {
		return nil, fmt.Errorf("making the TUF targets: %w", err)
	}
	w.contents = contents
	return w, w.checkContents()
}

func (w *work) checkContents() error {
	if len(w.contents) > limits.TUFTargets {
		return fmt.Errorf("%w: more than %d targets", ErrDocument, limits.TUFTargets)
	}
	for name, content := range w.contents {
		if !isName(name) || len(content) > limits.TUFDocument {
			return fmt.Errorf("%w: target with an unsuitable name or of more than %d bytes", ErrDocument, limits.TUFDocument)
		}
	}
	return nil
}

// publish brings the folder up to date in the order of the package comment. At
// each step a crash leaves a state that clients can use, and the next Refresh
// carries on.
func (w *work) publish(ctx context.Context) error {
	next, complete, err := w.settleRoot(ctx)
	if err != nil {
		return err
	}
	if complete && w.lost(next) {
		// Nothing can be good under both roots. The root comes first: with it
		// alone the next Refresh can carry on.
		if err := w.publishRoot(ctx, next); err != nil {
			return err
		}
		next = nil
	}
	ready, err := w.settleTargets(ctx, judges(w.state.root(), next))
	if err != nil {
		return err
	}
	if !complete || !ready {
		// The next root waits for its signatures, or for targets that are good
		// under it too.
		next = nil
	}
	roots := judges(w.state.root(), next)
	if err := w.settleSnapshot(roots); err != nil {
		return err
	}
	if err := w.settleTimestamp(roots); err != nil {
		return err
	}
	return w.publishRoot(ctx, next)
}

// lost reports whether the service cannot sign below the root in force what it
// can sign below the next one: keys were lost, or targets come back online.
func (w *work) lost(next *rootDocument) bool {
	current := w.state.root()
	if current == nil {
		return false
	}
	targets := !w.holds(Targets, current) && w.holds(Targets, next) &&
		!verifies(judges(current, next), Targets, w.state.targets)
	return targets || !w.holds(Snapshot, current) || !w.holds(Timestamp, current)
}

// publishRoot writes a complete root; nil leaves the one in force.
func (w *work) publishRoot(ctx context.Context, next *rootDocument) error {
	if next != nil {
		raw, err := marshal(next)
		if err != nil {
			return err
		}
		if err := w.folder.writeOnce(File{Role: Root, Version: next.Signed.Version}.Path(), raw); err != nil {
			return err
		}
		w.state.roots, w.state.rootBytes = append(w.state.roots, next), raw
		w.log.InfoContext(ctx, "TUF root published", "version", next.Signed.Version, "expires", next.Signed.Expires)
		if err := w.folder.remove(draftRoot); err != nil {
			return err
		}
	}
	return w.folder.update(File{Role: Root}.Path(), w.state.rootBytes)
}

// settleRoot returns the root that is to follow, or nil, and whether it has its
// signatures.
func (w *work) settleRoot(ctx context.Context) (next *rootDocument, complete bool, err error) {
	current := w.state.root()
	if current == nil {
		next, err = w.firstRoot(ctx)
		return next, true, err
	}
	if next, err = w.folder.readDraftRoot(w.state); err != nil {
		return nil, false, err
	}
	fresh := next == nil
	if fresh {
		if next, err = w.draftRoot(ctx, current); err != nil || next == nil {
			return nil, false, err
		}
	}
	if !w.holds(Snapshot, next) || !w.holds(Timestamp, next) {
		// Published, it would end the renewal of everything below it.
		w.tell(ctx, Root, "the drafted TUF root names keys of snapshot or timestamp that are not held; discard it", next.Signed.Version)
		return nil, false, nil
	}
	if err := endorse(w, Root, next, judges(current, next)); err != nil {
		return nil, false, err
	}
	if err := w.folder.saveDraft(draftRoot, next); err != nil {
		return nil, false, err
	}
	if fresh { // the request is answered once its draft is durable
		if err := w.folder.remove(requestFile); err != nil {
			return nil, false, err
		}
	}
	if follows(current, next) != nil || !next.Signed.Expires.After(w.now) {
		return next, false, w.tellDraft(ctx, Root, next.Signed.Version)
	}
	return next, true, nil
}

// tellDraft says that people must sign, once for each state of the signatures.
func (w *work) tellDraft(ctx context.Context, role Role, version int64) error {
	draft, err := w.folder.draft(w.state, role)
	if err != nil {
		return err
	}
	w.tell(ctx, role, "TUF metadata waits for signatures; see countersign trust pending", version, draft.Needs)
	return nil
}

// tell logs what is wrong with a draft, once while it does not change.
func (w *work) tell(ctx context.Context, role Role, text string, version int64, about ...any) {
	said := fmt.Sprint(text, version, about)
	if w.told[role] == said {
		return
	}
	w.told[role] = said
	w.log.WarnContext(ctx, "TUF draft", "problem", text, "role", string(role), "version", version)
}

// firstRoot has one online key for each role.
func (w *work) firstRoot(ctx context.Context) (*rootDocument, error) {
	root := metadata.Root(after(w.now, terms(Root).valid))
	for _, role := range Roles() {
		key, err := w.unused(ctx, role)
		if err != nil {
			return nil, err
		}
		if err := addKey(&root.Signed, role, key.signer.Public()); err != nil {
			return nil, err
		}
	}
	if err := endorse(w, Root, root, judges(root)); err != nil {
		return nil, err
	}
	return root, follows(nil, root)
}

// draftRoot makes the next root when keys are asked for, or when the root runs
// out and the service can sign it alone; otherwise nil.
func (w *work) draftRoot(ctx context.Context, current *rootDocument) (*rootDocument, error) {
	requested, err := w.folder.requested()
	if err != nil {
		return nil, err
	}
	due := current.Signed.Expires.Sub(w.now) < terms(Root).renew
	asked := union(requested.Roles, requested.Online)
	if len(asked) == 0 && (!due || !w.holds(Root, current)) {
		return nil, nil //nolint:nilnil // nothing to do is a regular answer
	}
	next, err := nextRoot(current, w.now, terms(Root).valid)
	if err != nil {
		return nil, err
	}
	for _, role := range asked {
		if err := w.renewKey(ctx, role, next, slices.Contains(requested.Online, role)); err != nil {
			return nil, err
		}
	}
	return next, checkRoot(next)
}

// renewKey replaces the online keys of a role by a new one, or all its keys.
// Snapshot and timestamp have online keys only, also when they are lost. Of
// another role that has none the keys are not the service's to replace.
func (w *work) renewKey(ctx context.Context, role Role, next *rootDocument, all bool) error {
	all = all || role == Snapshot || role == Timestamp
	rules := next.Signed.Roles[string(role)]
	online := slices.DeleteFunc(slices.Clone(rules.KeyIDs), func(id string) bool {
		return !all && !slices.ContainsFunc(w.held[role], func(k held) bool { return k.id == id })
	})
	if len(online) == 0 {
		w.log.WarnContext(ctx, "TUF role has no online key to replace; name keys to countersign trust rotate", "role", string(role))
		return nil
	}
	if all {
		rules.Threshold = 1
	}
	key, err := w.unused(ctx, role)
	if err != nil {
		return err
	}
	for _, id := range online {
		if err := next.Signed.RevokeKey(id, string(role)); err != nil {
			return fmt.Errorf("%w: %w", ErrKey, err)
		}
	}
	return addKey(&next.Signed, role, key.signer.Public())
}

// unused is a held key of a role that no root has named yet, such as one made
// before a crash, or else a new one.
func (w *work) unused(ctx context.Context, role Role) (held, error) {
	for _, key := range slices.Backward(w.held[role]) {
		named := slices.ContainsFunc(w.state.roots, func(r *rootDocument) bool { return r.Signed.Keys[key.id] != nil })
		if !named {
			return key, nil
		}
	}
	signer, err := w.keys.Add(ctx, role)
	if err != nil {
		return held{}, fmt.Errorf("making a TUF key of %s: %w", role, err)
	}
	key, err := hold(signer)
	if err != nil {
		return held{}, err
	}
	w.held[role] = append(w.held[role], key)
	return key, nil
}

// holds reports whether the held keys reach a role's threshold.
func (w *work) holds(role Role, root *rootDocument) bool {
	rules, n := root.Signed.Roles[string(role)], 0
	for _, key := range w.held[role] {
		if slices.Contains(rules.KeyIDs, key.id) {
			n++
		}
	}
	return n >= rules.Threshold
}

func (w *work) heldIDs() []string {
	ids := map[string]bool{}
	for _, keys := range w.held {
		for _, key := range keys {
			ids[key.id] = true
		}
	}
	return slices.Sorted(maps.Keys(ids))
}

// endorse adds the signatures of held keys that count under one of the roots
// or, for clients that have just read it, under the root before.
func endorse[T metadata.Roles](w *work, role Role, doc *metadata.Metadata[T], roots []*rootDocument) error {
	if n := len(w.state.roots); n > 1 {
		roots = append(slices.Clone(roots), w.state.roots[n-2])
	}
	for _, key := range w.held[role] {
		counts := slices.ContainsFunc(roots, func(r *rootDocument) bool {
			return slices.Contains(r.Signed.Roles[string(role)].KeyIDs, key.id)
		})
		if !counts {
			continue
		}
		if err := attach(doc, key); err != nil {
			return err
		}
	}
	return nil
}

// settleTargets publishes the contents and reports whether the published
// targets are good under all roots, the first of which is in force. What the
// service may not sign alone becomes a draft.
func (w *work) settleTargets(ctx context.Context, roots []*rootDocument) (ready bool, err error) {
	files := w.files()
	if !w.targetsGood(roots[:1], files) {
		// Contents do not wait for a root that waits for people.
		doc := w.newTargets(files)
		if err := endorse(w, Targets, doc, roots); err != nil {
			return false, err
		}
		if verifies(roots[:1], Targets, doc) {
			if err := w.publishTargets(doc); err != nil {
				return false, err
			}
		}
	}
	if w.targetsGood(roots, files) {
		return true, w.folder.remove(draftTargets)
	}
	return w.settleTargetsDraft(ctx, roots, files)
}

func (w *work) settleTargetsDraft(ctx context.Context, roots []*rootDocument, files map[string]*metadata.TargetFiles) (ready bool, err error) {
	draft, err := w.folder.readDraftTargets(w.state)
	if err != nil {
		return false, err
	}
	if draft == nil || !sameFiles(draft.Signed.Targets, files) || !draft.Signed.Expires.After(w.now) {
		draft = w.newTargets(files)
	}
	if err := endorse(w, Targets, draft, roots); err != nil {
		return false, err
	}
	// Kept before it is published: a crash in between must not lose signatures
	// that people came together for.
	if err := w.folder.saveDraft(draftTargets, draft); err != nil {
		return false, err
	}
	if verifies(roots, Targets, draft) {
		return true, w.publishTargets(draft)
	}
	if w.state.targets == nil {
		return false, fmt.Errorf("%w: %s", ErrNotHeld, Targets)
	}
	// What is published may be good under all roots although it waits to be
	// replaced.
	return verifies(roots, Targets, w.state.targets), w.tellDraft(ctx, Targets, draft.Signed.Version)
}

// version is that of the role's next document.
func (w *work) version(role Role) int64 { return max(w.state.highest[role]+1, w.floor) }

func (w *work) newTargets(files map[string]*metadata.TargetFiles) *targetsDocument {
	doc := metadata.Targets(after(w.now, terms(Targets).valid))
	doc.Signed.Version, doc.Signed.Targets = w.version(Targets), files
	return doc
}

// targetsGood reports whether what is published will do.
func (w *work) targetsGood(roots []*rootDocument, files map[string]*metadata.TargetFiles) bool {
	t := w.state.targets
	return t != nil && sameFiles(t.Signed.Targets, files) && verifies(roots, Targets, t) &&
		t.Signed.Expires.Sub(w.now) >= terms(Targets).renew
}

func (w *work) publishTargets(doc *targetsDocument) error {
	for name, content := range w.contents {
		file := File{Hash: hashOf(content), Name: name}
		if err := w.folder.writeOnce(file.Path(), content); err != nil {
			return err
		}
	}
	raw, err := marshal(doc)
	if err != nil {
		return err
	}
	if err := w.folder.writeOnce(File{Role: Targets, Version: doc.Signed.Version}.Path(), raw); err != nil {
		return err
	}
	w.state.targets, w.state.targetsBytes = doc, raw
	w.state.highest[Targets] = max(w.state.highest[Targets], doc.Signed.Version)
	return nil
}

func (w *work) files() map[string]*metadata.TargetFiles {
	files := map[string]*metadata.TargetFiles{}
	for name, content := range w.contents {
		sum := sha256.Sum256(content)
		files[name] = &metadata.TargetFiles{Length: int64(len(content)), Hashes: metadata.Hashes{"sha256": sum[:]}}
	}
	return files
}

func hashOf(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

func sameFiles(a, b map[string]*metadata.TargetFiles) bool {
	return maps.EqualFunc(a, b, func(x, y *metadata.TargetFiles) bool { return x.Equal(*y) })
}

func (w *work) settleSnapshot(roots []*rootDocument) error {
	reference := refer(w.state.targets.Signed.Version, w.state.targetsBytes)
	s := w.state.snapshot
	if s != nil && sameReference(s.Signed.Meta[string(Targets)+".json"], reference) && verifies(roots, Snapshot, s) &&
		s.Signed.Expires.Sub(w.now) >= terms(Snapshot).renew {
		return nil
	}
	doc := metadata.Snapshot(after(w.now, terms(Snapshot).valid))
	doc.Signed.Version = w.version(Snapshot)
	doc.Signed.Meta = map[string]*metadata.MetaFiles{string(Targets) + ".json": reference}
	raw, err := seal(w, Snapshot, doc, roots)
	if err != nil {
		return err
	}
	if err := w.folder.writeOnce(File{Role: Snapshot, Version: doc.Signed.Version}.Path(), raw); err != nil {
		return err
	}
	w.state.snapshot, w.state.snapshotBytes = doc, raw
	return nil
}

func (w *work) settleTimestamp(roots []*rootDocument) error {
	reference := refer(w.state.snapshot.Signed.Version, w.state.snapshotBytes)
	t := w.state.timestamp
	if t != nil && sameReference(t.Signed.Meta[string(Snapshot)+".json"], reference) && verifies(roots, Timestamp, t) &&
		t.Signed.Expires.Sub(w.now) >= terms(Timestamp).renew {
		return nil
	}
	doc := metadata.Timestamp(after(w.now, terms(Timestamp).valid))
	doc.Signed.Version = w.version(Timestamp)
	doc.Signed.Meta = map[string]*metadata.MetaFiles{string(Snapshot) + ".json": reference}
	raw, err := seal(w, Timestamp, doc, roots)
	if err != nil {
		return err
	}
	if err := w.folder.write(File{Role: Timestamp}.Path(), raw); err != nil {
		return err
	}
	w.state.timestamp = doc
	return nil
}

// seal signs a document that the service must be able to sign alone.
func seal[T metadata.Roles](w *work, role Role, doc *metadata.Metadata[T], roots []*rootDocument) ([]byte, error) {
	if err := endorse(w, role, doc, roots); err != nil {
		return nil, err
	}
	if !verifies(roots, role, doc) {
		return nil, fmt.Errorf("%w: %s", ErrNotHeld, role)
	}
	return marshal(doc)
}

func sameReference(a, b *metadata.MetaFiles) bool {
	return a != nil && a.Version == b.Version && a.Length == b.Length && a.Hashes.Equal(b.Hashes)
}
