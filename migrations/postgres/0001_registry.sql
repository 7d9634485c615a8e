-- Licences and device metadata, and nothing else. No column can hold content, a token or a key.

CREATE TABLE revision (
    only_row  BIGINT PRIMARY KEY CHECK (only_row = 1),
    number    BIGINT NOT NULL,
    -- Proves that a key file belongs to this registry; written by the first migration run.
    key_check BYTEA
);
INSERT INTO revision (only_row, number) VALUES (1, 1);

CREATE TABLE tenant (
    id          UUID   PRIMARY KEY,
    name        TEXT   NOT NULL UNIQUE,
    device_salt BYTEA  NOT NULL,
    created_at  BIGINT NOT NULL
);

CREATE TABLE licence (
    id              UUID    PRIMARY KEY,
    tenant_id       UUID    NOT NULL REFERENCES tenant (id),
    plan            TEXT    NOT NULL,
    regions         TEXT    NOT NULL,
    rate_per_second BIGINT  NOT NULL,
    burst           BIGINT  NOT NULL,
    not_before      BIGINT  NOT NULL,
    expires_at      BIGINT,
    suspended       BOOLEAN NOT NULL DEFAULT FALSE
);

CREATE TABLE licence_key (
    kid        TEXT   PRIMARY KEY,
    licence_id UUID   NOT NULL REFERENCES licence (id),
    mac        BYTEA  NOT NULL,
    created_at BIGINT NOT NULL,
    revoked_at BIGINT
);

CREATE TABLE device (
    tenant_id  UUID   NOT NULL,
    id         BYTEA  NOT NULL,
    app        TEXT   NOT NULL,
    platform   TEXT   NOT NULL,
    first_seen BIGINT NOT NULL,
    last_seen  BIGINT NOT NULL,
    state      TEXT   NOT NULL,
    reason     TEXT,
    PRIMARY KEY (tenant_id, id)
);
