package daemon

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/countersign/countersign/catalog"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/server"
	"github.com/countersign/countersign/store"
)

// publisher writes what verification replicas believe. It is safe for concurrent
// use; a nil one does nothing, because nobody shares an embedded database.
type publisher struct {
	daemon   *Daemon
	services *services
	under    *keys.Master

	// mu is held from reading the publication in force until the next is written; it
	// guards number, which is that of the last one seen.
	mu     sync.Mutex
	number int64
	// state guards fault.
	state sync.Mutex
	fault error
}

// openPublisher publishes for the first time, so that no replica goes on with
// what was true before this start.
func (d *Daemon) openPublisher(ctx context.Context, s *services) error {
	if s.replicaSeal == nil {
		return nil
	}
	d.publisher = &publisher{daemon: d, services: s, under: s.replicaSeal}
	s.publisher = d.publisher
	return s.publisher.publish(ctx)
}

// publish returns when the database has what is in force now. Callers that made a
// change do not acknowledge it before.
func (p *publisher) publish(ctx context.Context) error {
	if p == nil {
		return nil
	}
	// The change is made: whoever asked for it may go, replicas must learn it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limits.RequestTimeout)
	defer cancel()
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.write(ctx)
	if err != nil {
		err = fmt.Errorf("telling the verification replicas: %w", err)
	}
	p.state.Lock()
	defer p.state.Unlock()
	p.fault = err
	return err
}

func (p *publisher) write(ctx context.Context) error {
	objects := p.daemon.main.Objects()
	for {
		next, err := p.compose(ctx)
		if err != nil {
			return err
		}
		o, err := objects.Get(ctx, publicationKind, publicationName)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if same, err := p.inForce(ctx, o, next); err != nil || same {
			return err
		}
		p.number = max(p.number+1, p.daemon.cfg.Clock.Now().UnixMilli())
		next.Number = p.number
		if o, err = next.seal(p.under, o.Revision); err != nil {
			return err
		}
		_, err = objects.Put(ctx, o)
		// Nobody else writes it, but who can write the database may have.
		if !errors.Is(err, store.ErrStale) && !errors.Is(err, store.ErrExists) && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
}

// inForce reports whether the object, which is empty when there is none, says what
// is to be said. One that is not ours, or an older one that was put back, is told
// to the operator: replicas stop answering because of it.
func (p *publisher) inForce(ctx context.Context, o store.Object, next publication) (bool, error) {
	if o.Revision == 0 {
		return false, nil
	}
	before, err := openPublication(o, p.under)
	if err == nil && before.Number < p.number {
		err = errors.New("it is an older one")
	}
	if err != nil {
		p.daemon.cfg.Logger.ErrorContext(ctx, "somebody else wrote what verification replicas believe; it is replaced", "cause", err)
		return false, nil
	}
	p.number = before.Number
	next.Number = before.Number
	return equal(before, next)
}

func equal(a, b publication) (bool, error) {
	one, err := json.Marshal(a)
	if err != nil {
		return false, err
	}
	other, err := json.Marshal(b)
	return bytes.Equal(one, other), err
}

// compose is what is in force now, without its revision.
func (p *publisher) compose(ctx context.Context) (publication, error) {
	out := publication{Format: publicationFormat, NotaryRoots: [][]byte{}, Keys: []publishedKey{}}
	root := p.services.trustRoot()
	var err error
	if out.TrustedRoot, err = root.MarshalTrustedRoot(); err != nil {
		return out, err
	}
	for _, c := range root.NotaryRoots {
		out.NotaryRoots = append(out.NotaryRoots, c.Raw)
	}
	published, err := p.daemon.ring.Publish(ctx, p.under)
	if err != nil {
		return out, err
	}
	for _, o := range published {
		out.Keys = append(out.Keys, publishedKey{Name: o.Name, Revision: o.Revision, Document: o.Body})
	}
	out.Serving, err = p.daemon.publishedServing(ctx)
	return out, err
}

// publishedServing is nil unless the service certifies its own TLS certificate.
func (d *Daemon) publishedServing(ctx context.Context) (*publishedServing, error) {
	if d.serving == nil {
		return nil, nil
	}
	c, err := d.serving.Current(ctx)
	if err != nil {
		return nil, err
	}
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		return nil, errors.New("the TLS key cannot be encoded")
	}
	return &publishedServing{Chain: c.Certificate, Key: key, Bundle: d.serving.Bundle()}, nil
}

// run publishes what changes by itself, such as a renewed certificate, and what a
// database that was away did not take.
func (p *publisher) run(ctx context.Context) {
	if p == nil {
		return
	}
	var told string
	for wait(ctx, limits.PublicationInterval) {
		err := p.publish(ctx)
		switch {
		case err == nil:
			told = ""
		case err.Error() != told: // once, not at every look
			told = err.Error()
			p.daemon.cfg.Logger.ErrorContext(ctx, "verification replicas may believe what is not in force any more", "error", err)
		}
	}
}

// standing is why replicas may believe what is not in force any more. The service
// does its own work all the same.
func (p *publisher) standing() error {
	p.state.Lock()
	defer p.state.Unlock()
	if p.fault != nil {
		return fmt.Errorf("%w: %w", server.ErrDegraded, p.fault)
	}
	return nil
}

// replicaSealer seals for replicas and opens what was sealed before there were
// any.
type replicaSealer struct{ replica, master *keys.Master }

// Seal seals under the replicas' key.
func (r replicaSealer) Seal(purpose, name string, plaintext []byte) ([]byte, error) {
	return r.replica.Seal(purpose, name, plaintext)
}

// Open opens under either key.
func (r replicaSealer) Open(purpose, name string, sealed []byte) ([]byte, error) {
	plain, err := r.replica.Open(purpose, name, sealed)
	if err == nil {
		return plain, nil
	}
	return r.master.Open(purpose, name, sealed)
}

// credentialSealer keeps the passwords of registries. In a database that replicas
// can share they are readable for them.
func (s *services) credentialSealer() catalog.Sealer {
	if s.replicaSeal == nil {
		return s.masterSeal
	}
	return replicaSealer{replica: s.replicaSeal, master: s.masterSeal}
}

// shareCredentials makes readable for replicas what an earlier program sealed for
// itself.
func (d *Daemon) shareCredentials(ctx context.Context, s *services) error {
	if s.replicaSeal == nil {
		return nil
	}
	changed, err := s.catalog.Reseal(ctx, s.replicaSeal)
	if err != nil {
		return fmt.Errorf("sharing the credentials of registries with verification replicas: %w", err)
	}
	if len(changed) > 0 {
		d.cfg.Logger.InfoContext(ctx, "credentials of registries were sealed anew for verification replicas", "registries", changed)
	}
	return nil
}
