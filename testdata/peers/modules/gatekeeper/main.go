// Command gatekeeper-client is Gatekeeper's validating half without a cluster: its
// policy engine, its Rego driver and its external data client, as the stock
// libraries have them. It prints the violations of one object as JSON.
//
//	gatekeeper-client PROVIDER CERTIFICATE KEY TEMPLATE CONSTRAINT OBJECT
//	gatekeeper-client send PROVIDER CERTIFICATE KEY IMAGE…
//
// All but the images are files. `send` prints what the provider answered.
package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"os"

	"github.com/open-policy-agent/frameworks/constraint/pkg/apis/externaldata/unversioned"
	templatesv1 "github.com/open-policy-agent/frameworks/constraint/pkg/apis/templates/v1"
	constraints "github.com/open-policy-agent/frameworks/constraint/pkg/client"
	"github.com/open-policy-agent/frameworks/constraint/pkg/client/drivers/rego"
	"github.com/open-policy-agent/frameworks/constraint/pkg/client/reviews"
	"github.com/open-policy-agent/frameworks/constraint/pkg/core/templates"
	"github.com/open-policy-agent/frameworks/constraint/pkg/externaldata"
	mutation "github.com/open-policy-agent/gatekeeper/v3/pkg/mutation/types"
	"github.com/open-policy-agent/gatekeeper/v3/pkg/target"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/certwatcher"
	"sigs.k8s.io/yaml"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 4 && args[0] == "send" {
		return send(ctx, args[1], args[2], args[3], args[4:])
	}
	if len(args) != 6 {
		return fmt.Errorf("want PROVIDER CERTIFICATE KEY TEMPLATE CONSTRAINT OBJECT")
	}
	violations, err := review(ctx, args)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(violations)
}

func send(ctx context.Context, providerFile, certificate, key string, images []string) error {
	provider, err := readProvider(providerFile)
	if err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return err
	}
	response, status, err := externaldata.DefaultSendRequestToProvider(ctx, provider, images, &pair)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{"status": status, "response": response})
}

func review(ctx context.Context, files []string) ([]string, error) {
	provider, err := readProvider(files[0])
	if err != nil {
		return nil, err
	}
	providers := externaldata.NewCache()
	if err := providers.Upsert(provider); err != nil {
		return nil, err
	}
	watcher, err := certwatcher.New(files[1], files[2])
	if err != nil {
		return nil, err
	}
	driver, err := rego.New(
		rego.AddExternalDataProviderCache(providers), rego.EnableExternalDataClientAuth(), rego.AddExternalDataClientCertWatcher(watcher),
	)
	if err != nil {
		return nil, err
	}
	const point = "validation.gatekeeper.sh"
	client, err := constraints.NewClient(constraints.Targets(&target.K8sValidationTarget{}), constraints.Driver(driver), constraints.EnforcementPoints(point))
	if err != nil {
		return nil, err
	}
	template, err := readTemplate(files[3])
	if err != nil {
		return nil, err
	}
	if _, err := client.AddTemplate(ctx, template); err != nil {
		return nil, fmt.Errorf("adding the template: %w", err)
	}
	constraint, err := readObject(files[4])
	if err != nil {
		return nil, err
	}
	if _, err := client.AddConstraint(ctx, constraint); err != nil {
		return nil, fmt.Errorf("adding the constraint: %w", err)
	}
	object, err := readObject(files[5])
	if err != nil {
		return nil, err
	}
	responses, err := client.Review(ctx, target.AugmentedUnstructured{Object: *object, Source: mutation.SourceTypeOriginal}, reviews.EnforcementPoint(point))
	if err != nil {
		return nil, err
	}
	violations := []string{}
	for _, result := range responses.Results() {
		violations = append(violations, result.Msg)
	}
	return violations, nil
}

func read(path string, into any) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := yaml.UnmarshalStrict(raw, into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func readProvider(path string) (*unversioned.Provider, error) {
	provider := &unversioned.Provider{}
	return provider, read(path, provider)
}

func readObject(path string) (*unstructured.Unstructured, error) {
	object := &unstructured.Unstructured{}
	return object, read(path, &object.Object)
}

func readTemplate(path string) (*templates.ConstraintTemplate, error) {
	versioned := &templatesv1.ConstraintTemplate{}
	if err := read(path, versioned); err != nil {
		return nil, err
	}
	return versioned.ToVersionless()
}
