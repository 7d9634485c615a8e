-- Hours that are not put together yet are few, and found among those that are.
CREATE INDEX service_level_unmerged ON service_level (hour, tenant_id) WHERE span = 1 AND substr(process, 1, 1) <> '=';
