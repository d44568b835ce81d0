-- Closed invoices. Append-only: no statement of the store updates or deletes here. One text for SQLite and PostgreSQL, as in
-- 0001.

CREATE TABLE invoices (
    -- From the counter, in the transaction that closes: without gaps.
    number BIGINT PRIMARY KEY,
    subject TEXT NOT NULL,
    from_ms BIGINT NOT NULL,
    to_ms BIGINT NOT NULL,
    -- ISO 4217.
    currency TEXT NOT NULL,
    total_minor BIGINT NOT NULL,
    -- Whose prices they are.
    policy_version BIGINT NOT NULL,
    closed_ms BIGINT NOT NULL,
    closed_by TEXT NOT NULL,
    -- store::invoices::Content, JSON.
    content TEXT NOT NULL
);
CREATE INDEX invoices_by_subject ON invoices (subject, number);

INSERT INTO counters (name, value) VALUES ('invoices', 0);
