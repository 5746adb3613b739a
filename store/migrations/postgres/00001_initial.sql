-- +goose Up

-- One row per counter: `objects` grows with every change of an object, `leaves`
-- is the number of consecutive log positions indexed from 0.
CREATE TABLE counters (
  name  TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  value BIGINT NOT NULL
);
INSERT INTO counters (name, value) VALUES ('objects', 0), ('leaves', 0);

CREATE TABLE objects (
  kind       TEXT COLLATE "C" NOT NULL,
  name       TEXT COLLATE "C" NOT NULL,
  alias      TEXT COLLATE "C" NOT NULL,
  revision   BIGINT NOT NULL,
  body       BYTEA NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (kind, name)
);
CREATE UNIQUE INDEX objects_alias ON objects (kind, alias) WHERE alias <> '';

CREATE TABLE operations (
  id              TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  kind            TEXT COLLATE "C" NOT NULL,
  scope           TEXT COLLATE "C" NOT NULL,
  idempotency_key TEXT COLLATE "C" NOT NULL,
  request_hash    BYTEA NOT NULL,
  state           TEXT COLLATE "C" NOT NULL,
  repository      TEXT COLLATE "C" NOT NULL,
  digest          TEXT COLLATE "C" NOT NULL,
  signer          TEXT COLLATE "C" NOT NULL,
  predicate_type  TEXT COLLATE "C" NOT NULL,
  body            BYTEA NOT NULL,
  result          BYTEA NOT NULL,
  created_at      BIGINT NOT NULL,
  updated_at      BIGINT NOT NULL
);
CREATE UNIQUE INDEX operations_idempotency ON operations (scope, idempotency_key) WHERE idempotency_key <> '';
CREATE INDEX operations_state ON operations (state, id);
CREATE INDEX operations_digest ON operations (digest, id);
CREATE INDEX operations_repository ON operations (repository, id);

-- body_hash is the SHA-256 of body: what "the same bundle" means.
CREATE TABLE bundles (
  id             TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  digest         TEXT COLLATE "C" NOT NULL,
  repository     TEXT COLLATE "C" NOT NULL,
  format         TEXT COLLATE "C" NOT NULL,
  predicate_type TEXT COLLATE "C" NOT NULL,
  key_id         TEXT COLLATE "C" NOT NULL,
  signer         TEXT COLLATE "C" NOT NULL,
  log_index      BIGINT NOT NULL,
  operation      TEXT COLLATE "C" NOT NULL,
  body           BYTEA NOT NULL,
  body_hash      BYTEA NOT NULL,
  created_at     BIGINT NOT NULL
);
CREATE UNIQUE INDEX bundles_same ON bundles (digest, repository, body_hash);
CREATE INDEX bundles_subject ON bundles (digest, created_at, id);

CREATE TABLE decisions (
  id         TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  image      TEXT COLLATE "C" NOT NULL,
  digest     TEXT COLLATE "C" NOT NULL,
  verdict    TEXT COLLATE "C" NOT NULL,
  policy     TEXT COLLATE "C" NOT NULL,
  caller     TEXT COLLATE "C" NOT NULL,
  body       BYTEA NOT NULL,
  created_at BIGINT NOT NULL
);
CREATE INDEX decisions_verdict ON decisions (verdict, id);
CREATE INDEX decisions_digest ON decisions (digest, id);
CREATE INDEX decisions_image ON decisions (image, id);

CREATE TABLE chain (
  sequence BIGINT PRIMARY KEY,
  body     BYTEA NOT NULL,
  hash     BYTEA NOT NULL
);

-- The last link as the appender remembers it. Kept apart from chain, so that
-- removing the last links shows.
CREATE TABLE chain_head (
  one      SMALLINT PRIMARY KEY CHECK (one = 1),
  sequence BIGINT NOT NULL,
  hash     BYTEA NOT NULL
);
INSERT INTO chain_head (one, sequence, hash) VALUES (1, 0, '');

-- position of a leaf in the log; the same hash may stand at several positions.
CREATE TABLE leaves (
  position BIGINT PRIMARY KEY,
  hash     BYTEA NOT NULL
);
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
