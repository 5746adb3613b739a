package monitor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"github.com/transparency-dev/merkle/compact"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/tlog"
)

// verified is what was verified of a log in an earlier pass.
type verified struct {
	progress
	// known is false for a log that was never seen.
	known bool
	cp    tlog.Checkpoint
	seen  map[string]tlog.Checkpoint
}

// before is the state of a log; its notes are verified again.
func (m *Monitor) before(log Log) (verified, error) {
	kept, known := m.state.Logs[keyOf(log)]
	v := verified{progress: kept, known: known, seen: map[string]tlog.Checkpoint{}}
	if !known {
		return v, nil
	}
	var err error
	if v.cp, err = tlog.OpenExtendedCheckpoint([]byte(kept.Checkpoint), log.Verifier); err != nil {
		return v, fmt.Errorf("%w: %s: %w", ErrState, m.cfg.State, err)
	}
	for url, raw := range kept.Seen {
		if v.seen[url], err = tlog.OpenExtendedCheckpoint([]byte(raw), log.Verifier); err != nil {
			return v, fmt.Errorf("%w: %s: %w", ErrState, m.cfg.State, err)
		}
	}
	return v, nil
}

// pass is one look at one log.
type pass struct {
	m      *Monitor
	log    Log
	before verified

	raw   []byte
	cp    tlog.Checkpoint
	tiles *tiles
	after progress
	// own are the keys of Config.Own once they were asked for.
	own []string
	// alarms were found; contradicted says that one of them is about the log
	// itself, so that nothing may be kept.
	alarms       []Alarm
	contradicted bool
}

func (p *pass) run(ctx context.Context) error {
	raw, cp, ok, err := p.fetch(ctx, &p.log.Source)
	if err != nil || !ok {
		return err
	}
	p.raw, p.cp, p.tiles = raw, cp, newTiles(p.log.Fetch, cp.Size)
	p.after = progress{Checkpoint: string(raw), Edge: p.before.Edge, Seen: maps.Clone(p.before.Seen)}
	if p.after.Seen == nil {
		p.after.Seen = map[string]string{}
	}
	if ok, err := p.monotone(ctx); err != nil || !ok {
		return err
	}
	if p.log.Quorum != nil && !p.log.Quorum(raw) {
		p.contradict(p.log.Source, Unwitnessed, fmt.Sprintf("the checkpoint of %d entries lacks its quorum of witnesses", cp.Size), raw)
		return nil
	}
	if !p.before.known || cp.Size > p.before.cp.Size {
		if err := p.grow(ctx); err != nil {
			return p.damaged(err)
		}
	}
	var errs []error
	for _, source := range p.log.Also {
		if err := p.compare(ctx, source); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", source.URL, err))
		}
	}
	return errors.Join(errs...)
}

// fetch reads and verifies a checkpoint; ok is false after an alarm. At a place
// from which the log has moved since it was found, another one may be served: a
// log that goes on in a new shard does that. It is looked for once more.
func (p *pass) fetch(ctx context.Context, from *Source) (raw []byte, cp tlog.Checkpoint, ok bool, err error) {
	raw, cp, err = p.open(ctx, *from)
	if errors.Is(err, tlog.ErrCheckpoint) {
		if moved, found := p.moved(ctx, *from); found {
			*from = moved
			raw, cp, err = p.open(ctx, moved)
		}
	}
	if errors.Is(err, tlog.ErrCheckpoint) {
		p.contradict(*from, BadCheckpoint, err.Error(), raw)
		return nil, cp, false, nil
	}
	return raw, cp, err == nil, err
}

// open reads a checkpoint; one that is not the log's is tlog.ErrCheckpoint.
func (p *pass) open(ctx context.Context, from Source) ([]byte, tlog.Checkpoint, error) {
	raw, err := from.Fetch(ctx, "checkpoint")
	if err != nil {
		return nil, tlog.Checkpoint{}, fmt.Errorf("reading the checkpoint: %w", err)
	}
	cp, err := tlog.OpenExtendedCheckpoint(raw, p.log.Verifier)
	return raw, cp, err
}

// moved is the place that has taken the place of one of the log's, as the logs
// are found now.
func (p *pass) moved(ctx context.Context, from Source) (Source, bool) {
	if p.m.cfg.Find == nil {
		return Source{}, false
	}
	logs, err := p.m.logs(ctx)
	if err != nil {
		return Source{}, false
	}
	at := slices.IndexFunc(logs, func(l Log) bool { return keyOf(l) == keyOf(p.log) })
	if at < 0 {
		return Source{}, false
	}
	then, now := append([]Source{p.log.Source}, p.log.Also...), append([]Source{logs[at].Source}, logs[at].Also...)
	i := slices.IndexFunc(then, func(s Source) bool { return s.URL == from.URL })
	if len(now) != len(then) || i < 0 || now[i].URL == from.URL {
		return Source{}, false
	}
	return now[i], true
}

