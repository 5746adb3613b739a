-- +goose Up

-- position of a leaf in one shard of the log; the same hash may stand at several
-- positions. What was indexed before is the first shard's. The counter `leaves`
-- is that shard's, `leaves/2` the second's and so on.
ALTER TABLE leaves ADD COLUMN shard BIGINT NOT NULL DEFAULT 1;
ALTER TABLE leaves DROP CONSTRAINT leaves_pkey, ADD PRIMARY KEY (shard, position);
ALTER TABLE leaves ALTER COLUMN shard DROP DEFAULT;
DROP INDEX leaves_hash;
CREATE INDEX leaves_hash ON leaves (shard, hash, position);

-- +goose Down
DELETE FROM counters WHERE name LIKE 'leaves/%';
DELETE FROM leaves WHERE shard <> 1;
DROP INDEX leaves_hash;
ALTER TABLE leaves DROP CONSTRAINT leaves_pkey, ADD PRIMARY KEY (position);
ALTER TABLE leaves DROP COLUMN shard;
CREATE INDEX leaves_hash ON leaves (hash, position);
