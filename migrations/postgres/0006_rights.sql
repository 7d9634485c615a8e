-- What grants anything is signed: a licence, a key or an operators' token counts only as the one who sells it wrote it.
-- A bucket holds the hash of each row that falls into it, a root the hashes of all buckets, and a signature.
CREATE TABLE rights_root (
    kind      TEXT   PRIMARY KEY,
    revision  BIGINT NOT NULL,
    hashes    BYTEA  NOT NULL,
    key       BIGINT NOT NULL,
    signature BYTEA  NOT NULL
);
CREATE TABLE rights_bucket (
    kind    TEXT   NOT NULL,
    number  BIGINT NOT NULL,
    entries BYTEA  NOT NULL,
    PRIMARY KEY (kind, number)
);

-- Whether the code of a key is one over its SHA-256; that hash under a key that gateways lack, so that a newer pepper needs
-- no new licence keys; and what a gateway, which sees keys, offers in its place for one of before.
ALTER TABLE licence_key ADD COLUMN hashed  BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE licence_key ADD COLUMN wrapped BYTEA;
ALTER TABLE licence_key ADD COLUMN offered BYTEA;
CREATE INDEX licence_key_offered ON licence_key (kid) WHERE offered IS NOT NULL;

-- What makes a tenant's devices unlinkable stands apart: it is left out of backups, so that no backup knows a device.
CREATE TABLE device_salt (
    tenant_id UUID  PRIMARY KEY REFERENCES tenant (id),
    salt      BYTEA NOT NULL
);
INSERT INTO device_salt (tenant_id, salt) SELECT id, device_salt FROM tenant;
-- The version before reads the column until `hpns migrate --finish` drops it, and this with it.
CREATE FUNCTION hpns_old_salt() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    UPDATE tenant SET device_salt = NEW.salt WHERE id = NEW.tenant_id;
    RETURN NEW;
END $$;
CREATE TRIGGER device_salt_old AFTER INSERT OR UPDATE ON device_salt FOR EACH ROW EXECUTE FUNCTION hpns_old_salt();
ALTER TABLE tenant ALTER COLUMN device_salt SET DEFAULT decode(repeat('00', 32), 'hex');

-- The last version whose migration was finished: what that version alone can read is written from then on.
ALTER TABLE revision ADD COLUMN finished BIGINT NOT NULL DEFAULT 0;

-- What each event found signed, so that neither goes back without the other. The administration of the version before,
-- which signs nothing, can append nothing any more.
ALTER TABLE audit_event ADD COLUMN rights BYTEA NOT NULL DEFAULT '\x';
ALTER TABLE audit_event ALTER COLUMN rights DROP DEFAULT;

-- The oldest events go in time, and no younger ones: whoever has the administration's login cannot shorten the log.
CREATE FUNCTION hpns_cut_audit(through BIGINT) RETURNS BIGINT LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp AS $$
DECLARE
    cut BIGINT;
BEGIN
    IF (SELECT max(at) FROM audit_event WHERE seq <= through)
        > (extract(epoch FROM now()) * 1000)::BIGINT - 30 * 86400000::BIGINT THEN
        RAISE EXCEPTION 'events of the last 30 days stay' USING ERRCODE = '42501';
    END IF;
    DELETE FROM audit_event WHERE seq <= through AND seq < (SELECT max(seq) FROM audit_event);
    GET DIAGNOSTICS cut = ROW_COUNT;
    RETURN cut;
END $$;
REVOKE ALL ON FUNCTION hpns_cut_audit(BIGINT) FROM PUBLIC;

GRANT SELECT ON rights_root, rights_bucket TO hpns_gateway;
GRANT SELECT, INSERT, UPDATE ON rights_root, rights_bucket TO hpns_admin;
GRANT SELECT (hashed) ON licence_key TO hpns_gateway;
GRANT UPDATE (offered) ON licence_key TO hpns_gateway;
GRANT UPDATE (mac, pepper, hashed, wrapped, offered) ON licence_key TO hpns_admin;
GRANT SELECT ON device_salt TO hpns_gateway;
GRANT SELECT, INSERT, UPDATE ON device_salt TO hpns_admin;
GRANT EXECUTE ON FUNCTION hpns_cut_audit(BIGINT) TO hpns_admin;
