-- +goose Up

-- Log entries of the service's own about records of the chain. body is the
-- entry's, kept before it is appended, so that a retry appends the same bytes;
-- log_id is empty and log_index -1 until it is in the log.
CREATE TABLE anchors (
  sequence  INTEGER PRIMARY KEY,
  hash      BLOB NOT NULL,
  body      BLOB NOT NULL,
  state     TEXT NOT NULL,
  log_id    BLOB NOT NULL,
  log_index INTEGER NOT NULL
) STRICT;
CREATE INDEX anchors_hash ON anchors (hash);
CREATE INDEX anchors_waiting ON anchors (sequence) WHERE state <> 'logged';

-- +goose Down
DROP TABLE anchors;
