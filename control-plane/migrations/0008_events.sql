-- Events out: what happened, to whom it is told, and how telling it went. One text for SQLite and PostgreSQL, as in 0001.

-- Where events are told.
CREATE TABLE event_endpoints (
    id TEXT PRIMARY KEY,
    url TEXT NOT NULL,
    description TEXT,
    -- Types that are told, JSON; none: all.
    types TEXT NOT NULL,
    -- What is signed with, JSON: the newest first, older ones until they expire.
    secrets TEXT NOT NULL,
    -- Since when nothing is told any more, and why. An operator undoes both.
    disabled_ms BIGINT,
    disabled_because TEXT,
    -- Since when nothing has arrived though it was tried.
    failing_ms BIGINT,
    created_ms BIGINT NOT NULL,
    created_by TEXT NOT NULL
);

-- What happened and was to be told to anyone.
CREATE TABLE events (
    -- evt_, the moment in hex digits, a hash: in the order of time.
    id TEXT PRIMARY KEY,
    type TEXT NOT NULL,
    subject TEXT,
    -- What makes it the same event: told once.
    once TEXT NOT NULL UNIQUE,
    -- Until then it may happen again and must be known.
    keep_until_ms BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    -- The body as it is signed and sent.
    body TEXT NOT NULL
);
CREATE INDEX events_by_subject ON events (subject, id) WHERE subject IS NOT NULL;

-- One for each event and endpoint.
CREATE TABLE event_deliveries (
    event TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    -- pending, delivered, given_up
    state TEXT NOT NULL,
    -- All attempts, and those since it was last begun anew.
    attempts BIGINT NOT NULL DEFAULT 0,
    tries BIGINT NOT NULL DEFAULT 0,
    -- When it is due. Whoever attempts it puts it off first, so that replicas share the work and a killed one's is found.
    next_ms BIGINT NOT NULL,
    PRIMARY KEY (event, endpoint)
);
CREATE INDEX event_deliveries_due ON event_deliveries (endpoint, next_ms) WHERE state = 'pending';
CREATE INDEX event_deliveries_by_endpoint ON event_deliveries (endpoint, event);

-- The log of attempts.
CREATE TABLE event_attempts (
    event TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    attempt BIGINT NOT NULL,
    at_ms BIGINT NOT NULL,
    took_ms BIGINT NOT NULL,
    -- What was answered, or why nothing was.
    status BIGINT,
    error TEXT,
    PRIMARY KEY (event, endpoint, attempt)
);
