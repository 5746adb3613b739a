-- +goose Up

-- What may be used once: an identifier, what it was used for, and until when,
-- in seconds since 1970, that must be remembered.
CREATE TABLE uses (
  id      TEXT COLLATE "C" PRIMARY KEY,
  purpose TEXT COLLATE "C" NOT NULL,
  expires BIGINT NOT NULL
);
CREATE INDEX uses_expires ON uses (expires);

-- +goose Down
DROP TABLE uses;
