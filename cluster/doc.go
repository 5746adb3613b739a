// Package cluster is a client of the Kubernetes API with the few nouns that this
// service needs of it: pods that run and the workloads they belong to, the pull
// secrets of a namespace, and the certificate authorities of webhook
// configurations.
//
// It is made of a kubeconfig or of the credentials of the pod it runs in, and
// contacts nobody until it is asked something. Requests have deadlines, lists are
// read in pages and to a bound, and the library asks again when the API server is
// busy. Nothing is watched and nothing but pull secrets is kept, those for
// limits.PullSecretFresh.
//
// Pull secrets are read as the kubelet reads them
// (kubernetes.io/dockerconfigjson and kubernetes.io/dockercfg), with three
// differences: the document must be strict JSON; a path counts by whole segments;
// and an entry that names https:// is not used without TLS. The result is a
// registry.Keychain: values of one namespace, which print nowhere.
//
// It refuses to decide: a secret that is not there or cannot be read is a note,
// and whoever needs it is denied by the registry.
package cluster
