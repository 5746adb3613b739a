package cluster

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/countersign/countersign/internal/limits"
)

// Errors of PutCABundle.
var (
	// ErrCABundle: the bundle is not PEM certificates.
	ErrCABundle = errors.New("invalid CA bundle")
	// ErrNoWebhooks: there is no webhook configuration of the name.
	ErrNoWebhooks = errors.New("no such webhook configuration")
)

// PutCABundle has every webhook of the named configurations, validating and
// mutating, trust these authorities and no others. What is so already is not
// written, and a configuration is written whole or not at all; it returns those
// that were. When somebody else changes one at the same time it is read again. All
// of the names are tried; the error is of each that failed.
func (c *Client) PutCABundle(ctx context.Context, names []string, bundle []byte) (written []string, err error) {
	if err := checkBundle(bundle); err != nil {
		return nil, err
	}
	var errs []error
	for _, name := range names {
		found := false
		for _, resource := range []string{"validatingwebhookconfigurations", "mutatingwebhookconfigurations"} {
			changed, err := c.putBundle(ctx, resource, name, bundle)
			if apierrors.IsNotFound(err) {
				continue
			}
			found = true
			if err != nil {
				errs = append(errs, fmt.Errorf("%s %s: %w", resource, name, err))
			} else if changed {
				written = append(written, resource+"/"+name)
			}
		}
		if !found {
			errs = append(errs, fmt.Errorf("%w: %s", ErrNoWebhooks, name))
		}
	}
	return written, errors.Join(errs...)
}

func checkBundle(bundle []byte) error {
	if len(bundle) > limits.CABundle {
		return fmt.Errorf("%w: larger than %d bytes", ErrCABundle, limits.CABundle)
	}
	rest, count := bundle, 0
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		// A private key that was put into the wrong file must not be published.
		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("%w: it has something that is no certificate", ErrCABundle)
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("%w: %w", ErrCABundle, err)
		}
		count++
	}
	if count == 0 || len(bytes.TrimSpace(rest)) > 0 {
		return fmt.Errorf("%w: want PEM certificates and nothing else", ErrCABundle)
	}
	return nil
}

// putBundle reads and writes one configuration until nobody came in between.
func (c *Client) putBundle(ctx context.Context, resource, name string, bundle []byte) (changed bool, err error) {
	for range limits.CABundleAttempts {
		version, webhooks, err := c.webhooks(ctx, resource, name)
		if err != nil {
			return false, err
		}
		patch := bundlePatch(version, webhooks, bundle)
		if patch == nil {
			return false, nil
		}
		body, err := json.Marshal(patch)
		if err != nil {
			return false, fmt.Errorf("encoding the patch: %w", err)
		}
		err = c.admission.Patch(types.JSONPatchType).Resource(resource).Name(name).Body(body).Do(ctx).Error()
		if !apierrors.IsConflict(err) {
			return err == nil, err
		}
	}
	return false, errors.New("it changes all the time")
}

// webhooks are the bundles of a configuration, and the version they were read at.
func (c *Client) webhooks(ctx context.Context, resource, name string) (version string, bundles [][]byte, err error) {
	get := func(into runtime.Object) error {
		return c.admission.Get().Resource(resource).Name(name).Do(ctx).Into(into)
	}
	if resource == "mutatingwebhookconfigurations" {
		var mutating admissionv1.MutatingWebhookConfiguration
		err = get(&mutating)
		for i := range mutating.Webhooks {
			bundles = append(bundles, mutating.Webhooks[i].ClientConfig.CABundle)
		}
		return mutating.ResourceVersion, bundles, err
	}
	var validating admissionv1.ValidatingWebhookConfiguration
	err = get(&validating)
	for i := range validating.Webhooks {
		bundles = append(bundles, validating.Webhooks[i].ClientConfig.CABundle)
	}
	return validating.ResourceVersion, bundles, err
}

// operation is one of a JSON patch (RFC 6902).
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

// bundlePatch changes the bundles and nothing else: a whole object written back
// would lose the fields of a newer API server. It is nil when there is nothing to
// change. An API server refuses a resourceVersion that is not the present one, so
// an index names the webhook that was looked at.
func bundlePatch(version string, have [][]byte, bundle []byte) []operation {
	patch := []operation{{"replace", "/metadata/resourceVersion", version}}
	for i, old := range have {
		if !bytes.Equal(old, bundle) {
			patch = append(patch, operation{"add", fmt.Sprintf("/webhooks/%d/clientConfig/caBundle", i), bundle})
		}
	}
	if len(patch) == 1 {
		return nil
	}
	return patch
}
