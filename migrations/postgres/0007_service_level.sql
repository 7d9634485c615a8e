-- What became of pushes, by hour: written by gateways, read by operators. A process overwrites its own rows of the hour
-- until the hour is over; the admin role then makes one row of those of all processes (named =…), and days of hours that
-- are older than 45 days.
CREATE TABLE service_level (
    tenant_id UUID     NOT NULL,
    hour      BIGINT   NOT NULL,
    span      SMALLINT NOT NULL,
    provider  TEXT     NOT NULL,
    class     TEXT     NOT NULL,
    process   TEXT     NOT NULL,
    tally     BYTEA    NOT NULL,
    PRIMARY KEY (tenant_id, hour, span, provider, class, process)
);
CREATE INDEX service_level_hour ON service_level (span, hour);

-- Until when each process has told what it counted: what came after that and before its end is not known.
CREATE TABLE service_level_process (
    process TEXT   NOT NULL PRIMARY KEY,
    region  TEXT   NOT NULL,
    began   BIGINT NOT NULL,
    flushed BIGINT NOT NULL,
    ended   BIGINT
);

GRANT SELECT, INSERT ON service_level, service_level_process TO hpns_gateway;
GRANT UPDATE (tally) ON service_level TO hpns_gateway;
GRANT UPDATE (flushed, ended) ON service_level_process TO hpns_gateway;
GRANT SELECT, INSERT, DELETE ON service_level TO hpns_admin;
GRANT SELECT, DELETE ON service_level_process TO hpns_admin;
