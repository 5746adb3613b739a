package signer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/digitorus/timestamp"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/audit"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/signer"
	"github.com/countersign/countersign/store"
)

func TestStartAndWatch(t *testing.T) {
	t.Parallel()
	s := newSite(t, newWorld(t))
	sg := start(t, s.config())
	_, image := s.push(t, "async")
	request := signer.Request{Image: image, Key: "release", IdempotencyKey: "async"}
	op, err := sg.Start(t.Context(), ci(), request)
	if err != nil {
		t.Fatal(err)
	}
	if op.ID == "" || op.Kind != "signature" || op.Caller != "local ci" || op.Image == "" {
		t.Errorf("started as %+v", op)
	}
	var seen []string
	var last signer.Operation
	if err := sg.Watch(t.Context(), op.ID, func(op signer.Operation) error {
		seen, last = append(seen, op.State), op
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if last.State != signer.StateDone || !slices.Contains(seen, signer.StateRunning) {
		t.Errorf("watched %v", seen)
	}
	var steps []string
	for _, step := range last.Steps {
		steps = append(steps, step.Name)
		if step.State != signer.StateDone || step.FinishedAt == nil {
			t.Errorf("step %+v", step)
		}
	}
	if want := []string{"permit", "resolve", "sign", "log", "timestamp", "bundle", "verify", "attach"}; !slices.Equal(steps, want) {
		t.Errorf("steps %v", steps)
	}
	result, err := sg.Signature(t.Context(), op.ID)
	if err != nil || string(result.Body()) != string(last.Result) {
		t.Errorf("the signature is not the operation's result: %v", err)
	}
	// Asked again, by either door, it is the same operation.
	again, err := sg.Start(t.Context(), ci(), request)
	if err != nil || again.ID != op.ID || again.State != signer.StateDone {
		t.Errorf("%+v, %v", again, err)
	}
	if got, replayed, err := sg.Sign(t.Context(), ci(), request); err != nil || !replayed || got.ID != op.ID {
		t.Errorf("%v %v %v", got.ID, replayed, err)
	}
	list, next, err := sg.Signatures(t.Context(), signer.Filter{Digest: result.Digest}, store.Page{Limit: 10})
	if err != nil || next != "" || len(list) != 1 || list[0].ID != op.ID {
		t.Errorf("list of %d, %q, %v", len(list), next, err)
	}
}

func TestStartRefusals(t *testing.T) {
	t.Parallel()
	s := newSite(t, newWorld(t))
	sg := start(t, s.config())
	_, image := s.push(t, "refusals")
	for name, tt := range map[string]struct {
		request signer.Request
		want    error
	}{
		"bad request":  {signer.Request{Image: image, Key: "release", Formats: []string{"x"}}, signer.ErrRequest},
		"not listed":   {signer.Request{Image: "127.0.0.1:1/team/app:1", Key: "release"}, signer.ErrRegistryNotListed},
		"not granted":  {signer.Request{Image: image, Key: "other"}, signer.ErrForbidden},
		"good control": {signer.Request{Image: image, Key: "release"}, nil},
	} {
		if _, err := sg.Start(t.Context(), ci(), tt.request); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, ask := range []func() error{
		func() error { _, err := sg.Operation(t.Context(), newID()); return err },
		func() error { _, err := sg.Signature(t.Context(), newID()); return err },
		func() error { return sg.Watch(t.Context(), newID(), func(signer.Operation) error { return nil }) },
	} {
		if err := ask(); !errors.Is(err, signer.ErrNotFound) {
			t.Errorf("unknown id: %v", err)
		}
	}
}

// TestStartFails: what is found out after the operation was kept is told by
// the operation.
func TestStartFails(t *testing.T) {
	t.Parallel()
	s := newSite(t, newWorld(t))
	sg := start(t, s.config())
	absent := s.local.Host + "/team/app@" + attest.DigestOf([]byte("absent")).String()
	op, err := sg.Start(t.Context(), ci(), signer.Request{Image: absent, Key: "release"})
	if err != nil {
		t.Fatal(err)
	}
	last := await(t, sg, op.ID)
	if last.State != signer.StateFailed || last.Failure == nil || last.Failure.Code != "image_not_found" {
		t.Errorf("%+v", last)
	}
	if step := last.Steps[len(last.Steps)-1]; step.Name != signer.StepResolve || step.State != signer.StateFailed {
		t.Errorf("last step %+v", step)
	}
	if _, err := sg.Signature(t.Context(), op.ID); !errors.Is(err, signer.ErrNotFound) {
		t.Errorf("a failed operation has a signature: %v", err)
	}
	if got := s.outcomes(t); !slices.Equal(got, []string{audit.Allowed, audit.Failed}) {
		t.Errorf("journal says %v", got)
	}
}

// await watches an operation to its end.
func await(t *testing.T, sg *signer.Signer, id string) (last signer.Operation) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := sg.Watch(ctx, id, func(op signer.Operation) error { last = op; return nil }); err != nil {
		t.Fatal(err)
	}
	return last
}

// TestStartSurvivesDeath: an accepted operation that has no signature yet is
// decided again at the next start, and goes on or is refused.
func TestStartSurvivesDeath(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, tt := range map[string]struct {
		change func(*site)
		state  string
		code   string
	}{
		"still granted":    {func(*site) {}, signer.StateDone, ""},
		"grant taken away": {func(s *site) { s.grants = nil }, signer.StateFailed, "forbidden"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, w)
			_, image := w.push(t, t.Name())
			dying := start(t, newInjector("resolve", killBefore).into(s.config()))
			op, err := dying.Start(t.Context(), ci(), signer.Request{Image: image, Key: "release"})
			if err != nil {
				t.Fatal(err)
			}
			stop(t, dying)
			tt.change(s)
			fresh := start(t, s.config())
			if err := fresh.Resume(t.Context()); err != nil {
				t.Fatal(err)
			}
			got, err := fresh.Operation(t.Context(), op.ID)
			if err != nil || got.State != tt.state {
				t.Fatalf("%+v, %v", got, err)
			}
			if tt.code != "" && (got.Failure == nil || got.Failure.Code != tt.code) {
				t.Errorf("failure %+v", got.Failure)
			}
		})
	}
}

