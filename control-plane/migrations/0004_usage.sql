-- The ledger: what was used, by subject, hour, meter and labels. One text for SQLite and PostgreSQL, as in 0001.
-- The subject and the time come first in each key: a subject's month lies together.

-- Hours, as each session reported them, merged by max. What a program records and what is corrected stands under the
-- sessions `recorded` and `corrected`, where it is added up.
CREATE TABLE usage_hours (
    subject TEXT NOT NULL,
    hour_ms BIGINT NOT NULL,
    meter TEXT NOT NULL,
    -- policy::labels: name=value&name=value, or empty.
    labels TEXT NOT NULL,
    session TEXT NOT NULL,
    taken BIGINT NOT NULL,
    freed BIGINT NOT NULL,
    PRIMARY KEY (subject, hour_ms, meter, labels, session)
);
INSERT INTO usage_hours (subject, hour_ms, meter, labels, session, taken, freed)
    SELECT subject, hour_ms, meter, '', session, taken, freed FROM usage;
DROP TABLE usage;
-- What is to be folded into days, and what is to be sent elsewhere.
CREATE INDEX usage_hours_by_hour ON usage_hours (hour_ms, subject);

-- Days of UTC that were hours once. What the session reported of each hour is kept packed, so that a late or repeated
-- report still counts once, and a period that begins within the day is exact.
CREATE TABLE usage_days (
    subject TEXT NOT NULL,
    day_ms BIGINT NOT NULL,
    meter TEXT NOT NULL,
    labels TEXT NOT NULL,
    session TEXT NOT NULL,
    taken BIGINT NOT NULL,
    freed BIGINT NOT NULL,
    -- [[hour of the day, taken, freed], …], JSON.
    hours TEXT NOT NULL,
    PRIMARY KEY (subject, day_ms, meter, labels, session)
);
CREATE INDEX usage_days_by_day ON usage_days (day_ms, subject);

-- Months of UTC that were days once. Never deleted.
CREATE TABLE usage_months (
    subject TEXT NOT NULL,
    month_ms BIGINT NOT NULL,
    meter TEXT NOT NULL,
    labels TEXT NOT NULL,
    taken BIGINT NOT NULL,
    freed BIGINT NOT NULL,
    PRIMARY KEY (subject, month_ms, meter, labels)
);

-- Keys of what programs recorded, as long as the same could still be recorded again.
CREATE TABLE usage_recorded (
    source TEXT NOT NULL,
    key TEXT NOT NULL,
    subject TEXT NOT NULL,
    meter TEXT NOT NULL,
    labels TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    units BIGINT NOT NULL,
    PRIMARY KEY (source, key)
);
CREATE INDEX usage_recorded_by_age ON usage_recorded (at_ms);

-- Append-only: no statement of the store updates or deletes here.
CREATE TABLE usage_corrections (
    id BIGINT PRIMARY KEY,
    -- The caller's own, so that a repeated request corrects once.
    key TEXT,
    subject TEXT NOT NULL,
    meter TEXT NOT NULL,
    labels TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    -- Negative: so much less was used.
    units BIGINT NOT NULL,
    reason TEXT NOT NULL,
    actor TEXT NOT NULL,
    created_ms BIGINT NOT NULL
);
CREATE UNIQUE INDEX usage_corrections_by_key ON usage_corrections (subject, key);
CREATE INDEX usage_corrections_by_subject ON usage_corrections (subject, id);

-- Up to where usage was sent elsewhere. One row.
CREATE TABLE usage_sink (
    id BIGINT PRIMARY KEY,
    -- The hour that is being sent, and the last subject of it that was.
    hour_ms BIGINT NOT NULL,
    subject TEXT NOT NULL,
    -- Which replica sends, and when it last said so.
    holder TEXT NOT NULL,
    held_ms BIGINT NOT NULL
);
INSERT INTO usage_sink (id, hour_ms, subject, holder, held_ms) VALUES (1, 0, '', '', 0);

-- What changed after it was sent, and so is to be sent again.
CREATE TABLE usage_resend (
    subject TEXT NOT NULL,
    hour_ms BIGINT NOT NULL,
    -- Rises with each change, so that one that comes while the last is being sent is not forgotten.
    changes BIGINT NOT NULL,
    PRIMARY KEY (subject, hour_ms)
);

-- Hours before `usage_hours_from` are days, days before `usage_days_from` are months; hours before `usage_sent` are to be
-- sent again when they change. They only rise.
INSERT INTO counters (name, value) VALUES
    ('usage_hours_from', 0), ('usage_days_from', 0), ('usage_sent', 0), ('usage_corrections', 0);
