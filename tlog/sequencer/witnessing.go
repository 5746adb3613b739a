package sequencer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/transparency-dev/merkle/proof"
	"golang.org/x/mod/sumdb/note"

	"github.com/countersign/countersign/tlog"
)

// How soon witnesses that were not there are asked again.
const (
	askSoon  = 200 * time.Millisecond
	askLater = 5 * time.Second
)

// witnessing is what one log knows of its witnesses. The zero of *witnessing, a
// log without witnesses, never fails.
type witnessing struct {
	*Witnesses
	// origin labels the log's quorum among those of all shards.
	origin string
	// wake has the follower look.
	wake func()

	mu sync.Mutex
	// signedAt is when the checkpoint under way was signed; met says that it has
	// its quorum, or that none is under way.
	signedAt time.Time
	met      bool
	// refusal is why nothing is published, and failing is closed while it is
	// set; both only when the log fails closed.
	refusal error
	failing chan struct{}
	// conflict is a witness's word that this log is another one.
	conflict error
	// lacking says that the checkpoint shown to readers has no quorum.
	lacking bool
}

func newWitnessing(w *Witnesses, origin string, wake func()) *witnessing {
	if w == nil {
		return nil
	}
	return &witnessing{Witnesses: w, origin: origin, wake: wake, met: true, failing: make(chan struct{})}
}

// begin is called for each checkpoint that is signed. That another is signed
// before the last one had its quorum means that the driver gave it up.
func (w *witnessing) begin() {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.met {
		w.fail(errors.New("the quorum was not reached in time"))
	}
	w.signedAt, w.met = w.cfg.Clock.Now(), false
}

// unmet reports whether the checkpoint under way has no quorum.
func (w *witnessing) unmet() bool {
	if w == nil {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.met
}

// seen is told, for each cosignature, whether the quorum is there.
func (w *witnessing) seen(met bool) {
	if !met {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waited.Observe(w.cfg.Clock.Now().Sub(w.signedAt).Seconds())
	w.meet()
}

// meet ends a failure. The caller holds w.mu.
func (w *witnessing) meet() {
	w.met = true
	w.tell(true)
	if w.refusal != nil {
		w.refusal, w.failing = nil, make(chan struct{})
	}
}

// fail begins one. The caller holds w.mu.
func (w *witnessing) fail(cause error) {
	w.tell(false)
	if w.cfg.FailOpen || w.refusal != nil {
		return
	}
	w.refusal = fmt.Errorf("%w: %w", ErrUnwitnessed, cause)
	close(w.failing)
}

// contradicted takes a witness's word that this is another log.
func (w *witnessing) contradicted(err error) {
	w.mu.Lock()
	if w.conflict == nil {
		w.conflict = err
	}
	w.mu.Unlock()
	w.wake()
}

// contradiction is the first one.
func (w *witnessing) contradiction() error {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.conflict
}

// why is the reason that nothing is published, or nil.
func (w *witnessing) why() error {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.refusal
}

// failed is closed while nothing is published.
func (w *witnessing) failed() <-chan struct{} {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failing
}

// shown is told of each checkpoint that readers get.
func (w *witnessing) shown(raw []byte) {
	if w == nil {
		return
	}
	met := w.cfg.Policy.quorum.Satisfied(raw)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lacking = !met
	w.tell(met)
}

// tell sets the log's metric.
func (w *witnessing) tell(met bool) {
	value := 0.
	if met {
		value = 1
	}
	w.quorum.WithLabelValues(w.origin).Set(value)
}

// gone takes back the metric of a log that asks nobody any more.
func (w *witnessing) gone() {
	if w != nil {
		w.quorum.DeleteLabelValues(w.origin)
	}
}

// httpClient is the driver's, http.DefaultClient without witnesses.
func (w *witnessing) httpClient() *http.Client {
	if w == nil {
		return nil
	}
	client := *w.client
	client.Transport = spotting{inner: w.client.Transport, seen: w.contradicted, names: w.names}
	return &client
}

// Witnessed is nil while the published checkpoint has its quorum of witnesses, or
// none is asked for.
func (s *Sequencer) Witnessed() error {
	w := s.witness
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.refusal != nil:
		return w.refusal
	case w.lacking:
		return fmt.Errorf("%w: the published checkpoint lacks its quorum", ErrUnwitnessed)
	}
	return nil
}

// Witnessed is the active shard's.
func (l *Log) Witnessed() error { return l.active().Witnessed() }

// AwaitWitnessed returns when the shard that is written next has published its
// empty checkpoint, with the cosignatures that it needs: nothing may be written to
// it before its witnesses know it. Without a prepared shard it does nothing. It
// waits as long as a checkpoint does; then it fails with ErrUnwitnessed, and the
// shard goes on asking.
func (l *Log) AwaitWitnessed(ctx context.Context) error {
	l.mu.RLock()
	next := l.next
	l.mu.RUnlock()
	if next == nil || next.witness == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, next.witness.cfg.Timeout+askLater)
	defer cancel()
	for {
		next.mu.Lock()
		v, changed, fault := next.view, next.changed, next.fault
		next.mu.Unlock()
		switch {
		case fault != nil:
			return fault
		case v.raw != nil:
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%w: they do not know the next shard: %w", ErrUnwitnessed, errors.Join(next.witness.why(), ctx.Err()))
		}
	}
}

