-- What happens to subscriptions by itself, and what is given besides. One text for SQLite and PostgreSQL, as in 0001.

-- policy::subscription::Grant[], JSON, the first to expire first.
ALTER TABLE subjects ADD COLUMN grants TEXT NOT NULL DEFAULT '[]';

-- When something next happens to the subscription by itself: what happened is then written into it. The tier in force
-- never waits for that. Null: never. What was there before is looked at once.
ALTER TABLE subjects ADD COLUMN next_moment_ms BIGINT;
UPDATE subjects SET next_moment_ms = 0 WHERE subscription IS NOT NULL;
CREATE INDEX subjects_by_moment ON subjects (next_moment_ms) WHERE next_moment_ms IS NOT NULL;
