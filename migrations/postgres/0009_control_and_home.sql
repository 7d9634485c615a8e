-- What may be copied to another region (tenants, licences, keys, servers, orders to erase) is written by no gateway and no
-- worker; what is of one region (devices, days of keys' use, service levels, the audit log) is never copied.
CREATE TABLE key_use (
    kid           TEXT   NOT NULL PRIMARY KEY REFERENCES licence_key (kid),
    last_used_day BIGINT NOT NULL,
    -- The digest of a key of before, from a gateway that has seen it.
    offered       BYTEA
);
INSERT INTO key_use (kid, last_used_day, offered)
    SELECT kid, coalesce(last_used_day, 0), offered FROM licence_key WHERE coalesce(last_used_day, 0) > 0 OR offered IS NOT NULL;
CREATE INDEX key_use_offered ON key_use (kid) WHERE offered IS NOT NULL;

-- Orders to forget all devices of a tenant, and what each region did: it carries each of them out once.
CREATE TABLE erasure (
    id         UUID   NOT NULL PRIMARY KEY,
    tenant_id  UUID   NOT NULL REFERENCES tenant (id),
    ordered_at BIGINT NOT NULL,
    ordered_by TEXT   NOT NULL,
    revision   BIGINT NOT NULL
);
CREATE INDEX erasure_tenant ON erasure (tenant_id);
CREATE TABLE erasure_done (
    erasure_id UUID   NOT NULL PRIMARY KEY,
    done_at    BIGINT NOT NULL,
    devices    BIGINT NOT NULL
);

GRANT SELECT (kid, last_used_day), INSERT, UPDATE (last_used_day, offered) ON key_use TO hpns_gateway;
GRANT SELECT, UPDATE (offered) ON key_use TO hpns_admin;
GRANT SELECT, INSERT ON erasure, erasure_done TO hpns_admin;
