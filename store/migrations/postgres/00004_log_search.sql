-- +goose Up

-- What the log's entries are about, one row an entry. A row is only good below
-- the size in log_indexed; time is the certificate's when certified is 1, else
-- when the entry was first seen.
CREATE TABLE log_entries (
  shard     BIGINT NOT NULL,
  position  BIGINT NOT NULL,
  leaf_hash BYTEA NOT NULL,
  kind      TEXT COLLATE "C" NOT NULL,
  version   TEXT COLLATE "C" NOT NULL,
  digest    TEXT COLLATE "C" NOT NULL,
  key_id    TEXT COLLATE "C" NOT NULL,
  issuer    TEXT COLLATE "C" NOT NULL,
  subject   TEXT COLLATE "C" NOT NULL,
  time      BIGINT NOT NULL,
  certified BIGINT NOT NULL,
  PRIMARY KEY (shard, position)
);
CREATE INDEX log_entries_digest ON log_entries (digest, shard, position);
CREATE INDEX log_entries_key ON log_entries (key_id, shard, position);
CREATE INDEX log_entries_subject ON log_entries (subject, shard, position) WHERE subject <> '';

-- How many entries of a shard are indexed, from 0 on.
CREATE TABLE log_indexed (
  shard BIGINT PRIMARY KEY,
  size  BIGINT NOT NULL
);

-- logged is the digest under which a log names bytes that were signed; digest is
-- of an artifact that those bytes speak of.
CREATE TABLE log_subjects (
  logged TEXT COLLATE "C" NOT NULL,
  digest TEXT COLLATE "C" NOT NULL,
  PRIMARY KEY (logged, digest)
);
CREATE INDEX log_subjects_digest ON log_subjects (digest, logged);

-- The largest published checkpoint of each shard, a signed note.
CREATE TABLE log_checkpoints (
  shard      BIGINT PRIMARY KEY,
  log_id     BYTEA NOT NULL,
  size       BIGINT NOT NULL,
  root       BYTEA NOT NULL,
  note       BYTEA NOT NULL,
  updated_at BIGINT NOT NULL
);

-- +goose Down
DROP TABLE log_checkpoints;
DROP TABLE log_subjects;
DROP TABLE log_indexed;
DROP TABLE log_entries;