// TestRegistryDown: the registry goes away after the signature was made; the
// operation stays pending and is completed when it is back.
func TestRegistryDown(t *testing.T) {
	t.Parallel()
	s := newSite(t, newWorld(t))
	cfg := s.config()
	cfg.Checker = signer.CheckFunc(func(ctx context.Context, f signer.Fresh) error {
		s.down.Store(true)
		return s.checkFresh(ctx, f)
	})
	sg := start(t, cfg)
	_, image := s.push(t, "down")
	request := signer.Request{Image: image, Key: "release", Formats: []string{"bundle", "legacy"}, IdempotencyKey: "down"}
	_, _, err := sg.Sign(t.Context(), ci(), request)
	var pending *signer.PendingError
	if !errors.As(err, &pending) || !errors.Is(err, signer.ErrRegistryUnavailable) {
		t.Fatalf("got %v", err)
	}
	op, err := sg.Operation(t.Context(), pending.Operation)
	if err != nil || op.State != signer.StatePending || op.Failure == nil || op.Failure.Code != "registry_unavailable" {
		t.Fatalf("%+v, %v", op, err)
	}
	if _, _, err := sg.Sign(t.Context(), ci(), request); !errors.Is(err, signer.ErrPending) {
		t.Errorf("asked again while it is down: %v", err)
	}
	stop(t, sg)

	repeating := start(t, s.config())
	if err := repeating.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	background(t, repeating)
	s.down.Store(false)
	if last := await(t, repeating, pending.Operation); last.State != signer.StateDone {
		t.Fatalf("%+v", last)
	}
	result, replayed, err := repeating.Sign(t.Context(), ci(), request)
	if err != nil || !replayed {
		t.Fatalf("%v, %v", replayed, err)
	}
	checkResult(t, s, image, result, []string{"bundle", "legacy"})
	auditLog(t, s.world)
}

