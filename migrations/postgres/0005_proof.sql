-- Under which key an event of the audit log is hashed (0: none, as all were before), and a code over the log's end. An
-- administration of the version before can append nothing any more: what it wrote would bear no code.
ALTER TABLE audit_event ADD COLUMN hash_key BIGINT NOT NULL DEFAULT 0;
ALTER TABLE audit_event ALTER COLUMN hash_key DROP DEFAULT;
ALTER TABLE audit_head ADD COLUMN mac BYTEA NOT NULL DEFAULT '\x';

-- Who is signed in to the console: a hash of what the browser holds. Signing out takes the row away.
CREATE TABLE admin_session (
    id         BYTEA  PRIMARY KEY,
    token_id   TEXT   NOT NULL REFERENCES admin_token (id),
    expires_at BIGINT NOT NULL
);
CREATE INDEX admin_session_token ON admin_session (token_id);

GRANT SELECT, INSERT, DELETE ON admin_session TO hpns_admin;
-- The control keys' check moves on with their rotation.
GRANT UPDATE (key_check) ON revision TO hpns_admin;
