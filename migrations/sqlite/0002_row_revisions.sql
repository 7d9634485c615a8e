-- Each row names the change that it came with, so that a gateway reads what is new and nothing else.

ALTER TABLE tenant      ADD COLUMN revision INTEGER NOT NULL DEFAULT 1;
ALTER TABLE licence     ADD COLUMN revision INTEGER NOT NULL DEFAULT 1;
ALTER TABLE licence_key ADD COLUMN revision INTEGER NOT NULL DEFAULT 1;
CREATE INDEX tenant_revision      ON tenant (revision);
CREATE INDEX licence_revision     ON licence (revision);
CREATE INDEX licence_key_revision ON licence_key (revision);

-- What is forgotten in time is found by its day.
CREATE INDEX device_last_seen ON device (last_seen);
CREATE INDEX device_removed   ON device (last_seen) WHERE state = 'removed';