// TestRejectedIsNotReleased: law 4, every fresh bundle is verified before it is
// published.
func TestRejectedIsNotReleased(t *testing.T) {
	t.Parallel()
	s := newSite(t, newWorld(t))
	cfg := s.config()
	cfg.Checker = signer.CheckFunc(func(context.Context, signer.Fresh) error { return errors.New("not this one") })
	_, image := s.push(t, "rejected")
	request := signer.Request{Image: image, Key: "release", IdempotencyKey: "rejected"}
	sg := start(t, cfg)
	if _, _, err := sg.Sign(t.Context(), ci(), request); !errors.Is(err, signer.ErrRejected) || errors.Is(err, signer.ErrPending) {
		t.Fatalf("got %v", err)
	}
	if n := len(s.found(t, image)); n != 0 {
		t.Errorf("%d signatures in the registry", n)
	}
	stop(t, sg)
	// A failed operation is tried again when its request is repeated; the
	// control is a verifier that accepts.
	result, _, err := start(t, s.config()).Sign(t.Context(), ci(), request)
	if err != nil {
		t.Fatal(err)
	}
	checkResult(t, s, image, result, []string{"bundle"})
	auditLog(t, s.world)
}

// TestRevokedBeforeRelease: the key is revoked while the entry is on its way
// into the log.
func TestRevokedBeforeRelease(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	must[keys.Key](t)(w.ring.Create(t.Context(), keys.Spec{Name: "p384"}))
	s := newSite(t, w)
	cfg := s.config()
	cfg.Timestamper = stampFunc(func(ctx context.Context, message []byte) ([]byte, error) {
		must[keys.Key](t)(w.ring.Revoke(ctx, "p384", "stolen", nil))
		return w.tsa.Stamp(ctx, message)
	})
	_, image := w.push(t, "revoked")
	sg := start(t, cfg)
	_, _, err := sg.Sign(t.Context(), ci(), signer.Request{Image: image, Key: "p384"})
	if !errors.Is(err, signer.ErrKeyRevoked) || len(s.found(t, image)) != 0 {
		t.Errorf("%v, %d signatures", err, len(s.found(t, image)))
	}
	if _, _, err := sg.Sign(t.Context(), ci(), signer.Request{Image: image, Key: "p384"}); !errors.Is(err, signer.ErrKeyNotActive) {
		t.Errorf("after the revocation: %v", err)
	}
}

// TestRotatedBeforeStamp: a version that was rotated away before the stamp
// would leave a signature nobody accepts; the new version signs instead.
func TestRotatedBeforeStamp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newSite(t, w)
	cfg := s.config()
	var once sync.Once
	cfg.Timestamper = stampFunc(func(ctx context.Context, message []byte) ([]byte, error) {
		once.Do(func() {
			must[keys.Key](t)(w.ring.Rotate(ctx, "release"))
			time.Sleep(1100 * time.Millisecond) // stamps have whole seconds
		})
		return w.tsa.Stamp(ctx, message)
	})
	_, image := w.push(t, "rotated")
	result, _, err := start(t, cfg).Sign(t.Context(), ci(), signer.Request{Image: image, Key: "release", Formats: []string{"bundle", "legacy"}})
	if err != nil {
		t.Fatal(err)
	}
	key := must[keys.Key](t)(w.ring.Get(t.Context(), "release"))
	if result.Signer.KeyID != key.CurrentVersion().KeyID {
		t.Error("signed by the version that was rotated away")
	}
	checkResult(t, s, image, result, []string{"bundle", "legacy"})
	if answer := s.verdict(t, image); answer.Verdict != policy.Passed {
		t.Errorf("%+v", answer)
	}
}

type stampFunc func(ctx context.Context, message []byte) ([]byte, error)

