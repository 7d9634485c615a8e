-- Under which key an event of the audit log is hashed (0: none, as all were before), and a code over the log's end.
ALTER TABLE audit_event ADD COLUMN hash_key INTEGER NOT NULL DEFAULT 0;
ALTER TABLE audit_head ADD COLUMN mac BLOB NOT NULL DEFAULT x'';

-- Who is signed in to the console: a hash of what the browser holds. Signing out takes the row away.
CREATE TABLE admin_session (
    id         BLOB    PRIMARY KEY,
    token_id   TEXT    NOT NULL REFERENCES admin_token (id),
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX admin_session_token ON admin_session (token_id);
