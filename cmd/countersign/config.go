package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"

	"github.com/countersign/countersign/daemon"
	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/server/admission"
	"github.com/countersign/countersign/tlog/monitor"
	"github.com/countersign/countersign/tlog/sequencer"
)

// setting is one knob of `serve`: the key in the configuration file, from
// which the flag (`log.anonymous-writes` is `--log-anonymous-writes`) and the
// environment variable (`COUNTERSIGN_LOG_ANONYMOUS_WRITES`) are derived.
type setting struct {
	key   string
	value any
	usage string
}

// settings lists every knob with its default. All zero values are safe.
func settings() []setting {
	return []setting{
		{"listen", "127.0.0.1:8181", "address to listen on"},
		{"data-dir", "./countersign-data", "folder of keys, log and the embedded database"},
		{"database", "", "postgres:// URL of the database; empty is the embedded one. Keys and log stay in the data folder"},
		{"role", roleAll, "all, or verify: a verification replica, which answers verification and admission over the database of a main service and has no data folder"},
		{"replica-key-file", "", "with role verify: file with what `countersign replica key` printed where the main service runs"},
		{"public-url", "", "URL that clients use; its host names the log and cannot change later (default http://LISTEN)"},
		{"organization", "Countersign", "organization named in the timestamp authority's certificates"},
		{"tls-cert", "", "PEM file with the certificate chain to serve"},
		{"tls-key", "", "PEM file with its private key"},
		{"tls-self-signed", false, "serve TLS with a certificate of the service's own authority; `countersign admission ca` prints whom to believe"},
		{"tls-names", "", "more names and addresses for that certificate besides the host of public-url, separated by commas"},
		{"tls-client-certificates", false, "ask clients for a certificate; issuers of the kind mtls say whose are believed"},
		{"shutdown-delay", time.Duration(0), "how long to go on serving, not ready, once asked to stop (0 to 5m): what balances calls needs time to notice"},
		{"behind-proxy", false, "serve plain HTTP on a non-loopback address because a proxy in front ends TLS"},
		{"auth.anonymous-verify", false, "let callers without credentials verify and ask for admission"},
		{"log.checkpoint-interval", limits.CheckpointInterval, "how often a grown log publishes a checkpoint (100ms to 500ms)"},
		{"log.anonymous-writes", false, "let clients without credentials write entries to the log, as stock Rekor clients do"},
		{"log.witness-policy", "", "tlog-policy file: the witnesses that must cosign a checkpoint before it is published; empty asks none"},
		{"log.witness-fail-open", false, "publish a checkpoint that its witnesses did not cosign in time"},
		{"log.witness-timeout", limits.WitnessTimeout, "how long a checkpoint waits for its witnesses (100ms to 30s)"},
		{"monitor.watch", "", "YAML file of the identities and keys that may sign; empty looks only whether the log contradicts itself"},
		{"monitor.webhook", "", "URL that alarms about the log are posted to as CloudEvents"},
		{"monitor.interval", limits.MonitorOwn, "pause between two looks at the own log (100ms or more)"},
		{"monitor.also", "", "URLs of mirrors that must serve the same log, separated by commas"},
		{"verify.passed-ttl", limits.PassedTTL, "how long a PASSED is answered again while nothing that it rests on changed (0 to 1h)"},
		{"verify.failed-ttl", limits.FailedTTL, "the same for a FAILED; a signature that only the registry has is seen after that (0 to 1h)"},
		{"verify.revocation-hosts", "", "hosts, separated by commas, that may have private addresses when asked whether an X.509 certificate is revoked"},
		{"verify.stale-if-error", time.Duration(0), "how old a PASSED may be that is answered, marked as stale, while the registry cannot be reached (0 is never, at most 24h)"},
		{"admission.resources", "", "files, separated by commas, that say where custom resources hold images"},
		{"admission.pin", "always", "whose tags the mutating webhook pins to digests: always, pods (leaves what GitOps compares alone) or never"},
		{"admission.tags", "warn", "a Pod that is judged by tag and not pinned: warn, allow or deny"},
		{"admission.judge-unchanged", false, "judge every image of an update, also those that the object had before"},
		{"admission.hardening", "off", "warn of containers that run as root, privileged or with a writable root file system: off or warn"},
		{"keys.refs", "", "references by which API callers may adopt keys of other back ends, separated by commas; * stands for one name, as in hashivault://*"},
		{"authorities.ca-root", "", "reference of the certificate authority's root key when it is made; empty is the data folder"},
		{"authorities.ca", "", "the same for the issuing key"},
		{"authorities.ct", "", "the same for the key of certificate timestamps"},
		{"authorities.tsa-root", "", "the same for the timestamp authority's root key"},
		{"authorities.tsa", "", "the same for the timestamp key"},
		{"authorities.log", "", "the same for the transparency log's key"},
		{"kubernetes.kubeconfig", "", "kubeconfig of the cluster whose pull secrets and running pods are read"},
		{"kubernetes.in-cluster", false, "the same with the credentials of the pod that the service runs in"},
		{"kubernetes.cluster", "", "that cluster's name, as webhooks say it in ?cluster="},
		{"kubernetes.pull-secrets", daemon.PullAuthenticated, "whose admission questions are judged with the pull secrets of the pod's namespace: authenticated, anyone or never"},
		{"kubernetes.scan-interval", time.Duration(0), "pause between two looks at the images that run (0 is never, else 1m or more)"},
		{"kubernetes.webhook-configurations", "", "webhook configurations that shall trust kubernetes.ca-bundle, separated by commas"},
		{"kubernetes.ca-bundle", "", "PEM file with the authorities of the served certificate; a change is written to the webhook configurations"},
		{"log-level", "info", "debug, info, warn or error"},
		{"log-format", "text", "text or json"},
	}
}