func (f stampFunc) Stamp(ctx context.Context, message []byte) ([]byte, error) { return f(ctx, message) }

// TestRevokeRace is security.md §5 row 19: signs run while the key is revoked.
// What was released was stamped before the revocation was acknowledged, and
// nothing succeeds that began after it.
func TestRevokeRace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	must[keys.Key](t)(w.ring.Create(t.Context(), keys.Spec{Name: "p384"}))
	s := newSite(t, w)
	sg := start(t, s.config())
	const n = 60
	images := make([]string, n)
	for i := range images {
		_, images[i] = w.push(t, fmt.Sprintf("race %d", i))
	}
	var mu sync.Mutex
	var acknowledged time.Time
	var released []signer.Result
	var group sync.WaitGroup
	for i, image := range images {
		group.Go(func() {
			time.Sleep(time.Duration(i) * 10 * time.Millisecond)
			mu.Lock()
			late := !acknowledged.IsZero()
			mu.Unlock()
			result, _, err := sg.Sign(context.Background(), ci(), signer.Request{Image: image, Key: "p384"})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil && late:
				t.Errorf("signed after the acknowledged revocation")
			case err == nil:
				released = append(released, result)
			case !errors.Is(err, signer.ErrKeyRevoked) && !errors.Is(err, signer.ErrKeyNotActive):
				t.Errorf("got %v", err)
			}
		})
	}
	time.Sleep(300 * time.Millisecond)
	must[keys.Key](t)(w.ring.Revoke(t.Context(), "p384", "stolen", nil))
	mu.Lock()
	acknowledged = time.Now()
	mu.Unlock()
	group.Wait()
	if len(released) == 0 || len(released) == n {
		t.Logf("the race was one-sided: %d of %d released", len(released), n)
	}
	for _, r := range released {
		if at := stampTime(t, r); at.After(acknowledged) {
			t.Errorf("released with a stamp of %v, revoked at %v", at, acknowledged)
		}
	}
	total := 0
	for _, image := range images {
		total += len(s.found(t, image))
	}
	if total != len(released) {
		t.Errorf("%d signatures in the registry, %d were released", total, len(released))
	}
}

func stampTime(t *testing.T, r signer.Result) time.Time {
	t.Helper()
	bundle, err := attest.ParseBundle(r.Signatures[0].Bundle)
	if err != nil {
		t.Fatal(err)
	}
	stamp, err := timestamp.ParseResponse(bundle.Timestamps[0])
	if err != nil {
		t.Fatal(err)
	}
	return stamp.Time
}

func TestRotationRace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newSite(t, w)
	sg := start(t, s.config())
	background(t, sg)
	var group sync.WaitGroup
	const n = 40
	images := make([]string, n)
	for i := range images {
		_, images[i] = w.push(t, fmt.Sprintf("rotation %d", i))
		group.Go(func() {
			time.Sleep(time.Duration(i) * 10 * time.Millisecond)
			result, _, err := sg.Sign(context.Background(), ci(), signer.Request{Image: images[i], Key: "release", IdempotencyKey: images[i]})
			var pending *signer.PendingError
			if errors.As(err, &pending) { // rotated again and again: repeated by itself
				if last := await(t, sg, pending.Operation); last.State != signer.StateDone {
					t.Errorf("%+v", last)
				}
			} else if err != nil {
				t.Error(err)
			}
			_ = result
		})
	}
	for range 4 {
		time.Sleep(100 * time.Millisecond)
		must[keys.Key](t)(w.ring.Rotate(t.Context(), "release"))
	}
	group.Wait()
	for _, image := range images {
		if answer := s.verdict(t, image); answer.Verdict != policy.Passed {
			t.Errorf("%+v", answer)
		}
		if n := len(s.found(t, image)); n != 1 {
			t.Errorf("%d signatures", n)
		}
	}
	auditLog(t, w)
}

