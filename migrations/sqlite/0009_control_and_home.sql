-- What may be copied to another region (tenants, licences, keys, servers, orders to erase) is written by no gateway and no
-- worker; what is of one region (devices, days of keys' use, service levels, the audit log) is never copied.
CREATE TABLE key_use (
    kid           TEXT    NOT NULL PRIMARY KEY REFERENCES licence_key (kid),
    last_used_day INTEGER NOT NULL,
    -- The digest of a key of before, from a gateway that has seen it.
    offered       BLOB
) STRICT;
INSERT INTO key_use (kid, last_used_day, offered)
    SELECT kid, coalesce(last_used_day, 0), offered FROM licence_key WHERE coalesce(last_used_day, 0) > 0 OR offered IS NOT NULL;
CREATE INDEX key_use_offered ON key_use (kid) WHERE offered IS NOT NULL;
ALTER TABLE licence_key DROP COLUMN last_used_day;
ALTER TABLE licence_key DROP COLUMN offered;

-- Orders to forget all devices of a tenant, and what each region did: it carries each of them out once.
CREATE TABLE erasure (
    id         BLOB    NOT NULL PRIMARY KEY,
    tenant_id  BLOB    NOT NULL REFERENCES tenant (id),
    ordered_at INTEGER NOT NULL,
    ordered_by TEXT    NOT NULL,
    revision   INTEGER NOT NULL
) STRICT;
CREATE INDEX erasure_tenant ON erasure (tenant_id);
CREATE TABLE erasure_done (
    erasure_id BLOB    NOT NULL PRIMARY KEY,
    done_at    INTEGER NOT NULL,
    devices    INTEGER NOT NULL
) STRICT;
