package api

import "time"

// LogSearch is a page of entries of the log, newest first.
type LogSearch struct {
	Items      []LogSearchItem `json:"items" nullable:"false"`
	NextCursor string          `json:"nextCursor,omitempty"`
	IndexedTo  []LogIndexed    `json:"indexedTo" nullable:"false" doc:"How far the search has followed each shard: an entry beyond is not found yet."`
}

// LogSearchItem says what an entry of the log is about. GET
// /v1/log/entries/{index}?logId= proves it.
type LogSearchItem struct {
	LogID      string       `json:"logId"`
	LogIndex   int64        `json:"logIndex"`
	Shard      int          `json:"shard" doc:"Number of the shard, from 1."`
	Kind       string       `json:"kind"`
	Version    string       `json:"version,omitempty"`
	Digest     string       `json:"digest,omitempty" doc:"Of the bytes that were signed: of an envelope, its pre-authentication encoding (its payload where kind is dsse) and not the artifact."`
	KeyID      string       `json:"keyId,omitempty" doc:"SHA-256 of the key's SubjectPublicKeyInfo."`
	Identity   *LogIdentity `json:"identity,omitempty" nullable:"false" doc:"What the entry's certificate says. The log does not ask who issued it."`
	Time       time.Time    `json:"time"`
	TimeSource string       `json:"timeSource" enum:"certificate,firstSeen" doc:"What time is: the beginning of the certificate, or when the index first saw the entry."`
	Subjects   []string     `json:"subjects" nullable:"false" doc:"Digests of artifacts that the signed bytes speak of, as far as bundles that say so are kept here."`
}

// LogIdentity is the issuer and the name in a certificate.
type LogIdentity struct {
	Issuer  string `json:"issuer"`
	Subject string `json:"subject"`
}

// LogIndexed is how far the search has followed a shard.
type LogIndexed struct {
	Shard     int    `json:"shard"`
	LogID     string `json:"logId"`
	Size      uint64 `json:"size" doc:"Entries that a search finds."`
	Published uint64 `json:"published" doc:"Entries under the checkpoint that was read last."`
}

// LogConsistency proves that a shard's tree of From entries is the beginning of
// its tree of To entries (RFC 6962 §2.1.2). Hashes and roots are hexadecimal.
type LogConsistency struct {
	LogID      string   `json:"logId"`
	From       uint64   `json:"from"`
	To         uint64   `json:"to"`
	FromRoot   string   `json:"fromRoot"`
	ToRoot     string   `json:"toRoot"`
	Hashes     []string `json:"hashes" nullable:"false"`
	Checkpoint string   `json:"checkpoint" doc:"The published checkpoint, a signed note. Both trees are beginnings of its tree."`
}