// TestCallerLeaves: an operation outlives the call that asked for it.
func TestCallerLeaves(t *testing.T) {
	t.Parallel()
	s := newSite(t, newWorld(t))
	ctx, leave := context.WithCancel(t.Context())
	cfg := s.config()
	cfg.Timestamper = stampFunc(func(ctx context.Context, message []byte) ([]byte, error) {
		leave()
		time.Sleep(20 * time.Millisecond)
		return s.tsa.Stamp(ctx, message)
	})
	sg := start(t, cfg)
	_, image := s.push(t, "leaves")
	_, _, err := sg.Sign(ctx, ci(), signer.Request{Image: image, Key: "release"})
	var pending *signer.PendingError
	if !errors.As(err, &pending) || !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if last := await(t, sg, pending.Operation); last.State != signer.StateDone {
		t.Errorf("%+v", last)
	}
}

func TestBusyAndClosed(t *testing.T) {
	t.Parallel()
	s := newSite(t, newWorld(t))
	cfg := s.config()
	cfg.Parallel = 1
	entered, leave := make(chan struct{}), make(chan struct{})
	cfg.Timestamper = stampFunc(func(ctx context.Context, message []byte) ([]byte, error) {
		close(entered)
		<-leave
		return s.tsa.Stamp(ctx, message)
	})
	sg := start(t, cfg)
	_, image := s.push(t, "busy")
	done := make(chan error)
	go func() {
		_, _, err := sg.Sign(context.Background(), ci(), signer.Request{Image: image, Key: "release"})
		done <- err
	}()
	<-entered
	if _, _, err := sg.Sign(t.Context(), ci(), signer.Request{Image: image, Key: "release"}); !errors.Is(err, signer.ErrBusy) {
		t.Errorf("one too many: %v", err)
	}
	close(leave)
	if err := <-done; err != nil {
		t.Error(err)
	}
	stop(t, sg)
	if _, _, err := sg.Sign(t.Context(), ci(), signer.Request{Image: image, Key: "release"}); !errors.Is(err, signer.ErrBusy) {
		t.Errorf("after Close: %v", err)
	}
}

// TestCloseInterrupts: what Close cannot wait for stays pending and is resumed.
func TestCloseInterrupts(t *testing.T) {
	t.Parallel()
	s := newSite(t, newWorld(t))
	cfg := s.config()
	entered := make(chan struct{})
	cfg.Timestamper = stampFunc(func(ctx context.Context, _ []byte) ([]byte, error) {
		close(entered)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	sg := start(t, cfg)
	_, image := s.push(t, "interrupted")
	op, err := sg.Start(t.Context(), ci(), signer.Request{Image: image, Key: "release"})
	if err != nil {
		t.Fatal(err)
	}
	<-entered
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := sg.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Close: %v", err)
	}
	fresh := start(t, s.config())
	if err := fresh.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := fresh.Operation(t.Context(), op.ID); err != nil || got.State != signer.StateDone {
		t.Errorf("%+v, %v", got, err)
	}
	auditLog(t, s.world)
}

// TestPanicIsContained: a fault in one part ends that call and nothing else.
func TestPanicIsContained(t *testing.T) {
	t.Parallel()
	s := newSite(t, newWorld(t))
	cfg := s.config()
	index, err := s.local.PushIndex(t.Context(), "team/app", "", "panic", "amd64", "arm64")
	if err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	cfg.Timestamper = stampFunc(func(ctx context.Context, message []byte) ([]byte, error) {
		once.Do(func() { panic("impossible") })
		return s.tsa.Stamp(ctx, message)
	})
	sg := start(t, cfg)
	request := signer.Request{Image: s.local.Image("team/app", index), Key: "release", Recursive: true, IdempotencyKey: "panic"}
	if _, _, err := sg.Sign(t.Context(), ci(), request); !errors.Is(err, signer.ErrInternal) {
		t.Fatalf("got %v", err)
	}
	if result, _, err := sg.Sign(t.Context(), ci(), request); err != nil || len(result.Signatures) != 3 {
		t.Errorf("afterwards: %v", err)
	}
	auditLog(t, s.world)
}
