-- What edges refused, for people: sums that each reporter counted, merged by max. One text for SQLite and PostgreSQL, as
-- in 0001.

CREATE TABLE denials (
    -- Empty where there was none, or where too many were refused to tell them apart.
    subject TEXT NOT NULL,
    -- Start of the hour, Unix ms.
    hour_ms BIGINT NOT NULL,
    -- Such as quota-exceeded.
    code TEXT NOT NULL,
    -- The limit that refused, or empty.
    limit_name TEXT NOT NULL,
    -- The route's name, or empty where none was known yet.
    route TEXT NOT NULL,
    -- Who counted: an edge's worker, under another name whenever its memory was lost.
    reporter TEXT NOT NULL,
    count BIGINT NOT NULL,
    PRIMARY KEY (subject, hour_ms, code, limit_name, route, reporter)
);
-- All that analytics read, so that they need not look at the rows.
CREATE INDEX denials_by_hour ON denials (hour_ms, limit_name, code, route, subject, count);