func flagName(key string) string { return strings.ReplaceAll(key, ".", "-") }

func envName(key string) string {
	return "COUNTERSIGN_" + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(key))
}

// addSettings declares a flag for each setting.
func addSettings(flags *pflag.FlagSet) {
	flags.String("config", "", "YAML file with the settings below (also "+envName("config")+")")
	for _, s := range settings() {
		usage := s.usage + " (" + envName(s.key) + ")"
		switch v := s.value.(type) {
		case string:
			flags.String(flagName(s.key), v, usage)
		case bool:
			flags.Bool(flagName(s.key), v, usage)
		case time.Duration:
			flags.Duration(flagName(s.key), v, usage)
		}
	}
}

// serveConfig is the validated configuration of `serve`.
type serveConfig struct {
	listen            string
	tlsCert, tlsKey   string
	clientCerts       bool
	shutdownDelay     time.Duration
	role              string
	replicaKey        string
	logLevel, logForm string
	daemon            daemon.Config
}

// errConfig is wrapped by every complaint about the configuration.
var errConfig = errors.New("configuration")

// loadConfig merges, from weakest to strongest: defaults, file, environment,
// flags. A key of the file that is no setting is an error.
func loadConfig(flags *pflag.FlagSet, getenv func(string) string) (serveConfig, error) {
	k := koanf.New("\x00") // keys contain dots; they are names, not paths
	defaults := map[string]any{}
	for _, s := range settings() {
		defaults[s.key] = s.value
	}
	if err := k.Load(confmap.Provider(defaults, ""), nil); err != nil {
		return serveConfig{}, fmt.Errorf("%w: %w", errConfig, err)
	}
	if err := loadFile(k, flags, getenv); err != nil {
		return serveConfig{}, err
	}
	over := map[string]any{}
	for _, s := range settings() {
		if v := getenv(envName(s.key)); v != "" {
			over[s.key] = v
		}
		if f := flags.Lookup(flagName(s.key)); f != nil && f.Changed {
			over[s.key] = f.Value.String()
		}
	}
	if err := k.Load(confmap.Provider(over, ""), nil); err != nil {
		return serveConfig{}, fmt.Errorf("%w: %w", errConfig, err)
	}
	if err := checkTypes(k); err != nil {
		return serveConfig{}, err
	}
	return validate(k)
}

