package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/countersign/countersign/cluster"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/server"
	"github.com/countersign/countersign/tlog/monitor"
)

// Who is served with pull secrets.
const (
	// PullAuthenticated lends them to callers with credentials; the default.
	PullAuthenticated = "authenticated"
	// PullAnyone lends them to anonymous callers too.
	PullAnyone = "anyone"
	// PullNever reads no secret.
	PullNever = "never"
)

// KubernetesConfig says which cluster the service speaks to. The zero value speaks
// to none.
type KubernetesConfig struct {
	// Kubeconfig is a file, InCluster the credentials of the pod; at most one.
	Kubeconfig string
	InCluster  bool
	// Cluster is its name, as webhooks say it in ?cluster= and policies match it.
	Cluster string
	// PullSecrets is one of the three above; empty is PullAuthenticated.
	PullSecrets string
	// ScanInterval is the pause between two looks at what runs; 0 looks never.
	ScanInterval time.Duration
	// WebhookConfigurations are kept to trust the authorities of CABundle.
	WebhookConfigurations []string
	// CABundle gives the PEM certificates of the authorities that sign the
	// service's own TLS certificate; it is asked again and again, and a change is
	// written. WebhookConfigurations need it or OwnBundle.
	CABundle func(ctx context.Context) ([]byte, error)
	// OwnBundle: the authority is the service's own (Config.SelfSigned).
	OwnBundle bool
}

func (c KubernetesConfig) configured() bool { return c.Kubeconfig != "" || c.InCluster }

// Check refuses what does not go together.
func (c KubernetesConfig) Check() error {
	switch {
	case c.Kubeconfig != "" && c.InCluster:
		return errors.New("a kubeconfig and in-cluster credentials exclude each other")
	case !slices.Contains([]string{"", PullAuthenticated, PullAnyone, PullNever}, c.PullSecrets):
		return fmt.Errorf("pull secrets are for %s, %s or %s", PullAuthenticated, PullAnyone, PullNever)
	case c.ScanInterval != 0 && c.ScanInterval < limits.ScanIntervalMin:
		return fmt.Errorf("the pause between scans must be at least %v, or 0 for none", limits.ScanIntervalMin)
	case len(c.WebhookConfigurations) > limits.WebhookConfigurations:
		return fmt.Errorf("at most %d webhook configurations are kept", limits.WebhookConfigurations)
	case len(c.WebhookConfigurations) == 0 && c.CABundle != nil,
		len(c.WebhookConfigurations) > 0 && c.CABundle == nil && !c.OwnBundle:
		return errors.New("webhook configurations and a CA bundle, or a certificate of the service's own authority, go together")
	case !c.configured() && (c.ScanInterval != 0 || len(c.WebhookConfigurations) > 0):
		return errors.New("scans and webhook configurations need a kubeconfig or in-cluster credentials")
	}
	return nil
}

// openKubernetes makes the client and what works with it.
func (d *Daemon) openKubernetes(_ context.Context, s *services) error {
	c := d.cfg.Kubernetes
	if err := s.openCluster(d.cfg); err != nil {
		return err
	}
	if c.ScanInterval > 0 {
		d.scanner = newScanner(d, s)
	}
	if c.CABundle == nil && c.OwnBundle {
		c.CABundle = func(context.Context) ([]byte, error) { return d.ServingBundle(), nil }
	}
	if len(c.WebhookConfigurations) > 0 {
		d.bundles = &bundleKeeper{client: s.cluster, names: c.WebhookConfigurations, bundle: c.CABundle, log: d.cfg.Logger}
	}
	return nil
}

// openCluster makes the client of the cluster, if there is one. The cluster is not
// contacted: it may be what waits for this service to start.
func (s *services) openCluster(cfg Config) (err error) {
	c := cfg.Kubernetes
	if !c.configured() {
		return nil
	}
	s.cluster, err = cluster.Open(cluster.Config{
		Kubeconfig: c.Kubeconfig, InCluster: c.InCluster, UserAgent: "countersign/" + cfg.Version, Logger: cfg.Logger,
	})
	return err
}

// runKubernetes starts the background work on the cluster.
func (d *Daemon) runKubernetes(ctx context.Context) {
	if d.scanner != nil {
		d.wg.Go(func() { d.scanner.run(ctx) })
	}
	if d.bundles != nil {
		d.wg.Go(func() { d.bundles.run(ctx) })
	}
}

// pullSecrets are what the server may lend to admission.
func (s *services) pullSecrets(c KubernetesConfig) server.PullSecretsConfig {
	if s.cluster == nil || c.PullSecrets == PullNever {
		return server.PullSecretsConfig{}
	}
	return server.PullSecretsConfig{Source: s.cluster, Cluster: c.Cluster, Anonymous: c.PullSecrets == PullAnyone}
}

// bundleKeeper keeps the authorities that webhook configurations trust.
type bundleKeeper struct {
	client *cluster.Client
	names  []string
	bundle func(ctx context.Context) ([]byte, error)
	log    *slog.Logger
}

// run writes the bundle at once and then whenever it changed, or somebody took it
// out again: an API server that cannot verify us denies every pod.
func (b *bundleKeeper) run(ctx context.Context) {
	var last []byte
	var fault string
	for {
		bundle, err := b.bundle(ctx)
		if err == nil {
			var written []string
			written, err = b.client.PutCABundle(ctx, b.names, bundle)
			if len(written) > 0 {
				b.log.InfoContext(ctx, "webhook configurations trust the CA bundle", "written", written, "changed", !bytes.Equal(last, bundle))
			}
			last = bundle
		}
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			fault = ""
		case err.Error() != fault: // told once, not at every look
			fault = err.Error()
			b.log.ErrorContext(ctx, "the CA bundle is not in the webhook configurations", "error", err)
		}
		if !wait(ctx, limits.CABundleInterval) {
			return
		}
	}
}

// wait reports whether the time went by before the context ended.
func wait(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// hook is where changes of what runs are told, or nil.
func (d *Daemon) hook() *monitor.Webhook {
	if d.cfg.Monitor.Webhook == "" {
		return nil
	}
	return monitor.NewWebhook(d.cfg.Monitor.Webhook, d.cfg.PublicURL)
}
