-- What a subject had before it moved here, such as a balance of credits. One text for SQLite and PostgreSQL, as in 0001.
CREATE TABLE archives (
    subject TEXT NOT NULL,
    -- Such as `credit_balance`.
    kind TEXT NOT NULL,
    -- Any JSON.
    data TEXT NOT NULL,
    archived_ms BIGINT NOT NULL,
    archived_by TEXT NOT NULL,
    -- When it was given back to whoever asked for it, and to whom: once.
    restored_ms BIGINT,
    restored_by TEXT,
    PRIMARY KEY (subject, kind)
);
CREATE INDEX archives_by_kind ON archives (kind, subject);
