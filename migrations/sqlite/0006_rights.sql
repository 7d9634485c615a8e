-- What grants anything is signed: a licence, a key or an operators' token counts only as the one who sells it wrote it.
CREATE TABLE rights_root (
    kind      TEXT    PRIMARY KEY,
    revision  INTEGER NOT NULL,
    hashes    BLOB    NOT NULL,
    key       INTEGER NOT NULL,
    signature BLOB    NOT NULL
) STRICT;
CREATE TABLE rights_bucket (
    kind    TEXT    NOT NULL,
    number  INTEGER NOT NULL,
    entries BLOB    NOT NULL,
    PRIMARY KEY (kind, number)
) STRICT;

ALTER TABLE licence_key ADD COLUMN hashed  INTEGER NOT NULL DEFAULT 0;
ALTER TABLE licence_key ADD COLUMN wrapped BLOB;
ALTER TABLE licence_key ADD COLUMN offered BLOB;

ALTER TABLE revision ADD COLUMN finished INTEGER NOT NULL DEFAULT 6;
ALTER TABLE audit_event ADD COLUMN rights BLOB NOT NULL DEFAULT x'';

-- What makes a tenant's devices unlinkable stands in a file of its own by now, which is left out of backups.
ALTER TABLE tenant DROP COLUMN device_salt;