// checkTypes refuses a value that is not of its setting's kind: koanf reads
// such a value as the kind's zero, and a misspelt `true` must not pass for
// false.
func checkTypes(k *koanf.Koanf) error {
	for _, s := range settings() {
		text := fmt.Sprint(k.Get(s.key))
		var err error
		switch s.value.(type) {
		case bool:
			_, err = strconv.ParseBool(text)
		case time.Duration:
			_, err = time.ParseDuration(text)
		}
		if err != nil {
			return fmt.Errorf("%w: %s: want a value like %v", errConfig, s.key, s.value)
		}
	}
	return nil
}

// loadFile reads the configuration file, where a nested mapping and a dotted
// name mean the same setting.
func loadFile(k *koanf.Koanf, flags *pflag.FlagSet, getenv func(string) string) error {
	path, err := flags.GetString("config")
	if err != nil {
		return fmt.Errorf("%w: %w", errConfig, err)
	}
	if path == "" {
		path = getenv(envName("config"))
	}
	if path == "" {
		return nil
	}
	nested := koanf.New(".")
	if err := nested.Load(file.Provider(path), yaml.Parser()); err != nil {
		return fmt.Errorf("%w: reading %s: %w", errConfig, path, err)
	}
	values := nested.All()
	for key, value := range values {
		if several, ok := value.([]any); ok { // as keys.refs, tls-names and monitor.also may be written
			values[key] = strings.Trim(strings.Join(strings.Fields(fmt.Sprint(several)), ","), "[]")
		}
		if !slices.ContainsFunc(settings(), func(s setting) bool { return s.key == key }) {
			return fmt.Errorf("%w: %s: %q is not a setting", errConfig, path, key)
		}
	}
	if err := k.Load(confmap.Provider(values, ""), nil); err != nil {
		return fmt.Errorf("%w: %w", errConfig, err)
	}
	return nil
}

func validate(k *koanf.Koanf) (serveConfig, error) {
	c := serveConfig{
		listen:  k.String("listen"),
		tlsCert: k.String("tls-cert"),
		tlsKey:  k.String("tls-key"),

		clientCerts:   k.Bool("tls-client-certificates"),
		shutdownDelay: k.Duration("shutdown-delay"),
		role:          k.String("role"),
		replicaKey:    k.String("replica-key-file"),

		logLevel: k.String("log-level"),
		logForm:  k.String("log-format"),
	}
	host, _, err := net.SplitHostPort(c.listen)
	if err != nil {
		return c, fmt.Errorf("%w: listen: want HOST:PORT", errConfig)
	}
	if err := errors.Join(checkTLS(k, c, host), checkRole(k, c)); err != nil {
		return c, err
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.logLevel) {
		return c, fmt.Errorf("%w: log-level: want debug, info, warn or error", errConfig)
	}
	if c.logForm != "text" && c.logForm != "json" {
		return c, fmt.Errorf("%w: log-format: want text or json", errConfig)
	}
	public, err := publicURL(k.String("public-url"), c.listen, c.tlsCert != "" || k.Bool("tls-self-signed"))
	if err != nil {
		return c, err
	}
	interval := k.Duration("log.checkpoint-interval")
	if interval < 100*time.Millisecond || interval > 500*time.Millisecond {
		return c, fmt.Errorf("%w: log.checkpoint-interval: want 100ms to 500ms", errConfig)
	}
	c.daemon = daemon.Config{
		DataDir:            k.String("data-dir"),
		Database:           k.String("database"),
		PublicURL:          public,
		Organization:       k.String("organization"),
		CheckpointInterval: interval,
		AnonymousVerify:    k.Bool("auth.anonymous-verify"),
		AnonymousLogWrites: k.Bool("log.anonymous-writes"),
		SelfSigned:         k.Bool("tls-self-signed"),
		ServingNames:       list(k.String("tls-names")),
		Version:            version,
	}
	if c.daemon.Witnesses, err = witnessConfig(k); err != nil {
		return c, err
	}
	if c.daemon.Monitor, err = monitorConfig(k); err != nil {
		return c, err
	}
	if c.daemon.Verdicts, err = verdictConfig(k); err != nil {
		return c, err
	}
	if c.daemon.Admission, err = admissionConfig(k); err != nil {
		return c, err
	}
	return c, errors.Join(kubernetesConfig(k, &c.daemon.Kubernetes), keyConfig(k, &c.daemon))
}

