-- +goose Up

-- What may be used once: an identifier, what it was used for, and until when,
-- in seconds since 1970, that must be remembered.
CREATE TABLE uses (
  id      TEXT PRIMARY KEY,
  purpose TEXT NOT NULL,
  expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX uses_expires ON uses (expires);

-- +goose Down
DROP TABLE uses;
