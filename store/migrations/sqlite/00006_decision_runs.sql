-- +goose Up

-- How decisions are found by digest ('d' before it) and by image ('i'): runs of
-- some thousand, each in the order of its keys and written at once, so that a
-- new one writes at the end of the table and nowhere else. low and high are a
-- run's smallest and largest id.
CREATE TABLE decision_keys (
  run INTEGER NOT NULL,
  key TEXT NOT NULL,
  id  TEXT NOT NULL,
  PRIMARY KEY (run, key, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE decision_runs (
  run  INTEGER PRIMARY KEY,
  low  TEXT NOT NULL,
  high TEXT NOT NULL
) STRICT;

-- Decisions that are in no run yet.
CREATE TABLE decisions_unfiled (
  id     TEXT NOT NULL PRIMARY KEY,
  digest TEXT NOT NULL,
  image  TEXT NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO decision_keys (run, key, id)
  SELECT 1, key, id FROM (
    SELECT 'd' || digest AS key, id FROM decisions UNION ALL SELECT 'i' || image, id FROM decisions
  ) ORDER BY key, id;
INSERT INTO decision_runs (run, low, high) SELECT 1, MIN(id), MAX(id) FROM decisions HAVING COUNT(*) > 0;
DROP INDEX decisions_digest;
DROP INDEX decisions_image;

-- +goose Down
CREATE INDEX decisions_digest ON decisions (digest, id);
CREATE INDEX decisions_image ON decisions (image, id);
DROP TABLE decisions_unfiled;
DROP TABLE decision_runs;
DROP TABLE decision_keys;
