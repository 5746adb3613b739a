package server

import (
	"context"
	"encoding/hex"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/server/api"
	"github.com/countersign/countersign/signer"
	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/tlog/search"
	"github.com/countersign/countersign/tlog/sequencer"
)

// LogSearch finds entries of the log. It is *search.Follower.
type LogSearch interface {
	// Search returns entries that match all of the filter, newest first.
	Search(ctx context.Context, filter store.LogFilter, page store.Page) ([]store.LogEntry, string, error)
	// Progress is how far each shard is indexed.
	Progress() []search.Progress
}

type logSearchInput struct {
	PageInput
	Digest   string    `query:"digest" pattern:"^sha(256:[0-9a-f]{64}|384:[0-9a-f]{96}|512:[0-9a-f]{128})$" doc:"Of an artifact, or of the bytes that were signed."`
	Identity string    `query:"identity" maxLength:"1024" doc:"The one name in the certificate, whole."`
	Issuer   string    `query:"issuer" maxLength:"1024" doc:"The issuer in the certificate, whole; with identity."`
	Key      string    `query:"key" pattern:"^[0-9a-f]{64}$" doc:"SHA-256 of the key's SubjectPublicKeyInfo."`
	Since    time.Time `query:"since" doc:"Only entries whose time is not before this."`
	Until    time.Time `query:"until" doc:"Only entries whose time is before this."`
}

type consistencyInput struct {
	From  uint64 `query:"from" required:"true" doc:"Size of the smaller tree."`
	To    uint64 `query:"to" minimum:"1" doc:"Size of the larger tree; the published one without it."`
	LogID string `query:"logId" pattern:"^[0-9a-f]{64}$" doc:"The shard, by the log id that answers name an entry with; the one that is written without it."`
}

func (s *Server) logSearchRoutes() {
	tags := []string{"Log"}
	register(s, huma.Operation{
		OperationID: "searchLog", Method: http.MethodGet, Path: "/v1/log/entries", Tags: tags,
		Summary:     "Find entries of the log by digest, identity or key",
		Description: "Name at least one of digest, identity and key; what is named must match as a whole, all of it. An answer says what an entry is about and where it stands; the entry itself proves it.",
	}, s.searchLog)
	register(s, huma.Operation{
		OperationID: "getLogConsistency", Method: http.MethodGet, Path: "/v1/log/consistency", Tags: tags,
		Summary: "Prove that one tree of the log is the beginning of another",
	}, s.logConsistency)
}

// bounded runs a reading of the log that anybody may ask for: a few at a time
// and not for long.
func (s *Server) bounded(ctx context.Context, read func(context.Context) error) error {
	select {
	case s.searches <- struct{}{}:
		defer func() { <-s.searches }()
	default:
		return signer.ErrBusy
	}
	ctx, cancel := context.WithTimeout(ctx, limits.LogSearchTimeout)
	defer cancel()
	return read(ctx)
}

func (s *Server) searchLog(ctx context.Context, in *logSearchInput) (*bodyOutput[api.LogSearch], error) {
	switch {
	case in.Digest == "" && in.Identity == "" && in.Key == "":
		return nil, badField("query", "name at least one of digest, identity and key")
	case in.Issuer != "" && in.Identity == "":
		return nil, badField("query.issuer", "needs identity")
	}
	// What is told must be true of the answer: the index grows meanwhile.
	progress := s.cfg.LogSearch.Progress()
	var entries []store.LogEntry
	var next string
	err := s.bounded(ctx, func(ctx context.Context) (err error) {
		filter := store.LogFilter{
			Digest: in.Digest, KeyID: in.Key, Issuer: in.Issuer, Subject: in.Identity, Since: in.Since, Until: in.Until,
		}
		entries, next, err = s.cfg.LogSearch.Search(ctx, filter, in.page())
		return err
	})
	if err != nil {
		return nil, err
	}
	out := api.LogSearch{Items: []api.LogSearchItem{}, NextCursor: next, IndexedTo: each(progress, wireProgress)}
	for _, e := range entries {
		shard, err := s.cfg.Log.Shard(e.Shard)
		if err != nil {
			continue // a row of another log, which the follower tells
		}
		out.Items = append(out.Items, wireLogEntry(e, shard.LogID()))
	}
	return &bodyOutput[api.LogSearch]{Body: out}, nil
}

func wireProgress(p search.Progress) api.LogIndexed {
	return api.LogIndexed{Shard: p.Shard, LogID: hex.EncodeToString(p.LogID), Size: p.Indexed, Published: p.Published}
}

func wireLogEntry(e store.LogEntry, logID []byte) api.LogSearchItem {
	out := api.LogSearchItem{
		LogID: hex.EncodeToString(logID), LogIndex: int64(e.Position), Shard: e.Shard, Kind: e.Kind, Version: e.Version, //nolint:gosec // the store's bound
		Digest: e.Digest, KeyID: e.KeyID, Time: e.Time, TimeSource: "firstSeen", Subjects: each(e.Subjects, func(d string) string { return d }),
	}
	if e.Certified {
		out.TimeSource = "certificate"
	}
	if e.Subject != "" {
		out.Identity = &api.LogIdentity{Issuer: e.Issuer, Subject: e.Subject}
	}
	return out
}

func (s *Server) logConsistency(ctx context.Context, in *consistencyInput) (*bodyOutput[api.LogConsistency], error) {
	prove := s.cfg.Log.Consistency
	if in.LogID != "" {
		id, err := hex.DecodeString(in.LogID)
		if err != nil {
			return nil, sequencer.ErrNotFound
		}
		shard, err := s.cfg.Log.ShardOf(id)
		if err != nil {
			return nil, err
		}
		prove = shard.Consistency
	}
	var proof sequencer.Consistency
	err := s.bounded(ctx, func(ctx context.Context) (err error) {
		proof, err = prove(ctx, in.From, in.To)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &bodyOutput[api.LogConsistency]{Body: api.LogConsistency{
		LogID: hex.EncodeToString(proof.LogID), From: proof.From, To: proof.To,
		FromRoot: hex.EncodeToString(proof.FromRoot), ToRoot: hex.EncodeToString(proof.ToRoot),
		Hashes: each(proof.Hashes, hex.EncodeToString), Checkpoint: string(proof.Checkpoint),
	}}, nil
}
