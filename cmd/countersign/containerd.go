package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
	"github.com/countersign/countersign/server/api"
)

const (
	// verifierName is the program's name in containerd's bin_dir: containerd
	// passes no subcommand.
	verifierName   = "countersign-containerd-verifier"
	verifierConfig = "/etc/countersign/containerd-verifier.yaml"
	// descriptorType is the only thing that containerd describes an image with.
	descriptorType = "application/vnd.oci.descriptor.v1+json"
	// verifierTimeout is within containerd's own default of ten seconds: an
	// answer that comes too late has no reason.
	verifierTimeout = 8 * time.Second
)

// commandLine is the process's command line without its name, unless the name
// is a command.
func commandLine(args []string) []string {
	if filepath.Base(args[0]) == verifierName {
		return append([]string{"containerd-verifier"}, args[1:]...)
	}
	return args[1:]
}

// verifierSettings is the configuration file of containerd-verifier. The zero
// value asks the service that the environment names.
type verifierSettings struct {
	URL        string            `json:"url"`
	TokenFile  string            `json:"tokenFile"`
	ClientCert string            `json:"clientCert"`
	ClientKey  string            `json:"clientKey"`
	CACert     string            `json:"caCert"`
	Policy     string            `json:"policy"`
	Context    map[string]string `json:"context"`
	Timeout    string            `json:"timeout"`
	// Offline judges on the node, without a service.
	Offline *struct {
		Policy            string   `json:"policy"`
		TrustedRoots      []string `json:"trustedRoots"`
		AllowHTTPRegistry bool     `json:"allowHttpRegistry"`
	} `json:"offline"`
}

// verifierCall is what containerd asks.
type verifierCall struct{ name, digest, mediaType, config string }

func (a *app) containerdVerifierCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "containerd-verifier -name REF -digest DIGEST -stdin-media-type TYPE",
		Short: "Answer containerd's image verifier plugin",
		Long: "containerd calls it before a pull, with the image's descriptor on standard input.\n" +
			"Exit code 0 admits the image; anything else blocks it, with the reason on standard\n" +
			"output. Link it into the plugin's bin_dir as " + verifierName + ".\n\n" +
			"It reads " + verifierConfig + " (or -config FILE, or\n" +
			"COUNTERSIGN_VERIFIER_CONFIG): either the service to ask (url, tokenFile, caCert,\n" +
			"clientCert, clientKey, policy, context, timeout) or `offline`, with a policy file\n" +
			"and trustedRoots, to judge on the node. Without a file the environment names the\n" +
			"service, as for every command.",
		Args:               cobra.ArbitraryArgs,
		DisableFlagParsing: true, // containerd's flags are long ones with one dash
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && (args[0] == "--help" || args[0] == "-h") {
				return cmd.Help()
			}
			return a.containerdVerify(cmd.Context(), args)
		},
	}
}

// containerdVerify prints the reason in every case: it is all that whoever
// pulls gets to see.
func (a *app) containerdVerify(ctx context.Context, args []string) error {
	reason, err := a.containerdVerdict(ctx, args)
	if err != nil && reason == "" {
		reason = err.Error()
	}
	fmt.Fprintln(a.out, clean(reason))
	return err
}

func (a *app) containerdVerdict(ctx context.Context, args []string) (reason string, err error) {
	call, err := parseVerifierCall(args, a.getenv)
	if err != nil {
		return "", err
	}
	settings, err := loadVerifierSettings(call.config)
	if err != nil {
		return "", err
	}
	image, err := call.image(a.in)
	if err != nil {
		return "", err
	}
	timeout, err := settings.timeout()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	answer, err := a.containerdAsk(ctx, settings, timeout, image)
	if err != nil {
		return "", err
	}
	return verdictOn(answer, image)
}

func parseVerifierCall(args []string, getenv func(string) string) (verifierCall, error) {
	var c verifierCall
	flags := flag.NewFlagSet(verifierName, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&c.name, "name", "", "")
	flags.StringVar(&c.digest, "digest", "", "")
	flags.StringVar(&c.mediaType, "stdin-media-type", "", "")
	flags.StringVar(&c.config, "config", getenv("COUNTERSIGN_VERIFIER_CONFIG"), "")
	if err := flags.Parse(args); err != nil {
		return c, usagef("%v", err)
	}
	if flags.NArg() > 0 {
		return c, usagef("containerd-verifier takes no arguments but its flags")
	}
	return c, nil
}

// loadVerifierSettings reads the configuration. A file that is named must
// exist; the one in the usual place may be missing.
func loadVerifierSettings(path string) (verifierSettings, error) {
	var s verifierSettings
	raw, err := os.ReadFile(cmp.Or(path, verifierConfig))
	if path == "" && errors.Is(err, os.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, usagef("%v", err)
	}
	document, err := yaml.YAMLToJSONStrict(raw)
	if err == nil {
		err = strictjson.Unmarshal(document, &s)
	}
	if err != nil {
		return s, usagef("%s: %v", cmp.Or(path, verifierConfig), err)
	}
	if s.Offline != nil && (s.URL != "" || s.TokenFile != "" || s.ClientCert != "" || s.Policy != "") {
		return s, usagef("%s: offline judges on the node: url, tokenFile, clientCert and policy are nothing beside it", cmp.Or(path, verifierConfig))
	}
	return s, nil
}