// contradict is an alarm about the log itself.
func (p *pass) contradict(source Source, kind Kind, detail string, notes ...[]byte) {
	a := p.alarm(source, kind, detail)
	for _, raw := range notes {
		a.Checkpoints = append(a.Checkpoints, string(raw[:min(len(raw), 64<<10)]))
	}
	p.alarms = append(p.alarms, a.identified(p.before.Checkpoint))
	p.contradicted = true
}

func (p *pass) alarm(source Source, kind Kind, detail string) Alarm {
	return Alarm{
		Kind: kind, Time: p.m.cfg.Clock.Now(), Origin: p.log.Name(), KeyHash: hashOf(p.log), Source: source.URL, Detail: detail,
	}
}

// damaged makes an alarm of a file that is not what the checkpoint says. Trouble
// on the way there stays an error.
func (p *pass) damaged(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		p.contradict(p.log.Source, Missing, err.Error(), p.raw)
	case errors.Is(err, ErrTile):
		p.contradict(p.log.Source, TileChanged, err.Error(), p.raw)
	default:
		return err
	}
	return nil
}

// monotone compares the checkpoint with what was seen before, here and at other
// places.
func (p *pass) monotone(ctx context.Context) (bool, error) {
	last := p.before.cp
	switch {
	case !p.before.known:
		return true, nil
	case p.cp.Size < last.Size:
		p.contradict(p.log.Source, OlderCheckpoint, fmt.Sprintf("%d entries, and %d before", p.cp.Size, last.Size), []byte(p.before.Checkpoint), p.raw)
	case p.cp.Size == last.Size && !bytes.Equal(p.cp.Root, last.Root):
		p.contradict(p.log.Source, SplitView, fmt.Sprintf("another root for %d entries", p.cp.Size), []byte(p.before.Checkpoint), p.raw)
	}
	for url, seen := range p.before.seen {
		if p.contradicted {
			break
		}
		note := []byte(p.before.Seen[url])
		if seen.Size > p.cp.Size {
			p.contradict(p.log.Source, OlderCheckpoint, fmt.Sprintf("%d entries, and %s served %d before", p.cp.Size, url, seen.Size), note, p.raw)
			continue
		}
		if err := p.prove(ctx, Source{URL: url}, p.tiles, seen, note, p.cp, p.raw); err != nil {
			return false, p.damaged(err)
		}
	}
	return !p.contradicted, nil
}

// prove raises an alarm unless the tiles show that newer extends older.
func (p *pass) prove(ctx context.Context, source Source, t *tiles, older tlog.Checkpoint, olderRaw []byte, newer tlog.Checkpoint, newerRaw []byte) error {
	ok, err := t.consistent(ctx, older, newer.Root)
	if err != nil {
		return err
	}
	if !ok {
		p.contradict(source, SplitView, fmt.Sprintf("%d entries are not the beginning of %d", older.Size, newer.Size), olderRaw, newerRaw)
	}
	return nil
}

// compare holds what another place serves against the log.
func (p *pass) compare(ctx context.Context, source Source) error {
	raw, cp, ok, err := p.fetch(ctx, &source)
	if err != nil || !ok {
		return err
	}
	before := p.before.seen[source.URL]
	switch {
	case cp.Size < before.Size:
		p.contradict(source, OlderCheckpoint, fmt.Sprintf("%d entries, and %d before", cp.Size, before.Size), []byte(p.before.Seen[source.URL]), raw)
		return nil
	case cp.Size < p.before.cp.Size:
		// It had a whole interval to get there.
		p.contradict(source, OlderCheckpoint, fmt.Sprintf("%d entries, and %s served %d before", cp.Size, p.log.URL, p.before.cp.Size), []byte(p.before.Checkpoint), raw)
		return nil
	}
	p.after.Seen[source.URL] = string(raw)
	if cp.Size <= p.cp.Size {
		err = p.prove(ctx, source, p.tiles, cp, raw, p.cp, p.raw)
		if err != nil {
			return p.damaged(err)
		}
		return nil
	}
	err = p.prove(ctx, source, newTiles(source.Fetch, cp.Size), p.cp, p.raw, cp, raw)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrTile) {
		return nil // it serves no tiles; the log must reach what it shows by the next pass
	}
	return err
}

// growth is what the new entries make of the verified tree.
type growth struct {
	// entries and leaves are the tree over the entries and over the tiles.
	entries, leaves *compact.Range
	// differ is the first entry that is not in its tile.
	differ *uint64
	// harmed says that a tile above is not that of the entries.
	harmed bool
	alarms []Alarm
	more   int
}

// grow puts the new entries on the tree.
func (p *pass) grow(ctx context.Context) error {
	if !p.before.known && p.m.cfg.FromNow {
		return p.begin(ctx)
	}
	consistent, err := p.tiles.consistent(ctx, p.before.cp, p.cp.Root)
	if err != nil {
		return err
	}
	g := &growth{}
	if g.entries, err = grown(p.before.cp.Size, p.before.Edge); err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	if g.leaves, err = grown(p.before.cp.Size, p.before.Edge); err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	for g.entries.End() < p.cp.Size {
		if err := p.bundle(ctx, g); err != nil {
			return err
		}
	}
	return p.settle(g, consistent)
}

