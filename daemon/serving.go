package daemon

import (
	"context"
	"crypto"
	"crypto/tls"
	"fmt"
	"slices"

	"github.com/countersign/countersign/authority"
)

// servingFile is the public bundle of the service's own TLS authority.
const servingFile = "tls-ca.pem"

// servingKeys keeps the keys of the TLS authority in the ring.
type servingKeys struct{ generations }

func (k servingKeys) Signers(ctx context.Context) ([]crypto.Signer, error) { return k.signers(ctx) }

func (k servingKeys) Add(ctx context.Context) (crypto.Signer, error) { return k.add(ctx) }

// openServing opens the authority of the service's own TLS certificate, where
// one is wanted.
func (d *Daemon) openServing(ctx context.Context, _ *services) error {
	if !d.cfg.SelfSigned {
		return nil
	}
	names := []string{d.origin}
	for _, name := range d.cfg.ServingNames {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	var err error
	d.serving, err = authority.OpenServing(ctx, authority.ServingConfig{
		Keys:    servingKeys{generations{d.ring, "countersign-tls-", "tls"}},
		Objects: d.local.Objects(), Names: names, Organization: d.cfg.Organization, Clock: d.cfg.Clock,
		Publish: func(bundle []byte) error { return writeFile(d.path(servingFile), bundle, 0o644) },
	})
	if err != nil {
		return fmt.Errorf("opening the TLS authority: %w", err)
	}
	return nil
}

// ServingCertificate is the certificate to serve TLS with, made by the
// service's own authority; nil unless Config.SelfSigned.
func (d *Daemon) ServingCertificate() func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if d.serving == nil {
		return nil
	}
	return d.serving.Certificate
}

// ServingBundle is what callers must believe to trust that certificate, in PEM;
// nil unless Config.SelfSigned. Around a change of the authority it holds both.
func (d *Daemon) ServingBundle() []byte {
	if d.serving == nil {
		return nil
	}
	return d.serving.Bundle()
}

// Drain makes the service say that it is not ready, so that a balancer sends
// new callers elsewhere; it goes on answering.
func (d *Daemon) Drain() { d.draining.Store(true) }
