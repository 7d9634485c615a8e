-- What became of pushes, by hour: written by gateways, read by operators. A process overwrites its own rows of the hour
-- until the hour is over; the admin role then makes one row of those of all processes (named =…), and days of hours that
-- are older than 45 days.
CREATE TABLE service_level (
    tenant_id BLOB    NOT NULL,
    hour      INTEGER NOT NULL,
    span      INTEGER NOT NULL,
    provider  TEXT    NOT NULL,
    class     TEXT    NOT NULL,
    process   TEXT    NOT NULL,
    tally     BLOB    NOT NULL,
    PRIMARY KEY (tenant_id, hour, span, provider, class, process)
) STRICT, WITHOUT ROWID;
CREATE INDEX service_level_hour ON service_level (span, hour);

-- Until when each process has told what it counted: what came after that and before its end is not known.
CREATE TABLE service_level_process (
    process TEXT    NOT NULL PRIMARY KEY,
    region  TEXT    NOT NULL,
    began   INTEGER NOT NULL,
    flushed INTEGER NOT NULL,
    ended   INTEGER
) STRICT;