func (s verifierSettings) timeout() (time.Duration, error) {
	if s.Timeout == "" {
		return verifierTimeout, nil
	}
	d, err := time.ParseDuration(s.Timeout)
	if err != nil || d <= 0 || d > limits.VerifierDeadline {
		return 0, usagef("timeout: want a duration of at most %v", limits.VerifierDeadline)
	}
	return d, nil
}

// image is the one reference that is judged: the name's repository and the
// digest that will be pulled. containerd resolved the name already; doing it
// again could find another image.
func (c verifierCall) image(stdin io.Reader) (registry.Reference, error) {
	digest, err := attest.ParseDigest(c.digest)
	if err != nil {
		return registry.Reference{}, usagef("-digest: %v", err)
	}
	named, err := registry.ParseReference(c.name)
	if err != nil {
		return registry.Reference{}, usagef("-name: %v", err)
	}
	if !named.Digest.IsZero() && named.Digest != digest {
		return registry.Reference{}, fmt.Errorf("%w: -name is of another digest than -digest", errFailed)
	}
	if c.mediaType != descriptorType {
		return registry.Reference{}, usagef("-stdin-media-type: want %s", descriptorType)
	}
	if err := checkDescriptor(stdin, digest); err != nil {
		return registry.Reference{}, err
	}
	return named.WithDigest(digest), nil
}

// checkDescriptor wants the descriptor of an image or index with that digest.
func checkDescriptor(stdin io.Reader, digest attest.Digest) error {
	raw, err := io.ReadAll(io.LimitReader(stdin, limits.Descriptor+1))
	if err != nil || len(raw) > limits.Descriptor {
		return usagef("the descriptor on standard input cannot be read, or is larger than %d bytes", limits.Descriptor)
	}
	var d struct {
		MediaType string `json:"mediaType"`
		Digest    string `json:"digest"`
		Size      int64  `json:"size"`
	}
	if err := strictjson.UnmarshalOpen(raw, &d); err != nil {
		return usagef("the descriptor on standard input: %v", err)
	}
	described, err := attest.ParseDigest(d.Digest)
	if err != nil || described != digest {
		return fmt.Errorf("%w: the descriptor is of another digest than -digest", errFailed)
	}
	if d.MediaType == "" || d.Size <= 0 || d.Size > limits.Manifest {
		return usagef("the descriptor has no media type, or is of no manifest's size")
	}
	return nil
}

func (a *app) containerdAsk(ctx context.Context, s verifierSettings, timeout time.Duration, image registry.Reference) (api.VerifyAnswer, error) {
	images := []string{image.String()}
	// The answer has to come back within the deadline.
	within := min(timeout-timeout/10, limits.VerifyTimeoutMax)
	if s.Offline != nil {
		return a.verifyOffline(ctx, verifyFlags{policy: s.Offline.Policy, timeout: within, offline: offlineFlags{
			offline: true, roots: s.Offline.TrustedRoots, insecureHTTP: s.Offline.AllowHTTPRegistry,
		}}, s.Context, images)
	}
	client, err := a.verifierClient(s)
	if err != nil {
		return api.VerifyAnswer{}, err
	}
	return client.Verify(ctx, api.VerifyRequest{Images: images, Context: s.Context, Policy: s.Policy, Timeout: within.String()})
}

// verifierClient is that of the settings; what they leave out comes from the
// environment.
func (a *app) verifierClient(s verifierSettings) (*api.Client, error) {
	if s.URL+s.TokenFile+s.ClientCert+s.ClientKey+s.CACert == "" {
		return a.client()
	}
	transport, err := tlsFiles{
		certificate: firstOf(s.ClientCert, a.getenv("COUNTERSIGN_CLIENT_CERT")),
		key:         firstOf(s.ClientKey, a.getenv("COUNTERSIGN_CLIENT_KEY")),
		authorities: firstOf(s.CACert, a.getenv("COUNTERSIGN_CACERT")),
	}.transport()
	if err != nil {
		return nil, err
	}
	token := a.getenv("COUNTERSIGN_TOKEN")
	if s.TokenFile != "" {
		raw, err := os.ReadFile(s.TokenFile)
		if err != nil {
			return nil, usagef("tokenFile: %v", err)
		}
		token = strings.TrimSpace(string(raw))
	}
	client, err := api.NewClientWith(api.ClientConfig{
		URL: firstOf(s.URL, a.getenv("COUNTERSIGN_URL")), Token: token, Transport: transport, UserAgent: "countersign/" + version,
	})
	if err != nil {
		return nil, usagef("url: %v", err)
	}
	return client, nil
}

// verdictOn holds the answer to the question before it believes it.
func verdictOn(answer api.VerifyAnswer, image registry.Reference) (string, error) {
	if len(answer.Results) != 1 || answer.Results[0].Digest != "" && answer.Results[0].Digest != image.Digest.String() {
		return "", fmt.Errorf("%w: the answer is not about the image", api.ErrServer)
	}
	result := answer.Results[0]
	if answer.Verdict == policy.Passed && result.Verdict == policy.Passed && result.Digest == image.Digest.String() {
		return "PASSED " + image.String(), nil
	}
	reasons := []string{"FAILED " + image.String()}
	for _, r := range result.Reasons {
		reasons = append(reasons, fmt.Sprintf("%s: %s", r.Code, r.Message))
	}
	err := verdictError(answer)
	if err == nil {
		err = errFailed
	}
	return strings.Join(reasons, "; "), err
}
