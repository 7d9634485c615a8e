-- What operators sell, who they are, and what they did. Processes of the version before go on: whatever they do
-- not know has a default.

ALTER TABLE tenant ADD COLUMN contact          TEXT    NOT NULL DEFAULT '';
ALTER TABLE tenant ADD COLUMN failover_consent BOOLEAN NOT NULL DEFAULT FALSE;

ALTER TABLE licence ADD COLUMN created_at        BIGINT NOT NULL DEFAULT 0;
ALTER TABLE licence ADD COLUMN grace_days        BIGINT NOT NULL DEFAULT 14;
ALTER TABLE licence ADD COLUMN in_flight         BIGINT NOT NULL DEFAULT 0;
ALTER TABLE licence ADD COLUMN devices           BIGINT NOT NULL DEFAULT 0;
ALTER TABLE licence ADD COLUMN privacy           TEXT   NOT NULL DEFAULT 'full';
ALTER TABLE licence ADD COLUMN terms_version     TEXT;
ALTER TABLE licence ADD COLUMN terms_accepted_at BIGINT;
ALTER TABLE licence ADD COLUMN terms_accepted_by TEXT;
ALTER TABLE licence ADD COLUMN suspended_at      BIGINT;
ALTER TABLE licence ADD COLUMN suspended_by      TEXT;
ALTER TABLE licence ADD COLUMN suspended_reason  TEXT;
-- What was sold before terms were kept stays in force.
UPDATE licence SET terms_version = 'unrecorded', terms_accepted_at = not_before, terms_accepted_by = 'migration';
UPDATE licence SET suspended_at = 0, suspended_by = 'migration', suspended_reason = 'unrecorded' WHERE suspended;
CREATE INDEX licence_tenant  ON licence (tenant_id);
CREATE INDEX licence_expires ON licence (expires_at) WHERE expires_at IS NOT NULL;

ALTER TABLE licence_key ADD COLUMN pepper        BIGINT NOT NULL DEFAULT 1;
ALTER TABLE licence_key ADD COLUMN ends_at       BIGINT;
ALTER TABLE licence_key ADD COLUMN last_used_day BIGINT;
CREATE INDEX licence_key_licence ON licence_key (licence_id);

-- Servers to which a licence is bound; none: to no server in particular.
CREATE TABLE server (
    licence_id UUID   NOT NULL REFERENCES licence (id),
    server_id  TEXT   NOT NULL,
    bound_at   BIGINT NOT NULL,
    PRIMARY KEY (licence_id, server_id)
);

CREATE INDEX device_first_seen ON device (first_seen);

CREATE TABLE admin_token (
    id            TEXT   PRIMARY KEY,
    name          TEXT   NOT NULL,
    role          TEXT   NOT NULL,
    -- Of a tenant's own token.
    tenant_id     UUID   REFERENCES tenant (id),
    mac           BYTEA  NOT NULL,
    created_at    BIGINT NOT NULL,
    created_by    TEXT   NOT NULL,
    expires_at    BIGINT NOT NULL,
    revoked_at    BIGINT,
    last_used_day BIGINT
);

-- A chain: each event holds the hash of the one before. The head is locked by whoever appends.
CREATE TABLE audit_event (
    seq       BIGINT PRIMARY KEY,
    at        BIGINT NOT NULL,
    actor     TEXT   NOT NULL,
    action    TEXT   NOT NULL,
    object    TEXT   NOT NULL,
    tenant_id UUID,
    detail    TEXT   NOT NULL,
    prev_hash BYTEA  NOT NULL UNIQUE,
    hash      BYTEA  NOT NULL
);
CREATE INDEX audit_event_tenant ON audit_event (tenant_id, seq);
CREATE TABLE audit_head (
    only_row BIGINT PRIMARY KEY CHECK (only_row = 1),
    seq      BIGINT NOT NULL,
    hash     BYTEA  NOT NULL
);
INSERT INTO audit_head (only_row, seq, hash) VALUES (1, 0, '\x');

-- What was created under a caller's own key, so that a request that is sent again creates nothing more.
CREATE TABLE request_key (
    actor       TEXT   NOT NULL,
    key         TEXT   NOT NULL,
    fingerprint BYTEA  NOT NULL,
    object      TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    PRIMARY KEY (actor, key)
);
CREATE INDEX request_key_created ON request_key (created_at);

GRANT SELECT ON server TO hpns_gateway;
GRANT UPDATE (last_used_day) ON licence_key TO hpns_gateway;
GRANT SELECT, INSERT, DELETE ON server, request_key TO hpns_admin;
GRANT SELECT, INSERT, UPDATE ON admin_token TO hpns_admin;
GRANT SELECT, INSERT ON audit_event TO hpns_admin;
GRANT SELECT, UPDATE ON audit_head TO hpns_admin;
