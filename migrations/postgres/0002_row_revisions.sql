-- Each row names the change that it came with, so that a gateway reads what is new and nothing else.

ALTER TABLE tenant      ADD COLUMN revision BIGINT NOT NULL DEFAULT 1;
ALTER TABLE licence     ADD COLUMN revision BIGINT NOT NULL DEFAULT 1;
ALTER TABLE licence_key ADD COLUMN revision BIGINT NOT NULL DEFAULT 1;
CREATE INDEX tenant_revision      ON tenant (revision);
CREATE INDEX licence_revision     ON licence (revision);
CREATE INDEX licence_key_revision ON licence_key (revision);

-- What is forgotten in time is found by its day.
CREATE INDEX device_last_seen ON device (last_seen);
CREATE INDEX device_removed   ON device (last_seen) WHERE state = 'removed';

-- What each role of the service may do, and no more. A login of each process is made a member of one of these:
--   CREATE ROLE gateway_us LOGIN PASSWORD '…' IN ROLE hpns_gateway;
DO $$
DECLARE
    role TEXT;
BEGIN
    FOREACH role IN ARRAY ARRAY['hpns_gateway', 'hpns_worker', 'hpns_admin'] LOOP
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
                EXECUTE format('CREATE ROLE %I NOLOGIN', role);
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL; -- Another database of this server was faster.
        END;
    END LOOP;
END $$;

GRANT SELECT ON _sqlx_migrations, revision TO hpns_gateway, hpns_worker, hpns_admin;
GRANT SELECT ON tenant, licence, licence_key TO hpns_gateway;
GRANT SELECT, INSERT, UPDATE, DELETE ON device TO hpns_worker;
GRANT SELECT, INSERT, UPDATE ON tenant, licence, licence_key TO hpns_admin;
GRANT UPDATE (number) ON revision TO hpns_admin;
GRANT SELECT, DELETE ON device TO hpns_admin;