// begin trusts the tiles that make the signed root.
func (p *pass) begin(ctx context.Context) error {
	edge, err := p.tiles.rangeOf(ctx)
	if err != nil {
		return err
	}
	root, err := rootOf(edge)
	if err != nil {
		return err
	}
	if !bytes.Equal(root, p.cp.Root) {
		p.contradict(p.log.Source, TileChanged, "the tiles do not make the signed root", p.raw)
		return nil
	}
	p.after.Edge = edge.Hashes()
	return nil
}

// bundle reads the next entries.
func (p *pass) bundle(ctx context.Context, g *growth) error {
	first := g.entries.End()
	entries, err := p.tiles.entries(ctx, first/tlog.TileWidth)
	if err != nil {
		return err
	}
	for i, entry := range entries[first%tlog.TileWidth:] {
		index := first + uint64(i)
		hash := tlog.LeafHash(entry)
		stored, err := p.tiles.node(ctx, compact.NewNodeID(0, index))
		if err != nil {
			return err
		}
		if !bytes.Equal(hash, stored) && g.differ == nil {
			g.differ = &index
		}
		var above error
		visit := func(id compact.NodeID, hash []byte) {
			if id.Level > 0 && id.Level%8 == 0 && above == nil {
				above = p.above(ctx, g, id, hash)
			}
		}
		if err := errors.Join(g.entries.Append(hash, visit), g.leaves.Append(stored, nil), above); err != nil {
			return err
		}
		if err := p.judge(ctx, g, index, entry); err != nil {
			return err
		}
	}
	return nil
}

// above compares the hash of a whole tile with the tile above it.
func (p *pass) above(ctx context.Context, g *growth, id compact.NodeID, hash []byte) error {
	stored, err := p.tiles.node(ctx, id)
	if err == nil && !bytes.Equal(stored, hash) {
		g.harmed = true
	}
	return err
}

func (p *pass) judge(ctx context.Context, g *growth, index uint64, entry []byte) error {
	if p.m.cfg.Watch == nil {
		return nil
	}
	found := p.m.cfg.Watch.judge(entry)
	if found == nil {
		return nil
	}
	if found.Kind == UnexpectedKey {
		if own, err := p.isOwn(ctx, found.KeyID); own || err != nil {
			return err
		}
	}
	if len(g.alarms) == limits.MonitorAlarms {
		g.more++
		return nil
	}
	a := p.alarm(p.log.Source, found.Kind, found.Detail)
	a.Index, a.Issuer, a.Subject, a.KeyID = &index, found.Issuer, found.Subject, found.KeyID
	g.alarms = append(g.alarms, a.identified(""))
	return nil
}

// isOwn asks for the own keys once in a pass, and not before the checkpoint was
// read: a key is made before it signs.
func (p *pass) isOwn(ctx context.Context, id string) (bool, error) {
	if p.own == nil && p.m.cfg.Own != nil {
		own, err := p.m.cfg.Own(ctx)
		if err != nil {
			return false, fmt.Errorf("asking for the own keys: %w", err)
		}
		p.own = append([]string{}, own...)
	}
	return slices.Contains(p.own, id), nil
}

// settle says what the signed root makes of the entries. Only when it is theirs
// is anything believed about them (row B5).
func (p *pass) settle(g *growth, consistent bool) error {
	root, err := rootOf(g.entries)
	if err != nil {
		return err
	}
	stored, err := rootOf(g.leaves)
	if err != nil {
		return err
	}
	notes := [][]byte{p.raw}
	if p.before.known {
		notes = [][]byte{[]byte(p.before.Checkpoint), p.raw}
	}
	whole, tiled := bytes.Equal(root, p.cp.Root), bytes.Equal(stored, p.cp.Root)
	switch {
	case whole && g.differ != nil:
		p.contradict(p.log.Source, TileChanged, fmt.Sprintf("entry %d is not in its tile", *g.differ), notes...)
	case whole && (g.harmed || !consistent):
		p.contradict(p.log.Source, TileChanged, "the tiles do not prove what the entries do", notes...)
	case whole:
		p.after.Edge = g.entries.Hashes()
		p.alarms = append(p.alarms, g.alarms...)
		if g.more > 0 {
			last := &p.alarms[len(p.alarms)-1]
			last.Detail += fmt.Sprintf("; and %d more alarms of this pass are not told one by one", g.more)
		}
	case tiled:
		p.contradict(p.log.Source, EntryChanged, fmt.Sprintf("entry %d is not the one that was logged", *g.differ), notes...)
	case p.before.known:
		p.contradict(p.log.Source, SplitView, fmt.Sprintf("%d entries are not the beginning of %d", p.before.cp.Size, p.cp.Size), notes...)
	default:
		p.contradict(p.log.Source, EntryChanged, "the entries do not make the signed root", notes...)
	}
	return nil
}
