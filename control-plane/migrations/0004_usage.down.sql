-- Lost: labels, which sessions hours and days are of once they were folded, corrections apart from what they came to, and
-- the keys of what was recorded. Totals stay: days and months become their first hour.
CREATE TABLE usage (
    subject TEXT NOT NULL,
    meter TEXT NOT NULL,
    hour_ms BIGINT NOT NULL,
    session TEXT NOT NULL,
    taken BIGINT NOT NULL,
    freed BIGINT NOT NULL,
    PRIMARY KEY (subject, meter, hour_ms, session)
);
INSERT INTO usage (subject, meter, hour_ms, session, taken, freed)
    SELECT subject, meter, hour_ms, session, CAST(SUM(taken) AS BIGINT), CAST(SUM(freed) AS BIGINT) FROM (
        SELECT subject, meter, hour_ms, session, taken, freed FROM usage_hours
        UNION ALL SELECT subject, meter, day_ms, session, taken, freed FROM usage_days
        UNION ALL SELECT subject, meter, month_ms, 'folded', taken, freed FROM usage_months
    ) AS all_usage
    GROUP BY subject, meter, hour_ms, session;
DROP TABLE usage_resend;
DROP TABLE usage_sink;
DROP TABLE usage_corrections;
DROP TABLE usage_recorded;
DROP TABLE usage_months;
DROP TABLE usage_days;
DROP TABLE usage_hours;
DELETE FROM counters WHERE name IN ('usage_hours_from', 'usage_days_from', 'usage_sent', 'usage_corrections');
