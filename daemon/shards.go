package daemon

import (
	"crypto"
	"fmt"
	"strconv"
	"time"

	"github.com/countersign/countersign/authority"
	"github.com/countersign/countersign/tlog"
	"github.com/countersign/countersign/tlog/sequencer"
	"github.com/countersign/countersign/trust"
)

// shardOrigin is the origin of a shard of the data folder: the one that it was
// made with, and for one that has no checkpoint yet its own.
func (d *Daemon) shardOrigin(number int, pub crypto.PublicKey) (string, error) {
	made, err := sequencer.OriginOf(d.path(shardFolder(number)))
	if err != nil {
		return "", fmt.Errorf("shard %d: %w", number, err)
	}
	return originOf(d.origin, number, pub, made)
}

// originOf chooses between the origins that a shard can have: its own, and the
// host's, which the first shard has and which others have that were made when all
// shards shared it. made is what its checkpoint names, and is verified by who
// opens it.
func originOf(host string, number int, pub crypto.PublicKey, made string) (string, error) {
	if made == host {
		return host, nil
	}
	origin, err := tlog.ShardOrigin(host, number, pub)
	if err != nil {
		return "", fmt.Errorf("shard %d: %w", number, err)
	}
	return origin, nil
}

// trustedLogs are the shards as outsiders believe them. While there is one shard
// it answers under the service's own URL; from then on that is where entries are
// written, and each shard is read where it stays for good. They learn the places
// before the switch, because the trusted root names a shard once it is prepared.
func (s *services) trustedLogs() []trust.Log {
	shards := s.log.Shards()
	logs := make([]trust.Log, 0, len(shards))
	for _, shard := range shards {
		entry := trust.Log{
			BaseURL: s.publicURL, WriteURL: s.publicURL, Origin: shard.Origin, Public: shard.Public, Start: shard.Start,
		}
		if len(shards) > 1 {
			entry.BaseURL = s.shardURL(shard)
		}
		if shard.FrozenAt != nil {
			// A promise never names a time after the freeze. Verifiers that hold
			// the window against a timestamp see one made a little later.
			end := shard.FrozenAt.Add(authority.Overlap).UTC().Truncate(time.Second)
			entry.End = &end
		}
		logs = append(logs, entry)
	}
	return logs
}

// shardURL is a shard's own, whose host name is its origin: verifiers take the
// origin from there. The service answers to every name, so an operator who wants
// it reached under that one has it resolve; nobody needs that to verify.
func (s *services) shardURL(shard sequencer.Shard) string {
	own := *s.public
	own.Host = shard.Origin
	if port := s.public.Port(); port != "" {
		own.Host += ":" + port
	}
	return own.JoinPath("shards", strconv.Itoa(shard.Number)).String()
}
