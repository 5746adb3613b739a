package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/registry"
)

// Pod is a pod that runs, or is about to.
type Pod struct {
	Namespace string
	Name      string
	// Workload is what it belongs to, itself when it belongs to nothing.
	Workload Workload
	// Images are of containers of every sort and of volumes, each once.
	Images []Image
	// Pull says with which secrets its images are pulled.
	Pull Pull
}

// Workload is what a person deployed.
type Workload struct {
	Kind string
	Name string
}

// String is KIND/NAME.
func (w Workload) String() string { return w.Kind + "/" + w.Name }

// Image is one image of a pod.
type Image struct {
	// Named is what the pod's specification says.
	Named string
	// Runs is that by the digest the node says it runs; as Named where the runtime
	// tells none, which is so for image volumes and for what has not started.
	Runs string
}

// Running are the pods of a namespace, or of all.
type Running struct {
	Pods []Pod
	// Truncated reports that there are more than are taken at once.
	Truncated bool
}

// Running lists the pods that have not ended: those that run, and those that wait
// to. An empty namespace is every one. It takes limits.ClusterPods at most.
func (c *Client) Running(ctx context.Context, namespace string) (Running, error) {
	var out Running
	options := metav1.ListOptions{
		Limit: limits.ClusterPage, FieldSelector: "status.phase!=Succeeded,status.phase!=Failed",
	}
	owners := owners{client: c, namespace: namespace}
	for {
		var page corev1.PodList
		if err := c.list(ctx, namespace, options, &page); err != nil {
			if apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) {
				err = fmt.Errorf("%w: %w", ErrForbidden, err)
			}
			return Running{}, fmt.Errorf("listing pods: %w", err)
		}
		for i := range page.Items {
			if len(out.Pods) == limits.ClusterPods {
				out.Truncated = true
				return out, nil
			}
			pod := podOf(&page.Items[i])
			pod.Workload = owners.of(ctx, &page.Items[i])
			out.Pods = append(out.Pods, pod)
		}
		if options.Continue = page.Continue; options.Continue == "" {
			return out, nil
		}
	}
}

func (c *Client) list(ctx context.Context, namespace string, options metav1.ListOptions, page *corev1.PodList) error {
	request := c.core.Get().Resource("pods").NamespaceIfScoped(namespace, namespace != "").Param("limit", fmt.Sprint(options.Limit))
	if options.Continue != "" {
		request = request.Param("continue", options.Continue)
	}
	return request.Param("fieldSelector", options.FieldSelector).Do(ctx).Into(page)
}

func podOf(pod *corev1.Pod) Pod {
	return Pod{Namespace: pod.Namespace, Name: pod.Name, Images: imagesOf(pod), Pull: pullOf(pod)}
}

func pullOf(pod *corev1.Pod) Pull {
	pull := Pull{Namespace: pod.Namespace, ServiceAccount: pod.Spec.ServiceAccountName}
	for _, secret := range pod.Spec.ImagePullSecrets {
		pull.Secrets = append(pull.Secrets, secret.Name)
	}
	return pull
}

func imagesOf(pod *corev1.Pod) []Image {
	runs := map[string]string{}
	for _, s := range slices.Concat(pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses, pod.Status.EphemeralContainerStatuses) {
		runs[s.Name] = s.ImageID // names are one space over all sorts
	}
	var out []Image
	add := func(image Image) {
		if image.Named != "" && !slices.Contains(out, image) {
			out = append(out, image)
		}
	}
	for _, container := range slices.Concat(pod.Spec.Containers, pod.Spec.InitContainers) {
		add(Image{Named: container.Image, Runs: asRuns(container.Image, runs[container.Name])})
	}
	for _, container := range pod.Spec.EphemeralContainers {
		add(Image{Named: container.Image, Runs: asRuns(container.Image, runs[container.Name])})
	}
	for _, volume := range pod.Spec.Volumes {
		if volume.Image != nil {
			add(Image{Named: volume.Image.Reference, Runs: volume.Image.Reference})
		}
	}
	return out
}

// asRuns is the image that a specification names by the digest that the node says
// it runs. A specification with a digest is that already. The repository is the
// specification's, on which policies match: the node names any under which it
// happens to have the same bytes.
func asRuns(named, imageID string) string {
	ref, err := registry.ParseReference(named)
	if err != nil || !ref.Digest.IsZero() {
		return named
	}
	digest, ok := digestOf(imageID)
	if !ok {
		return named
	}
	return ref.WithDigest(digest).String()
}

// digestOf is the digest in a container's imageID, [docker-pullable://]NAME@DIGEST.
// A digest alone is of an image's configuration, which names nothing in a
// registry.
func digestOf(imageID string) (attest.Digest, bool) {
	at := strings.LastIndexByte(imageID, '@')
	if at < 1 {
		return attest.Digest{}, false
	}
	digest, err := attest.ParseDigest(imageID[at+1:])
	return digest, err == nil
}
