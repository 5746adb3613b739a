package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/knadh/koanf/v2"

	"github.com/countersign/countersign/daemon"
	"github.com/countersign/countersign/internal/limits"
)

// scanIntervalMin is the least that an operator may set; a scan asks about every
// image that runs.
const scanIntervalMin = time.Minute

// kubernetesConfig reads which cluster the service speaks to.
func kubernetesConfig(k *koanf.Koanf, c *daemon.KubernetesConfig) error {
	*c = daemon.KubernetesConfig{
		Kubeconfig: k.String("kubernetes.kubeconfig"), InCluster: k.Bool("kubernetes.in-cluster"), Cluster: k.String("kubernetes.cluster"),
		PullSecrets: k.String("kubernetes.pull-secrets"), ScanInterval: k.Duration("kubernetes.scan-interval"),
		WebhookConfigurations: list(k.String("kubernetes.webhook-configurations")), OwnBundle: k.Bool("tls-self-signed"),
	}
	if path := k.String("kubernetes.ca-bundle"); path != "" {
		c.CABundle = func(context.Context) ([]byte, error) { return readBundle(path) }
	}
	if c.ScanInterval != 0 && c.ScanInterval < scanIntervalMin {
		return fmt.Errorf("%w: kubernetes.scan-interval: want 0 or %v and more", errConfig, scanIntervalMin)
	}
	if err := c.Check(); err != nil {
		return fmt.Errorf("%w: kubernetes: %w", errConfig, err)
	}
	return nil
}

// readBundle reads the file anew: Kubernetes replaces mounted files under their
// names.
func readBundle(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("kubernetes.ca-bundle: %w", err)
	}
	if info.Size() > limits.CABundle {
		return nil, fmt.Errorf("kubernetes.ca-bundle: %s is larger than %d bytes", path, limits.CABundle)
	}
	bundle, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("kubernetes.ca-bundle: %w", err)
	}
	return bundle, nil
}
