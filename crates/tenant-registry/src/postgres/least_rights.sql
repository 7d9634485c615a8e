-- What each role of the service may do, by column. `hpns migrate --finish` runs it once no process of the version before is
-- left; a new database has it from the start. A REVOKE of a table takes its columns' rights with it, so that comes first.
DROP TRIGGER IF EXISTS device_salt_old ON device_salt;
DROP FUNCTION IF EXISTS hpns_old_salt();
ALTER TABLE tenant DROP COLUMN IF EXISTS device_salt;
ALTER TABLE licence_key DROP COLUMN IF EXISTS last_used_day;
ALTER TABLE licence_key DROP COLUMN IF EXISTS offered;
UPDATE revision SET finished = 9;
REVOKE ALL ON tenant, licence, licence_key, server, revision, device, admin_token, audit_event, audit_head, admin_session,
    request_key, credential_proof, rights_root, rights_bucket, device_salt, service_level, service_level_process, key_use, erasure, erasure_done, _sqlx_migrations FROM hpns_gateway, hpns_worker, hpns_admin;
GRANT SELECT (version, success) ON _sqlx_migrations TO hpns_gateway, hpns_worker, hpns_admin;

GRANT SELECT (number, key_check) ON revision TO hpns_gateway;
GRANT SELECT (id, revision) ON tenant TO hpns_gateway;
GRANT SELECT ON device_salt, rights_root, rights_bucket TO hpns_gateway;
GRANT SELECT (id, tenant_id, plan, regions, rate_per_second, burst, in_flight, devices, privacy, not_before, expires_at,
    grace_days, terms_version, suspended, revision) ON licence TO hpns_gateway;
GRANT SELECT (licence_id, server_id) ON server TO hpns_gateway;
GRANT SELECT (kid, licence_id, mac, pepper, hashed, ends_at, revoked_at, revision) ON licence_key TO hpns_gateway;
GRANT SELECT (kid, last_used_day), INSERT, UPDATE (last_used_day, offered) ON key_use TO hpns_gateway;

GRANT SELECT, INSERT, DELETE ON device TO hpns_worker;
GRANT UPDATE (last_seen, state, reason) ON device TO hpns_worker;
GRANT SELECT, INSERT, DELETE ON credential_proof TO hpns_worker;

GRANT SELECT ON revision, tenant, licence, licence_key, server, device, admin_token, audit_event, audit_head,
    admin_session, request_key, device_salt, rights_root, rights_bucket TO hpns_admin;
GRANT UPDATE (number, key_check) ON revision TO hpns_admin;
GRANT INSERT ON tenant, licence, licence_key TO hpns_admin;
GRANT UPDATE (name, contact, failover_consent, revision) ON tenant TO hpns_admin;
GRANT UPDATE (plan, regions, rate_per_second, burst, in_flight, devices, privacy, not_before, expires_at, grace_days,
    terms_version, terms_accepted_at, terms_accepted_by, suspended, suspended_at, suspended_by, suspended_reason, revision)
    ON licence TO hpns_admin;
GRANT UPDATE (ends_at, revoked_at, revision, mac, pepper, hashed, wrapped) ON licence_key TO hpns_admin;
GRANT SELECT, UPDATE (offered) ON key_use TO hpns_admin;
GRANT SELECT, INSERT ON erasure, erasure_done TO hpns_admin;
GRANT INSERT ON device_salt, rights_root, rights_bucket TO hpns_admin;
GRANT UPDATE (salt) ON device_salt TO hpns_admin;
GRANT UPDATE (revision, hashes, key, signature) ON rights_root TO hpns_admin;
GRANT UPDATE (entries) ON rights_bucket TO hpns_admin;
GRANT INSERT, DELETE ON server, request_key, admin_session TO hpns_admin;
GRANT DELETE ON device TO hpns_admin;
GRANT INSERT ON admin_token TO hpns_admin;
GRANT UPDATE (revoked_at, last_used_day) ON admin_token TO hpns_admin;
GRANT INSERT ON audit_event TO hpns_admin;
GRANT UPDATE (seq, hash, mac) ON audit_head TO hpns_admin;

GRANT SELECT, INSERT ON service_level, service_level_process TO hpns_gateway;
GRANT UPDATE (tally) ON service_level TO hpns_gateway;
GRANT UPDATE (flushed, ended) ON service_level_process TO hpns_gateway;
GRANT SELECT, INSERT, DELETE ON service_level TO hpns_admin;
GRANT SELECT, DELETE ON service_level_process TO hpns_admin;
