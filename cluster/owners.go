package cluster

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/countersign/countersign/internal/limits"
)

// middle are the kinds that stand between a pod and what a person deployed.
func middle(apiVersion, kind string) (schema.GroupVersionResource, bool) {
	switch apiVersion + " " + kind {
	case "apps/v1 ReplicaSet":
		return schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "replicasets"}, true
	case "batch/v1 Job":
		return schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: "jobs"}, true
	}
	return schema.GroupVersionResource{}, false
}

// owners finds workloads. Each kind in the middle is listed once for all pods, and
// only when a pod needs it; without the right to, a pod's workload is the ReplicaSet
// or Job itself.
type owners struct {
	client    *Client
	namespace string
	listed    map[schema.GroupVersionResource]map[string]Workload
}

func (o *owners) of(ctx context.Context, pod *corev1.Pod) Workload {
	owner := metav1.GetControllerOf(pod)
	if owner == nil {
		return Workload{Kind: "Pod", Name: pod.Name}
	}
	direct := Workload{Kind: owner.Kind, Name: owner.Name}
	resource, ok := middle(owner.APIVersion, owner.Kind)
	if !ok {
		return direct
	}
	if above, ok := o.list(ctx, resource)[pod.Namespace+"/"+owner.Name]; ok {
		return above
	}
	return direct
}

// list is the workloads above the objects of a resource, by their namespaces and
// names.
func (o *owners) list(ctx context.Context, resource schema.GroupVersionResource) map[string]Workload {
	if known, ok := o.listed[resource]; ok {
		return known
	}
	if o.listed == nil {
		o.listed = map[schema.GroupVersionResource]map[string]Workload{}
	}
	found := map[string]Workload{}
	o.listed[resource] = found
	options := metav1.ListOptions{Limit: limits.ClusterPage}
	for {
		page, err := o.client.owners.Resource(resource).Namespace(o.namespace).List(ctx, options)
		if err != nil {
			o.client.log.WarnContext(ctx, "workloads cannot be listed; pods are shown under what made them", "resource", resource.Resource, "error", err)
			return found
		}
		for i := range page.Items {
			if above := metav1.GetControllerOf(&page.Items[i]); above != nil && len(found) < limits.ClusterPods {
				found[page.Items[i].Namespace+"/"+page.Items[i].Name] = Workload{Kind: above.Kind, Name: above.Name}
			}
		}
		if options.Continue = page.Continue; options.Continue == "" {
			return found
		}
	}
}
