-- What the further kinds of limit need. One text for SQLite and PostgreSQL, as in 0001.

-- Testing mode: until when a subject's limits and features are not looked at, and who said so. JSON.
ALTER TABLE subjects ADD COLUMN bypass TEXT;

-- Open sessions that were told what the subject is entitled to, JSON: whom a change must be told. A session that holds
-- no units of the subject is in no book.
ALTER TABLE subjects ADD COLUMN sessions TEXT NOT NULL DEFAULT '[]';

-- Things that exist of a capacity and have an id: what is there is counted once, and released once.
CREATE TABLE things (
    subject TEXT NOT NULL,
    meter TEXT NOT NULL,
    -- policy::thing::ThingId: a hash, 32 hex digits.
    id TEXT NOT NULL,
    units BIGINT NOT NULL,
    PRIMARY KEY (subject, meter, id)
);

-- Up to which event of things each session was heard. Never deleted: a message of a session that was closed long ago may
-- still be repeated.
CREATE TABLE things_heard (
    subject TEXT NOT NULL,
    session TEXT NOT NULL,
    seq BIGINT NOT NULL,
    PRIMARY KEY (subject, session)
);