// admissionConfig reads the rules of the admission endpoints.
func admissionConfig(k *koanf.Koanf) (admission.Settings, error) {
	c := admission.Settings{
		Pin: admission.PinMode(k.String("admission.pin")), Tags: admission.TagMode(k.String("admission.tags")),
		Hardening: admission.HardeningMode(k.String("admission.hardening")), JudgeUnchanged: k.Bool("admission.judge-unchanged"),
	}
	for _, path := range list(k.String("admission.resources")) {
		raw, err := os.ReadFile(path)
		if err != nil {
			return c, fmt.Errorf("%w: admission.resources: %w", errConfig, err)
		}
		resources, err := admission.ParseResources(raw)
		if err != nil {
			return c, fmt.Errorf("%w: admission.resources: %s: %w", errConfig, path, err)
		}
		c.Resources = append(c.Resources, resources...)
	}
	if _, err := admission.New(c); err != nil {
		return c, fmt.Errorf("%w: admission: %w", errConfig, err)
	}
	return c, nil
}

// checkTLS wants TLS from one source, and plain HTTP nowhere but on loopback.
func checkTLS(k *koanf.Koanf, c serveConfig, host string) error {
	selfSigned := k.Bool("tls-self-signed")
	encrypted := c.tlsCert != "" || selfSigned
	switch {
	case (c.tlsCert == "") != (c.tlsKey == ""):
		return fmt.Errorf("%w: tls-cert and tls-key go together", errConfig)
	case c.tlsCert != "" && selfSigned:
		return fmt.Errorf("%w: tls-self-signed makes a certificate and tls-cert names one: choose", errConfig)
	case k.String("tls-names") != "" && !selfSigned:
		return fmt.Errorf("%w: tls-names is nothing without tls-self-signed", errConfig)
	case c.clientCerts && !encrypted:
		// A proxy that ends TLS has seen the proof of the key, and a header in
		// which it tells of that could be anybody's.
		return fmt.Errorf("%w: tls-client-certificates needs tls-cert and tls-key, or tls-self-signed: only who ends TLS sees a certificate proven", errConfig)
	case !encrypted && !loopback(host) && !k.Bool("behind-proxy"):
		return fmt.Errorf("%w: serving plain HTTP on %s needs tls-cert and tls-key, or tls-self-signed, or behind-proxy when a proxy in front ends TLS", errConfig, c.listen)
	case c.shutdownDelay < 0 || c.shutdownDelay > limits.ShutdownDelay:
		return fmt.Errorf("%w: shutdown-delay: want 0 to %v", errConfig, limits.ShutdownDelay)
	}
	return nil
}

// The roles of a process.
const (
	roleAll    = "all"
	roleVerify = "verify"
)

// checkRole wants of a verification replica what it cannot do without. Settings
// that concern the main service alone are ignored: both may read one file.
func checkRole(k *koanf.Koanf, c serveConfig) error {
	switch {
	case c.role != roleAll && c.role != roleVerify:
		return fmt.Errorf("%w: role: want %s or %s", errConfig, roleAll, roleVerify)
	case c.role == roleVerify && (k.String("database") == "" || c.replicaKey == "" || k.String("public-url") == ""):
		return fmt.Errorf("%w: role verify needs database, replica-key-file, and the public-url of the main service", errConfig)
	case c.role == roleAll && c.replicaKey != "":
		return fmt.Errorf("%w: replica-key-file is nothing without role verify: the main service derives that key", errConfig)
	}
	return nil
}

// verdictConfig reads how long verdicts are remembered. Here 0 is 0; what takes
// the place of a default is the default that the settings name.
func verdictConfig(k *koanf.Koanf) (daemon.VerdictConfig, error) {
	ttl := func(key string) time.Duration {
		if d := k.Duration(key); d != 0 {
			return d
		}
		return -1
	}
	c := daemon.VerdictConfig{
		PassedTTL: ttl("verify.passed-ttl"), FailedTTL: ttl("verify.failed-ttl"), StaleIfError: k.Duration("verify.stale-if-error"),
		RevocationHosts: list(k.String("verify.revocation-hosts")),
	}
	if err := c.Check(); err != nil {
		return c, fmt.Errorf("%w: verify: %w", errConfig, err)
	}
	return c, nil
}

