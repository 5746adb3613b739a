package cluster

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/maypok86/otter/v2"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/countersign/countersign/internal/limits"
)

// Errors of this package; those of PutCABundle stand beside it.
var (
	// ErrConfig is wrapped by every error of Open.
	ErrConfig = errors.New("kubernetes client")
	// ErrForbidden: the API server does not know these credentials, or they lack a
	// right.
	ErrForbidden = errors.New("not allowed in the cluster")
)

// Config says how the API server is found and who is to be there.
type Config struct {
	// Kubeconfig is a file; empty with InCluster false is what kubectl would take:
	// KUBECONFIG, or the file in the home folder.
	Kubeconfig string
	// Context names one of the kubeconfig's contexts; empty is its current one.
	Context string
	// InCluster takes the credentials that Kubernetes gives to a pod, in the place
	// of a kubeconfig. They are read again when they are renewed.
	InCluster bool
	// UserAgent is sent with each request.
	UserAgent string
	// Logger discards when nil.
	Logger *slog.Logger
}

// Client speaks to one API server. It is safe for concurrent use.
type Client struct {
	core      rest.Interface
	admission rest.Interface
	owners    metadata.Interface
	log       *slog.Logger
	// kept are secrets and service accounts that were read a moment ago.
	kept *otter.Cache[keptKey, keptValue]
}

// Open makes a client. Nothing is contacted.
func Open(c Config) (*Client, error) {
	config, err := c.load()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	config.UserAgent = c.UserAgent
	config.Timeout = limits.ClusterRequest
	config.QPS, config.Burst = limits.ClusterQPS, limits.ClusterBurst
	// Warnings of the API server are for people who type commands.
	config.WarningHandler = rest.NoWarnings{}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	out := &Client{log: c.Logger, kept: newKept()}
	if err := out.connect(config, client); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return out, nil
}

func (c Config) load() (*rest.Config, error) {
	if c.InCluster {
		if c.Kubeconfig != "" || c.Context != "" {
			return nil, errors.New("a kubeconfig and the pod's own credentials exclude each other")
		}
		return rest.InClusterConfig()
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = c.Kubeconfig
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: c.Context}).ClientConfig()
}

// connect makes the clients of the API groups, over the same connections and with
// the types of those groups alone.
func (c *Client) connect(config *rest.Config, client *http.Client) error {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	if err := errors.Join(corev1.AddToScheme(scheme), admissionv1.AddToScheme(scheme)); err != nil {
		return err
	}
	codecs := serializer.NewCodecFactory(scheme).WithoutConversion()
	of := func(path string, version schema.GroupVersion) (rest.Interface, error) {
		group := rest.CopyConfig(config)
		group.APIPath, group.GroupVersion, group.NegotiatedSerializer = path, &version, codecs
		return rest.RESTClientForConfigAndClient(group, client)
	}
	var errs [3]error
	c.core, errs[0] = of("/api", corev1.SchemeGroupVersion)
	c.admission, errs[1] = of("/apis", admissionv1.SchemeGroupVersion)
	c.owners, errs[2] = metadata.NewForConfigAndClient(config, client)
	return errors.Join(errs[:]...)
}
