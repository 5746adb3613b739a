package server

import (
	"context"
	"log/slog"

	"github.com/countersign/countersign/cluster"
	"github.com/countersign/countersign/internal/strictjson"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
	"github.com/countersign/countersign/verifier"
)

// PullSecrets gives the credentials that a pod pulls its images with. It is
// *cluster.Client.
type PullSecrets interface {
	// Keychain is what can be had of them, nil for nothing, and a note for each
	// that cannot. It holds for pods of that namespace alone.
	Keychain(ctx context.Context, pull cluster.Pull) (registry.Keychain, []string)
}

// PullSecretsConfig says whose questions are judged with pull secrets.
type PullSecretsConfig struct {
	// Source reads them; nil uses none.
	Source PullSecrets
	// Cluster is the one that Source reads, as ?cluster= names it. A review of
	// another cluster, or of none when this has a name, gets no secrets of this one.
	Cluster string
	// Anonymous lends them to callers without credentials too. Whoever reaches the
	// endpoint can then learn which digest a tag of a private repository names, and
	// whether it is signed.
	Anonymous bool
}

// pulling are the fields that say with which secrets a pod pulls.
type pulling struct {
	ServiceAccountName string `json:"serviceAccountName"`
	ImagePullSecrets   []struct {
		Name string `json:"name"`
	} `json:"imagePullSecrets"`
}

type pullingTemplate struct {
	Spec *pulling `json:"spec"`
}

// pullingObject has the places where the kinds that run pods, also custom ones,
// keep a pod's specification. What an object has none of is empty, so no table of
// kinds is needed: nothing is judged by this.
type pullingObject struct {
	Spec *struct {
		pulling
		Template    *pullingTemplate `json:"template"`
		JobTemplate *struct {
			Spec *struct {
				Template *pullingTemplate `json:"template"`
			} `json:"spec"`
		} `json:"jobTemplate"`
	} `json:"spec"`
	Template *pullingTemplate `json:"template"`
}

// pullOf reads which secrets an object's pods are pulled with.
func pullOf(namespace string, object []byte) (cluster.Pull, error) {
	var o pullingObject
	if err := strictjson.UnmarshalOpen(object, &o); err != nil {
		return cluster.Pull{}, err
	}
	places := []*pulling{}
	if o.Spec != nil {
		places = append(places, &o.Spec.pulling)
		if o.Spec.Template != nil {
			places = append(places, o.Spec.Template.Spec)
		}
		if job := o.Spec.JobTemplate; job != nil && job.Spec != nil && job.Spec.Template != nil {
			places = append(places, job.Spec.Template.Spec)
		}
	}
	if o.Template != nil {
		places = append(places, o.Template.Spec)
	}
	pull := cluster.Pull{Namespace: namespace}
	for _, p := range places {
		if p == nil {
			continue
		}
		if p.ServiceAccountName != "" {
			pull.ServiceAccount = p.ServiceAccountName
		}
		for _, secret := range p.ImagePullSecrets {
			pull.Secrets = append(pull.Secrets, secret.Name)
		}
	}
	return pull, nil
}

// verifyAsPulled judges the images of an object of a namespace with the pull
// secrets of its pods. Nothing about the secrets decides: without them the
// registry denies, and a FAILED then says what was missing.
func (s *Server) verifyAsPulled(ctx context.Context, namespace, inCluster string, object []byte, request verifier.Request) (verifier.Answer, error) {
	var notes []string
	if s.lends(ctx, namespace, inCluster) {
		request.Keychain, notes = s.keychain(ctx, namespace, object)
	}
	answer, err := s.cfg.Verifier.Verify(ctx, request)
	if err == nil && answer.Verdict != policy.Passed {
		answer.Warnings = append(answer.Warnings, notes...)
	}
	return answer, err
}

// lends reports whether the caller's question may use the secrets of a namespace.
func (s *Server) lends(ctx context.Context, namespace, inCluster string) bool {
	c := s.cfg.PullSecrets
	return c.Source != nil && namespace != "" && inCluster == c.Cluster && (c.Anonymous || !callerOf(ctx).IsZero())
}

func (s *Server) keychain(ctx context.Context, namespace string, object []byte) (registry.Keychain, []string) {
	pull, err := pullOf(namespace, object)
	if err != nil {
		return nil, []string{"the object does not say readably with which secrets it is pulled"}
	}
	keychain, notes := s.cfg.PullSecrets.Source.Keychain(ctx, pull)
	for i, note := range notes {
		s.cfg.Logger.InfoContext(ctx, "pull secret", slog.String("namespace", namespace), slog.String("note", note))
		notes[i] = "image pull: " + note
	}
	return keychain, notes
}
