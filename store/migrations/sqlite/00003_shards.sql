-- +goose Up

-- position of a leaf in one shard of the log; the same hash may stand at several
-- positions. What was indexed before is the first shard's. The counter `leaves`
-- is that shard's, `leaves/2` the second's and so on.
CREATE TABLE shard_leaves (
  shard    INTEGER NOT NULL,
  position INTEGER NOT NULL,
  hash     BLOB NOT NULL,
  PRIMARY KEY (shard, position)
) STRICT, WITHOUT ROWID;
INSERT INTO shard_leaves (shard, position, hash) SELECT 1, position, hash FROM leaves;
DROP TABLE leaves;
ALTER TABLE shard_leaves RENAME TO leaves;
CREATE INDEX leaves_hash ON leaves (shard, hash, position);

-- +goose Down
DELETE FROM counters WHERE name LIKE 'leaves/%';
CREATE TABLE first_leaves (
  position INTEGER PRIMARY KEY,
  hash     BLOB NOT NULL
) STRICT;
INSERT INTO first_leaves (position, hash) SELECT position, hash FROM leaves WHERE shard = 1;
DROP TABLE leaves;
ALTER TABLE first_leaves RENAME TO leaves;
CREATE INDEX leaves_hash ON leaves (hash, position);