// monitorConfig reads how the service follows its own log.
func monitorConfig(k *koanf.Koanf) (daemon.MonitorConfig, error) {
	c := daemon.MonitorConfig{
		Webhook: k.String("monitor.webhook"), Interval: k.Duration("monitor.interval"), Also: list(k.String("monitor.also")),
	}
	if c.Webhook != "" && !isHTTP(c.Webhook) {
		return c, fmt.Errorf("%w: monitor.webhook: want http(s)://HOST", errConfig)
	}
	if len(c.Also) > limits.MonitorSources || slices.ContainsFunc(c.Also, func(u string) bool { return !isHTTP(u) }) {
		return c, fmt.Errorf("%w: monitor.also: want at most %d of http(s)://HOST", errConfig, limits.MonitorSources)
	}
	if c.Interval < limits.MonitorIntervalMin {
		return c, fmt.Errorf("%w: monitor.interval: want %v or more", errConfig, limits.MonitorIntervalMin)
	}
	path := k.String("monitor.watch")
	if path == "" {
		return c, nil
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return c, fmt.Errorf("%w: monitor.watch: %w", errConfig, err)
	}
	if c.Watch, err = monitor.ParseWatch(raw); err != nil {
		return c, fmt.Errorf("%w: monitor.watch: %s: %w", errConfig, path, err)
	}
	return c, nil
}

// list is a setting of several values.
func list(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' })
}

func isHTTP(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https")
}

// witnessConfig reads who cosigns the log's checkpoints; nil when nobody does.
func witnessConfig(k *koanf.Koanf) (*sequencer.Witnesses, error) {
	path := k.String("log.witness-policy")
	if path == "" {
		if k.Bool("log.witness-fail-open") {
			return nil, fmt.Errorf("%w: log.witness-fail-open is nothing without log.witness-policy", errConfig)
		}
		return nil, nil
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: log.witness-policy: %w", errConfig, err)
	}
	policy, err := sequencer.ParseWitnessPolicy(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: log.witness-policy: %s: %w", errConfig, path, err)
	}
	witnesses, err := sequencer.NewWitnesses(sequencer.WitnessConfig{
		Policy: policy, FailOpen: k.Bool("log.witness-fail-open"), Timeout: k.Duration("log.witness-timeout"), Clock: clock.System{},
	})
	if err != nil {
		return nil, fmt.Errorf("%w: log.witness-timeout: %w", errConfig, err)
	}
	return witnesses, nil
}

// keyConfig reads where keys lie.
func keyConfig(k *koanf.Koanf, c *daemon.Config) error {
	var err error
	if c.KeyRefs, err = keys.ParseRefs(list(k.String("keys.refs"))); err != nil {
		return fmt.Errorf("%w: keys.refs: %w", errConfig, err)
	}
	c.Authorities = daemon.AuthorityKeys{
		CARoot: k.String("authorities.ca-root"), CA: k.String("authorities.ca"), CT: k.String("authorities.ct"),
		TSARoot: k.String("authorities.tsa-root"), TSA: k.String("authorities.tsa"), Log: k.String("authorities.log"),
	}
	if err := c.Authorities.Check(); err != nil {
		return fmt.Errorf("%w: %w", errConfig, err)
	}
	return nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// publicURL checks the URL that clients use, or derives it from the address.
// Its host becomes the log's origin, which must be a bare host name: stock
// clients compare the checkpoint's origin with the host of the log's base URL.
func publicURL(given, listen string, tls bool) (string, error) {
	if given == "" {
		scheme := "http"
		if tls {
			scheme = "https"
		}
		return scheme + "://" + listen, nil
	}
	u, err := url.Parse(given)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" ||
		(u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return "", fmt.Errorf("%w: public-url: want http(s)://HOST[:PORT] and nothing else", errConfig)
	}
	return u.Scheme + "://" + u.Host, nil
}
