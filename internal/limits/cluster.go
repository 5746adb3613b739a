package limits

import "time"

// The Kubernetes API.
const (
	// ClusterRequest bounds one request to the API server.
	ClusterRequest = 30 * time.Second
	// ClusterPage is how many objects one request lists, ClusterPods how many pods
	// one scan takes.
	ClusterPage = 250
	ClusterPods = 50_000
	// ClusterQPS and ClusterBurst bound the requests that are made of the API
	// server.
	ClusterQPS   = 50
	ClusterBurst = 100
	// WebhookConfigurations bounds the configurations whose authorities are kept,
	// CABundle the bundle in bytes, CABundleAttempts how often it is written again
	// when somebody else was faster, and CABundleInterval the pause between two
	// looks at it.
	WebhookConfigurations = 16
	CABundle              = 256 << 10
	CABundleAttempts      = 5
	CABundleInterval      = 30 * time.Second
)

// Pull secrets.
const (
	// PullSecretsTime bounds how long one admission waits for the secrets of its
	// pod; without them the registry decides.
	PullSecretsTime = 2 * time.Second
	// PullSecretFresh is how long a secret or service account is used without
	// asking again, PullSecretsKept how many are.
	PullSecretFresh = 30 * time.Second
	PullSecretsKept = 4096
	// PullSecrets bounds the secrets of one pod, PullSecret the bytes of one and
	// PullSecretEntries the registries in it.
	PullSecrets       = 16
	PullSecret        = 1 << 20
	PullSecretEntries = 256
	// LentCredentials bounds how many credentials are tried for one image.
	LentCredentials = 4
	// LentFresh is how long the tokens that lent credentials got are kept, and
	// LentOrigins for how many of them.
	LentFresh   = 5 * time.Minute
	LentOrigins = 1024
)

// The scan of what runs.
const (
	// ScanBatch is how many images one question of a scan is about.
	ScanBatch = 50
	// ScanIntervalMin is the least pause between two scans.
	ScanIntervalMin = time.Second
	// ScanNamespaces bounds the namespaces that the metrics name; what is in
	// others is counted together.
	ScanNamespaces = 200
	// ScanChanges bounds the changes of one scan that are told one by one.
	ScanChanges = 100
	// ScanTime bounds one scan.
	ScanTime = 30 * time.Minute
)
