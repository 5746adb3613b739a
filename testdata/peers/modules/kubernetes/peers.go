//go:build peers

// Package peers names what is built here, so that go.mod keeps it.
package peers

import (
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kubectl"
)
