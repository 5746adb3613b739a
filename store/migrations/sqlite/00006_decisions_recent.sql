-- +goose Up

-- Decisions before they are filed in decisions: no index but the key, which
-- grows at its end, so that keeping one writes few pages.
CREATE TABLE decisions_recent (
  id         TEXT NOT NULL PRIMARY KEY,
  image      TEXT NOT NULL,
  digest     TEXT NOT NULL,
  verdict    TEXT NOT NULL,
  policy     TEXT NOT NULL,
  caller     TEXT NOT NULL,
  body       BLOB NOT NULL,
  created_at INTEGER NOT NULL
) STRICT;

-- +goose Down
INSERT INTO decisions SELECT * FROM decisions_recent WHERE true ON CONFLICT DO NOTHING;
DROP TABLE decisions_recent;
