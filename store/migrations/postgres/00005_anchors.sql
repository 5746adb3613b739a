-- +goose Up

-- Log entries of the service's own about records of the chain. body is the
-- entry's, kept before it is appended, so that a retry appends the same bytes;
-- log_id is empty and log_index -1 until it is in the log.
CREATE TABLE anchors (
  sequence  BIGINT PRIMARY KEY,
  hash      BYTEA NOT NULL,
  body      BYTEA NOT NULL,
  state     TEXT COLLATE "C" NOT NULL,
  log_id    BYTEA NOT NULL,
  log_index BIGINT NOT NULL
);
CREATE INDEX anchors_hash ON anchors (hash);
CREATE INDEX anchors_waiting ON anchors (sequence) WHERE state <> 'logged';

-- +goose Down
DROP TABLE anchors;
