-- Licences and device metadata, and nothing else. No column can hold content, a token or a key.

CREATE TABLE revision (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    number   INTEGER NOT NULL,
    -- Proves that a key file belongs to this registry; written at the first start.
    key_check BLOB
) STRICT;
INSERT INTO revision (only_row, number) VALUES (1, 1);

CREATE TABLE tenant (
    id          BLOB    PRIMARY KEY,
    name        TEXT    NOT NULL UNIQUE,
    device_salt BLOB    NOT NULL,
    created_at  INTEGER NOT NULL
) STRICT;

CREATE TABLE licence (
    id              BLOB    PRIMARY KEY,
    tenant_id       BLOB    NOT NULL REFERENCES tenant (id),
    plan            TEXT    NOT NULL,
    regions         TEXT    NOT NULL,
    rate_per_second INTEGER NOT NULL,
    burst           INTEGER NOT NULL,
    not_before      INTEGER NOT NULL,
    expires_at      INTEGER,
    suspended       INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE licence_key (
    kid        TEXT    PRIMARY KEY,
    licence_id BLOB    NOT NULL REFERENCES licence (id),
    mac        BLOB    NOT NULL,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;

CREATE TABLE device (
    tenant_id  BLOB    NOT NULL,
    id         BLOB    NOT NULL,
    app        TEXT    NOT NULL,
    platform   TEXT    NOT NULL,
    first_seen INTEGER NOT NULL,
    last_seen  INTEGER NOT NULL,
    state      TEXT    NOT NULL,
    reason     TEXT,
    PRIMARY KEY (tenant_id, id)
) STRICT, WITHOUT ROWID;
