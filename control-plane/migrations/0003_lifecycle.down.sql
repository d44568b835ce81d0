-- Lost: grants.
DROP INDEX subjects_by_moment;
ALTER TABLE subjects DROP COLUMN next_moment_ms;
ALTER TABLE subjects DROP COLUMN grants;
