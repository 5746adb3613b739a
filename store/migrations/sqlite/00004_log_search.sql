-- +goose Up

-- What the log's entries are about, one row an entry. A row is only good below
-- the size in log_indexed; time is the certificate's when certified is 1, else
-- when the entry was first seen.
CREATE TABLE log_entries (
  shard     INTEGER NOT NULL,
  position  INTEGER NOT NULL,
  leaf_hash BLOB NOT NULL,
  kind      TEXT NOT NULL,
  version   TEXT NOT NULL,
  digest    TEXT NOT NULL,
  key_id    TEXT NOT NULL,
  issuer    TEXT NOT NULL,
  subject   TEXT NOT NULL,
  time      INTEGER NOT NULL,
  certified INTEGER NOT NULL,
  PRIMARY KEY (shard, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX log_entries_digest ON log_entries (digest, shard, position);
CREATE INDEX log_entries_key ON log_entries (key_id, shard, position);
CREATE INDEX log_entries_subject ON log_entries (subject, shard, position) WHERE subject <> '';

-- How many entries of a shard are indexed, from 0 on.
CREATE TABLE log_indexed (
  shard INTEGER PRIMARY KEY,
  size  INTEGER NOT NULL
) STRICT;

-- logged is the digest under which a log names bytes that were signed; digest is
-- of an artifact that those bytes speak of.
CREATE TABLE log_subjects (
  logged TEXT NOT NULL,
  digest TEXT NOT NULL,
  PRIMARY KEY (logged, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX log_subjects_digest ON log_subjects (digest, logged);

-- The largest published checkpoint of each shard, a signed note.
CREATE TABLE log_checkpoints (
  shard      INTEGER PRIMARY KEY,
  log_id     BLOB NOT NULL,
  size       INTEGER NOT NULL,
  root       BLOB NOT NULL,
  note       BLOB NOT NULL,
  updated_at INTEGER NOT NULL
) STRICT;

-- +goose Down
DROP TABLE log_checkpoints;
DROP TABLE log_subjects;
DROP TABLE log_indexed;
DROP TABLE log_entries;
