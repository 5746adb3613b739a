package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/cluster"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/server/api"
)

// scanFlags are the flags of `scan cluster`.
type scanFlags struct {
	kubeconfig, context string
	cluster, namespace  string
	forecast            bool
	before              string
}

// clusterScan is the answer of `scan cluster`.
type clusterScan struct {
	Cluster string        `json:"cluster,omitempty"`
	Pods    int           `json:"pods"`
	Counts  scanCounts    `json:"counts"`
	Items   []scannedItem `json:"items"`
	// Forecast is set if it was asked for: which of these will stop passing.
	Forecast *[]api.ForecastItem `json:"forecast,omitempty"`
	// Truncated says that there are more pods, or more to foresee.
	Truncated bool `json:"truncated"`
}

// scanCounts are images by verdict, each once for each namespace.
type scanCounts struct {
	Passed    int `json:"passed"`
	Excepted  int `json:"excepted"`
	Failed    int `json:"failed"`
	Undecided int `json:"undecided"`
}

// scannedItem is an image of a workload.
type scannedItem struct {
	Namespace string         `json:"namespace"`
	Workload  string         `json:"workload"`
	Image     string         `json:"image"`
	Pinned    string         `json:"pinned,omitempty"`
	Pods      int            `json:"pods"`
	Verdict   policy.Verdict `json:"verdict"`
	// Undecided: the FAILED says only that nothing could be found out.
	Undecided  bool            `json:"undecided,omitempty"`
	Excepted   bool            `json:"excepted,omitempty"`
	Reasons    []policy.Reason `json:"reasons"`
	DecisionID string          `json:"decisionId,omitempty"`

	runs string
}

func (a *app) scanCommand() *cobra.Command {
	cmd := group("scan", "Judge what is deployed already")
	cmd.AddCommand(a.scanClusterCommand())
	return cmd
}

func (a *app) scanClusterCommand() *cobra.Command {
	var f scanFlags
	cmd := &cobra.Command{
		Use:   "cluster",
		Short: "Ask whether what runs in a Kubernetes cluster may run",
		Long: "Lists the pods that have not ended and asks the service about their images, by the\n" +
			"digests that the nodes say they run. Each image is asked about once for each\n" +
			"namespace; what belongs to one workload is shown together. Nothing in the cluster\n" +
			"is changed. It takes the right to list pods, replicasets and jobs.\n\n" +
			"Exit code 0 is PASSED, 3 when an image FAILED, 6 when one could not be judged and\n" +
			"asking again may help.",
		Example: "  countersign scan cluster --cluster prod-1 --forecast",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.scanCluster(cmd.Context(), f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.kubeconfig, "kubeconfig", "", "kubeconfig file (default as kubectl: KUBECONFIG, or the one in the home folder)")
	flags.StringVar(&f.context, "context", "", "context of the kubeconfig")
	flags.StringVar(&f.cluster, "cluster", "", "the cluster's name, which policies match")
	flags.StringVar(&f.namespace, "namespace", "", "only this namespace")
	flags.BoolVar(&f.forecast, "forecast", false, "tell too which of the images will stop passing (role auditor)")
	flags.StringVar(&f.before, "before", "", "with --forecast: how far to look: a time, or a duration from now (default 720h)")
	return cmd
}

func (a *app) scanCluster(ctx context.Context, f scanFlags) error {
	if f.before != "" && !f.forecast {
		return usagef("--before is nothing without --forecast")
	}
	client, err := a.client()
	if err != nil {
		return err
	}
	kubernetes, err := cluster.Open(cluster.Config{Kubeconfig: f.kubeconfig, Context: f.context, UserAgent: "countersign/" + version})
	if err != nil {
		return usagef("%v", err)
	}
	found, err := kubernetes.Running(ctx, f.namespace)
	if err != nil {
		return clusterError(err)
	}
	scan := clusterScan{Cluster: f.cluster, Pods: len(found.Pods), Items: itemsOf(found.Pods), Truncated: found.Truncated}
	if err := judgeItems(ctx, client, f.cluster, &scan); err != nil {
		return err
	}
	if f.forecast {
		if err := foresee(ctx, client, f, &scan); err != nil {
			return err
		}
	}
	a.tellTruncated(scan.Truncated)
	if err := a.print(scan, func() string { return a.scanTable(scan) }); err != nil {
		return err
	}
	return scan.verdictError()
}

// clusterError says that asking again may help, unless a right is missing.
func clusterError(err error) error {
	if errors.Is(err, cluster.ErrForbidden) || errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%w: %w", errUndecided, err)
}

// itemsOf puts the pods of a workload together.
func itemsOf(pods []cluster.Pod) []scannedItem {
	type key struct{ namespace, workload, runs string }
	at := map[key]int{}
	items := []scannedItem{}
	for _, pod := range pods {
		for _, image := range pod.Images {
			k := key{pod.Namespace, pod.Workload.String(), image.Runs}
			i, ok := at[k]
			if !ok {
				i, at[k] = len(items), len(items)
				items = append(items, scannedItem{Namespace: k.namespace, Workload: k.workload, Image: image.Named, runs: k.runs})
			}
			items[i].Pods++
		}
	}
	slices.SortFunc(items, func(a, b scannedItem) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Workload, b.Workload), cmp.Compare(a.runs, b.runs))
	})
	return items
}

