-- One text for SQLite and PostgreSQL: BIGINT and TEXT only, numbers of rows and versions from `counters`.

-- The next number of each sequence. Taken in the transaction that uses it, so that numbers have no gaps and a higher
-- number never commits before a lower one.
CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counters (name, value) VALUES ('changes', 0), ('changes_pruned', 0), ('configuration', 0), ('policies', 0), ('audit', 0);

-- Everything that one subject owns, in one row: one lock, one read, one write for each subject of a sync.
CREATE TABLE subjects (
    subject TEXT PRIMARY KEY,
    -- policy::lease::Book, JSON.
    book TEXT NOT NULL DEFAULT '{"accounts":[]}',
    -- The tier that the subject's verified token last claimed.
    tier_claim TEXT,
    -- policy::subscription::Subscription, JSON; the two columns after it repeat what lists select by.
    subscription TEXT,
    subscription_tier TEXT,
    subscription_state TEXT,
    -- Rises with each change of the subscription, also with its deletion.
    subscription_revision BIGINT NOT NULL DEFAULT 0,
    updated_ms BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX subjects_by_tier ON subjects (subscription_tier, subject) WHERE subscription IS NOT NULL;
CREATE INDEX subjects_by_state ON subjects (subscription_state, subject) WHERE subscription IS NOT NULL;

-- An edge's memory. Never deleted: a book may still hold units of a session that was closed long ago.
CREATE TABLE edge_sessions (
    session TEXT PRIMARY KEY,
    opened_ms BIGINT NOT NULL,
    -- Changes up to this one were committed before the session opened.
    opened_seq BIGINT NOT NULL,
    heard_ms BIGINT NOT NULL,
    -- Rises with each sync, so that silence can be seen without comparing clocks.
    beats BIGINT NOT NULL,
    closed_ms BIGINT,
    remote TEXT NOT NULL
);
CREATE INDEX edge_sessions_open ON edge_sessions (session) WHERE closed_ms IS NULL;

-- The ledger: what each session reported, merged by max.
CREATE TABLE usage (
    subject TEXT NOT NULL,
    meter TEXT NOT NULL,
    hour_ms BIGINT NOT NULL,
    session TEXT NOT NULL,
    taken BIGINT NOT NULL,
    freed BIGINT NOT NULL,
    PRIMARY KEY (subject, meter, hour_ms, session)
);

-- Every policy that was ever in force; the one in force is named by `configuration`.
CREATE TABLE policies (
    version BIGINT PRIMARY KEY,
    -- policy::document::PolicyDocument, JSON.
    document TEXT NOT NULL,
    -- As its author wrote it.
    source TEXT NOT NULL,
    note TEXT,
    created_ms BIGINT NOT NULL,
    created_by TEXT NOT NULL
);

-- One row. Its revision is the counter of that name.
CREATE TABLE configuration (
    id BIGINT PRIMARY KEY,
    policy_version BIGINT REFERENCES policies (version)
);
INSERT INTO configuration (id, policy_version) VALUES (1, NULL);

-- The last good keys of each issuer that publishes them at an address.
CREATE TABLE issuer_keys (
    issuer TEXT PRIMARY KEY,
    url TEXT NOT NULL,
    jwks TEXT,
    fetched_ms BIGINT,
    -- When the next fetch is due, and when the last one was begun: replicas share the work by these.
    due_ms BIGINT NOT NULL,
    tried_ms BIGINT NOT NULL
);

-- What edges must be told: a subject whose subscription changed or whose units are recalled, for one session.
CREATE TABLE changes (
    seq BIGINT PRIMARY KEY,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    session TEXT NOT NULL,
    created_ms BIGINT NOT NULL
);
CREATE INDEX changes_by_age ON changes (created_ms);

-- Append-only: no statement of the store updates or deletes here.
CREATE TABLE audit (
    id BIGINT PRIMARY KEY,
    at_ms BIGINT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    before TEXT,
    after TEXT,
    remote TEXT NOT NULL
);

CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    -- SHA-256 of the whole token, hex.
    hash TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    revoked_ms BIGINT
);
