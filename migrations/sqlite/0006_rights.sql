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

-- What makes a tenant's devices unlinkable stands in a file of its own, which is left out of backups.
INSERT OR IGNORE INTO device_salt (tenant_id, salt) SELECT id, device_salt FROM tenant;
ALTER TABLE tenant DROP COLUMN device_salt;
