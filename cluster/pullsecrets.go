package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/maypok86/otter/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/registry"
)

// The types of secrets that hold registry credentials.
const (
	typeDockerConfigJSON = string(corev1.SecretTypeDockerConfigJson)
	typeDockercfg        = string(corev1.SecretTypeDockercfg)
)

// defaultServiceAccount is that of pods which name none.
const defaultServiceAccount = "default"

// Pull says which secrets a pod pulls its images with.
type Pull struct {
	// Namespace is the pod's: secrets of any other are out of its reach.
	Namespace string
	// ServiceAccount is the pod's; empty is the namespace's default.
	ServiceAccount string
	// Secrets are the pod's own, before those of the service account.
	Secrets []string
}

// Keychain reads the pull secrets of a pod and of its service account. What cannot
// be had is a note, which names the object and the reason and nothing that is in
// it; the keychain is nil when nothing could.
func (c *Client) Keychain(ctx context.Context, p Pull) (registry.Keychain, []string) {
	if p.Namespace == "" {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, limits.PullSecretsTime)
	defer cancel()
	names := slices.Clone(p.Secrets)
	if p.ServiceAccount == "" {
		p.ServiceAccount = defaultServiceAccount
	}
	var notes []string
	account := c.serviceAccount(ctx, p.Namespace, p.ServiceAccount)
	if account.problem != "" {
		notes = append(notes, fmt.Sprintf("service account %s: %s", p.ServiceAccount, account.problem))
	}
	var out keychain
	read := map[string]bool{}
	for _, name := range append(names, account.secrets...) {
		if name == "" || read[name] {
			continue
		}
		if len(read) == limits.PullSecrets {
			notes = append(notes, fmt.Sprintf("more than %d pull secrets: the others are not read", limits.PullSecrets))
			break
		}
		read[name] = true
		secret := c.secret(ctx, p.Namespace, name)
		if secret.problem != "" {
			notes = append(notes, fmt.Sprintf("pull secret %s: %s", name, secret.problem))
		}
		out = append(out, secret.keychain...)
	}
	if len(out) == 0 {
		return nil, notes
	}
	return out, notes
}

// keptKey names an object; a name without its namespace names nothing.
type keptKey struct{ kind, namespace, name string }

// keptValue is what was read of a secret or a service account, or why it could
// not be.
type keptValue struct {
	keychain keychain
	secrets  []string
	problem  string
}

func newKept() *otter.Cache[keptKey, keptValue] {
	// The options are constant and valid, so there is no error.
	cache, _ := otter.New(&otter.Options[keptKey, keptValue]{
		MaximumSize: limits.PullSecretsKept, ExpiryCalculator: otter.ExpiryWriting[keptKey, keptValue](limits.PullSecretFresh),
	})
	return cache
}

func (c *Client) serviceAccount(ctx context.Context, namespace, name string) keptValue {
	return c.keep(ctx, keptKey{"serviceaccounts", namespace, name}, func() (keptValue, error) {
		var account corev1.ServiceAccount
		if err := c.core.Get().Resource("serviceaccounts").Namespace(namespace).Name(name).Do(ctx).Into(&account); err != nil {
			return keptValue{}, err
		}
		var out keptValue
		for _, secret := range account.ImagePullSecrets {
			out.secrets = append(out.secrets, secret.Name)
		}
		return out, nil
	})
}

func (c *Client) secret(ctx context.Context, namespace, name string) keptValue {
	return c.keep(ctx, keptKey{"secrets", namespace, name}, func() (keptValue, error) {
		var secret corev1.Secret
		if err := c.core.Get().Resource("secrets").Namespace(namespace).Name(name).Do(ctx).Into(&secret); err != nil {
			return keptValue{}, err
		}
		content := secret.Data[corev1.DockerConfigJsonKey]
		switch string(secret.Type) {
		case typeDockerConfigJSON:
		case typeDockercfg:
			content = secret.Data[corev1.DockerConfigKey]
		default:
			return keptValue{problem: "it is not of a type that holds registry credentials"}, nil
		}
		parsed, err := parsePullSecret(string(secret.Type), content)
		if err != nil {
			return keptValue{problem: err.Error()}, nil
		}
		return keptValue{keychain: parsed}, nil
	})
}

// keep answers from memory, or reads and remembers also that there is nothing to
// be had. What may be otherwise the next moment is not remembered.
func (c *Client) keep(ctx context.Context, key keptKey, read func() (keptValue, error)) keptValue {
	if v, ok := c.kept.GetIfPresent(key); ok {
		return v
	}
	v, err := read()
	lasting := true
	switch {
	case err == nil:
	case apierrors.IsNotFound(err):
		v.problem = "there is none"
	case apierrors.IsForbidden(err):
		v.problem = "this service may not read it"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		v.problem, lasting = "the API server did not answer in time", false
	default:
		v.problem, lasting = "the API server could not be asked", false
		// The error names the object and the server's reason, never content.
		c.log.WarnContext(ctx, "reading for pull secrets", "kind", key.kind, "namespace", key.namespace, "name", key.name, "error", err)
	}
	if lasting {
		c.kept.Set(key, v)
	}
	return v
}
