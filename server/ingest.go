package server

import (
	"context"
	"strconv"

	"github.com/countersign/countersign/archive"
	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/audit"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
	"github.com/countersign/countersign/server/api"
	"github.com/countersign/countersign/verifier"
)

type ingestInput struct {
	Digest string `path:"digest" maxLength:"128" doc:"sha256: and 64 hexadecimal digits."`
	Body   api.IngestRequest
}

// ingest verifies first and keeps afterwards: what nobody whom the policies
// name has signed would only be in the way of what somebody has.
func (s *Server) ingest(ctx context.Context, in *ingestInput) (*bodyOutput[api.Ingest], error) {
	digest, err := attest.ParseDigest(in.Digest)
	if err != nil {
		return nil, &refusal{cause: err, fields: fieldProblem("path.digest", "want sha256: and 64 lowercase hexadecimal digits")}
	}
	ref, err := registry.ParseReference(in.Body.Image)
	if err != nil {
		return nil, &refusal{cause: err, fields: fieldProblem("body.image", "want HOST/REPOSITORY with :TAG or @sha256:DIGEST")}
	}
	found, judged, complete, err := s.cfg.Verifier.Accepted(ctx, in.Body.Image)
	if err != nil {
		return nil, err
	}
	if found != digest {
		return nil, &refusal{cause: errRequest, fields: fieldProblem("body.image", "names another digest than the path")}
	}
	out := api.Ingest{Digest: digest.String(), Kept: []api.IngestItem{}, Refused: []api.IngestItem{}, Complete: complete}
	for _, j := range judged {
		if !j.Accepted {
			out.Refused = append(out.Refused, ingestItem(j))
			continue
		}
		if err := s.cfg.Archive.Keep(ctx, kept(digest, ref.Name(), j)); err != nil {
			return nil, err
		}
		out.Kept = append(out.Kept, ingestItem(j))
	}
	// What was kept is evidence and no trust, so it stands without its record.
	err = s.journal(ctx, "artifact.ingest", ref.Name(), audit.Done, map[string]string{
		"digest": digest.String(), "kept": strconv.Itoa(len(out.Kept)), "refused": strconv.Itoa(len(out.Refused)),
	})
	if err != nil {
		return nil, err
	}
	return &bodyOutput[api.Ingest]{Body: out}, nil
}

func kept(digest attest.Digest, repository string, j verifier.Judged) archive.Item {
	item := archive.Item{
		Digest: digest, Repository: repository, Format: j.Attachment.Format, PredicateType: j.PredicateType,
		Signer: j.Evidence.Signer, LogIndex: j.Evidence.LogIndex, Bundle: j.Attachment.Bundle,
	}
	if l := j.Attachment.Legacy; l != nil {
		item.Legacy = &archive.Legacy{Payload: l.Payload, Annotations: l.Annotations}
	}
	if e := j.Attachment.Envelope; e != nil {
		item.Notation = &archive.Notation{MediaType: e.MediaType, Envelope: e.Content}
	}
	return item
}

func ingestItem(j verifier.Judged) api.IngestItem {
	out := api.IngestItem{
		Format: j.Attachment.Format, Digest: j.Attachment.Digest.String(), PredicateType: j.PredicateType,
		Signer: j.Evidence.Signer, LogIndex: j.Evidence.LogIndex, LogID: j.Evidence.LogID, Policy: j.Policy, Authority: j.Authority,
	}
	if !j.Accepted {
		out.Reason = &policy.Reason{Code: j.Reason.Code, Message: j.Reason.Message}
	}
	return out
}
