-- +goose Up

-- One row per counter: `objects` grows with every change of an object, `leaves`
-- is the number of consecutive log positions indexed from 0.
CREATE TABLE counters (
  name  TEXT NOT NULL PRIMARY KEY,
  value INTEGER NOT NULL
) STRICT;
INSERT INTO counters (name, value) VALUES ('objects', 0), ('leaves', 0);

CREATE TABLE objects (
  kind       TEXT NOT NULL,
  name       TEXT NOT NULL,
  alias      TEXT NOT NULL,
  revision   INTEGER NOT NULL,
  body       BLOB NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  PRIMARY KEY (kind, name)
) STRICT;
CREATE UNIQUE INDEX objects_alias ON objects (kind, alias) WHERE alias <> '';

CREATE TABLE operations (
  id              TEXT NOT NULL PRIMARY KEY,
  kind            TEXT NOT NULL,
  scope           TEXT NOT NULL,
  idempotency_key TEXT NOT NULL,
  request_hash    BLOB NOT NULL,
  state           TEXT NOT NULL,
  repository      TEXT NOT NULL,
  digest          TEXT NOT NULL,
  signer          TEXT NOT NULL,
  predicate_type  TEXT NOT NULL,
  body            BLOB NOT NULL,
  result          BLOB NOT NULL,
  created_at      INTEGER NOT NULL,
  updated_at      INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX operations_idempotency ON operations (scope, idempotency_key) WHERE idempotency_key <> '';
CREATE INDEX operations_state ON operations (state, id);
CREATE INDEX operations_digest ON operations (digest, id);
CREATE INDEX operations_repository ON operations (repository, id);

-- body_hash is the SHA-256 of body: what "the same bundle" means.
CREATE TABLE bundles (
  id             TEXT NOT NULL PRIMARY KEY,
  digest         TEXT NOT NULL,
  repository     TEXT NOT NULL,
  format         TEXT NOT NULL,
  predicate_type TEXT NOT NULL,
  key_id         TEXT NOT NULL,
  signer         TEXT NOT NULL,
  log_index      INTEGER NOT NULL,
  operation      TEXT NOT NULL,
  body           BLOB NOT NULL,
  body_hash      BLOB NOT NULL,
  created_at     INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX bundles_same ON bundles (digest, repository, body_hash);
CREATE INDEX bundles_subject ON bundles (digest, created_at, id);

CREATE TABLE decisions (
  id         TEXT NOT NULL PRIMARY KEY,
  image      TEXT NOT NULL,
  digest     TEXT NOT NULL,
  verdict    TEXT NOT NULL,
  policy     TEXT NOT NULL,
  caller     TEXT NOT NULL,
  body       BLOB NOT NULL,
  created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX decisions_verdict ON decisions (verdict, id);
CREATE INDEX decisions_digest ON decisions (digest, id);
CREATE INDEX decisions_image ON decisions (image, id);

CREATE TABLE chain (
  sequence INTEGER PRIMARY KEY,
  body     BLOB NOT NULL,
  hash     BLOB NOT NULL
) STRICT;

-- The last link as the appender remembers it. Kept apart from chain, so that
-- removing the last links shows.
CREATE TABLE chain_head (
  one      INTEGER PRIMARY KEY CHECK (one = 1),
  sequence INTEGER NOT NULL,
  hash     BLOB NOT NULL
) STRICT;
INSERT INTO chain_head (one, sequence, hash) VALUES (1, 0, X'');

-- position of a leaf in the log; the same hash may stand at several positions.
CREATE TABLE leaves (
  position INTEGER PRIMARY KEY,
  hash     BLOB NOT NULL
) STRICT;
CREATE INDEX leaves_hash ON leaves (hash, position);

-- +goose Down
DROP TABLE leaves;
DROP TABLE chain_head;
DROP TABLE chain;
DROP TABLE decisions;
DROP TABLE bundles;
DROP TABLE operations;
DROP TABLE objects;
DROP TABLE counters;