// judgeItems asks about every image of each namespace once.
func judgeItems(ctx context.Context, client *api.Client, name string, scan *clusterScan) error {
	images := map[string][]string{}
	var namespaces []string
	for _, item := range scan.Items {
		if _, ok := images[item.Namespace]; !ok {
			namespaces = append(namespaces, item.Namespace)
		}
		if !slices.Contains(images[item.Namespace], item.runs) {
			images[item.Namespace] = append(images[item.Namespace], item.runs)
		}
	}
	for _, namespace := range namespaces {
		place := map[string]string{"namespace": namespace}
		if name != "" {
			place["cluster"] = name
		}
		results := map[string]api.VerifyResult{}
		for some := range slices.Chunk(images[namespace], limits.ScanBatch) {
			answer, err := client.Verify(ctx, api.VerifyRequest{Images: some, Context: place, Timeout: limits.VerifyTimeoutMax.String()})
			if err != nil {
				return err
			}
			for _, r := range answer.Results {
				results[r.Image] = r
				scan.Counts.add(r)
			}
		}
		for i := range scan.Items {
			if item := &scan.Items[i]; item.Namespace == namespace {
				item.take(results[item.runs])
			}
		}
	}
	return nil
}

func (i *scannedItem) take(r api.VerifyResult) {
	i.Pinned, i.Verdict, i.Reasons, i.DecisionID = r.Pinned, r.Verdict, r.Reasons, r.DecisionID
	if i.Verdict == "" { // an answer without the image is no pass
		i.Verdict = policy.Failed
	}
	i.Undecided = r.Verdict != policy.Passed && undecided(r.Reasons)
	i.Excepted = excepted(r)
}

func excepted(r api.VerifyResult) bool {
	return r.Verdict == policy.Passed && slices.ContainsFunc(r.Reasons, func(reason policy.Reason) bool { return reason.Code == policy.Excepted })
}

func (c *scanCounts) add(r api.VerifyResult) {
	switch {
	case excepted(r):
		c.Excepted++
	case r.Verdict == policy.Passed:
		c.Passed++
	case undecided(r.Reasons):
		c.Undecided++
	default:
		c.Failed++
	}
}

// foresee keeps of the service's forecast what runs here.
func foresee(ctx context.Context, client *api.Client, f scanFlags, scan *clusterScan) error {
	forecast, err := client.Forecast(ctx, f.before, "", limits.PageMax)
	if err != nil {
		return err
	}
	runs := map[[2]string]bool{}
	for _, item := range scan.Items {
		runs[[2]string{item.Namespace, item.Pinned}] = true
	}
	items := []api.ForecastItem{}
	for _, item := range forecast.Items {
		if item.Context["cluster"] == f.cluster && runs[[2]string{item.Context["namespace"], item.Pinned}] {
			items = append(items, item)
		}
	}
	scan.Forecast, scan.Truncated = &items, scan.Truncated || forecast.Truncated
	return nil
}

func (a *app) scanTable(scan clusterScan) string {
	rows := make([][]string, 0, len(scan.Items))
	for _, i := range scan.Items {
		rows = append(rows, []string{i.Namespace, i.Workload, i.Image, short(i.Pinned[strings.LastIndex(i.Pinned, "@")+1:]), i.shown(), firstReason(i.Reasons)})
	}
	c := scan.Counts
	out := a.grid([]string{"NAMESPACE", "WORKLOAD", "IMAGE", "DIGEST", "VERDICT", "REASON"}, rows) +
		fmt.Sprintf("\n\n%d pods: %d images PASSED, %d with exception, %d FAILED, %d undecided", scan.Pods, c.Passed, c.Excepted, c.Failed, c.Undecided)
	if scan.Forecast == nil {
		return out
	}
	if len(*scan.Forecast) == 0 {
		return out + "\n\nnothing of it is known to stop passing"
	}
	return out + "\n\n" + a.forecastTable(api.Forecast{Items: *scan.Forecast})
}

func (i scannedItem) shown() string {
	switch {
	case i.Excepted:
		return "PASSED with exception"
	case i.Undecided:
		return "undecided"
	}
	return string(i.Verdict)
}

// verdictError is as for verify: one image that FAILED decides, then one that
// could not be judged.
func (s clusterScan) verdictError() error {
	switch {
	case s.Counts.Failed > 0:
		return errFailed
	case s.Counts.Undecided > 0:
		return errUndecided
	}
	for _, item := range s.Items {
		if item.Verdict != policy.Passed {
			return errFailed
		}
	}
	return nil
}