// consult asks every witness what it knows before anything is signed. One that
// contradicts the log is ErrRollback. Without a quorum the log begins in failure,
// unless it fails open, and goes on asking.
func (s *Sequencer) consult(ctx context.Context) error {
	if s.witness == nil || s.view.raw == nil {
		return s.witness.contradiction()
	}
	missing, err := s.askAll(ctx)
	if err != nil || missing == nil {
		return err
	}
	s.cfg.Logger.WarnContext(ctx, "witnesses do not cosign; asking again", slog.Any("cause", missing), slog.Bool("fail open", s.witness.cfg.FailOpen))
	s.witness.mu.Lock()
	s.witness.fail(missing)
	s.witness.mu.Unlock()
	s.asking.Go(func() { s.askUntilMet(s.ctx) })
	return nil
}

// askUntilMet brings the log back when its witnesses are. What grew meanwhile is
// the driver's to publish.
func (s *Sequencer) askUntilMet(ctx context.Context) {
	pause := time.NewTimer(askSoon)
	defer pause.Stop()
	for delay := askSoon; ; delay = min(2*delay, askLater) {
		pause.Reset(delay)
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
		missing, err := s.askAll(ctx)
		if err != nil {
			s.witness.contradicted(err)
			return
		}
		if missing == nil {
			s.cfg.Logger.InfoContext(ctx, "witnesses cosign again")
			return
		}
	}
}

// askAll has all witnesses look at the published checkpoint. missing says why
// there is no quorum, nil when there is; err is a contradiction.
func (s *Sequencer) askAll(ctx context.Context) (missing, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.witness.cfg.Timeout)
	defer cancel()
	v := s.current()
	own, err := s.ownCheckpoint(v.raw)
	if err != nil {
		return nil, err
	}
	entries := s.witness.cfg.Policy.witnesses
	lines, errs := make([][]byte, len(entries)), make([]error, len(entries))
	var wg sync.WaitGroup
	for i, entry := range entries {
		wg.Go(func() { lines[i], errs[i] = s.ask(ctx, entry, v, own) })
	}
	wg.Wait()
	missing = errors.Join(errs...)
	if errors.Is(missing, ErrRollback) {
		return nil, missing
	}
	if !s.witness.cfg.Policy.quorum.Satisfied(append(own, bytes.Join(lines, nil)...)) {
		return errors.Join(errors.New("the published checkpoint has no quorum"), missing), nil
	}
	s.witness.mu.Lock()
	defer s.witness.mu.Unlock()
	s.witness.meet()
	s.witness.lacking = false
	return nil, nil
}

// ownCheckpoint is a checkpoint with the log's signature only: a witness's older
// line would hide its new one.
func (s *Sequencer) ownCheckpoint(raw []byte) ([]byte, error) {
	signed, err := note.Open(raw, note.VerifierList(s.verifier))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", tlog.ErrCheckpoint, err)
	}
	return note.Sign(&note.Note{Text: signed.Text, Sigs: signed.Sigs})
}

// ask gets one witness's cosignature on the published checkpoint. It begins with
// our size as the old one; a witness that was left behind is told the way. One
// that is ahead, by a checkpoint that a crash kept from being published, is
// proven the next one by the driver.
func (s *Sequencer) ask(ctx context.Context, entry witnessEntry, v *view, own []byte) ([]byte, error) {
	old := v.cp.Size
	for range 3 {
		request, err := proveFrom(v, old, own)
		if err != nil {
			return nil, err
		}
		a, err := s.post(ctx, entry, request)
		if err != nil {
			return nil, fmt.Errorf("witness %s: %w", entry.name, err)
		}
		// Read after the answer: the log may have grown, and been cosigned, since
		// it was asked.
		checked, err := s.reader.IntegratedSize(ctx)
		switch {
		case err != nil:
			return nil, fmt.Errorf("reading tree state: %w", err)
		case a.conflicts(checked):
			return nil, conflictError(entry.name, a, checked)
		case a.sized && a.size <= v.cp.Size:
			old = a.size
			continue
		case a.sized:
			return nil, fmt.Errorf("witness %s waits for a checkpoint that is not published yet", entry.name)
		case a.status != http.StatusOK:
			return nil, fmt.Errorf("witness %s answers %d", entry.name, a.status)
		}
		signed, err := note.Open(append(bytes.Clone(own), a.signed...), note.VerifierList(entry.verifier))
		if err != nil {
			return nil, fmt.Errorf("witness %s: its cosignature: %w", entry.name, err)
		}
		return fmt.Appendf(nil, "— %s %s\n", signed.Sigs[0].Name, signed.Sigs[0].Base64), nil
	}
	return nil, fmt.Errorf("witness %s changes what it knows", entry.name)
}

func proveFrom(v *view, old uint64, own []byte) (tlog.WitnessRequest, error) {
	request := tlog.WitnessRequest{OldSize: old, Checkpoint: own}
	if old == 0 || old == v.cp.Size {
		return request, nil
	}
	nodes, err := proof.Consistency(old, v.cp.Size)
	if err != nil {
		return request, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	request.Proof, err = v.tree.hashes(nodes)
	return request, err
}

func (s *Sequencer) post(ctx context.Context, entry witnessEntry, request tlog.WitnessRequest) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, entry.url, bytes.NewReader(request.Marshal()))
	if err != nil {
		return answer{}, err
	}
	resp, err := s.witness.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	return readAnswer(resp)
}
