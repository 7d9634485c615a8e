-- Under which credentials a provider has accepted a push to an app: before that, a token that it calls bad may be a good
-- one of another environment.
CREATE TABLE credential_proof (
    app         TEXT    NOT NULL,
    fingerprint TEXT    NOT NULL,
    proven_day  INTEGER NOT NULL,
    PRIMARY KEY (app, fingerprint)
) STRICT;
