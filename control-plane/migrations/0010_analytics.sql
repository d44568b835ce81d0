-- What subscriptions were, and what became of them by day. One text for SQLite and PostgreSQL, as in 0001.

-- What a subject's subscription became, with each write of it, in the same transaction. Rows are added and never touched
-- again.
CREATE TABLE subscription_history (
    subject TEXT NOT NULL,
    -- From 1 on.
    seq BIGINT NOT NULL,
    -- Never less than that of the row before, whatever the clock did.
    at_ms BIGINT NOT NULL,
    -- policy::subscription::Subscription, JSON; nothing: it was deleted.
    subscription TEXT,
    -- What held at `at_ms`: the tier, and policy::subscription::EffectiveState; nothing where there was no subscription.
    tier TEXT,
    state TEXT,
    PRIMARY KEY (subject, seq)
);

-- What was bought before there was a history: known since its row was last written.
INSERT INTO subscription_history (subject, seq, at_ms, subscription, tier, state)
SELECT subject, 1, updated_ms, subscription, subscription_tier, subscription_state
FROM subjects WHERE subscription IS NOT NULL;

-- How many subscriptions went from one tier and state to another in a UTC day: at the moment when it held, not when it was
-- written. `''`: no subscription. What there is at the end of a day is the sum of all moves until then.
CREATE TABLE subscription_moves (
    day_ms BIGINT NOT NULL,
    from_tier TEXT NOT NULL,
    from_state TEXT NOT NULL,
    to_tier TEXT NOT NULL,
    to_state TEXT NOT NULL,
    count BIGINT NOT NULL,
    PRIMARY KEY (day_ms, from_tier, from_state, to_tier, to_state)
);
INSERT INTO subscription_moves (day_ms, from_tier, from_state, to_tier, to_state, count)
SELECT at_ms - at_ms % 86400000, '', '', tier, state, COUNT(*)
FROM subscription_history GROUP BY at_ms - at_ms % 86400000, tier, state;

-- Who used most of a meter in a day or month of UTC, worked out now and then from the ledger.
CREATE TABLE usage_tops (
    -- `day` or `month`.
    period TEXT NOT NULL,
    start_ms BIGINT NOT NULL,
    meter TEXT NOT NULL,
    -- From 1 on.
    place BIGINT NOT NULL,
    subject TEXT NOT NULL,
    used BIGINT NOT NULL,
    PRIMARY KEY (period, start_ms, meter, place)
);
-- When that was, and how many subjects used anything at all.
CREATE TABLE usage_tops_made (
    period TEXT NOT NULL,
    start_ms BIGINT NOT NULL,
    made_ms BIGINT NOT NULL,
    subjects BIGINT NOT NULL,
    PRIMARY KEY (period, start_ms)
);

-- By what the audit log is looked through.
CREATE INDEX audit_by_target ON audit (target, id);
CREATE INDEX audit_by_actor ON audit (actor, id);
CREATE INDEX audit_by_action ON audit (action, id);
CREATE INDEX audit_by_time ON audit (at_ms);
CREATE INDEX invoices_by_time ON invoices (closed_ms);
CREATE INDEX payment_orders_by_time ON payment_orders (paid_ms) WHERE paid_ms IS NOT NULL;

-- What subscriptions brought in for each month, as they were at the end of a day of UTC, or at last of today.
CREATE TABLE recurring_days (
    day_ms BIGINT NOT NULL,
    tier TEXT NOT NULL,
    -- Which version of the tier; the last is the newest.
    version BIGINT NOT NULL,
    -- ISO 4217, or empty where nothing costs anything.
    currency TEXT NOT NULL,
    subscriptions BIGINT NOT NULL,
    -- Flat prices for one month in minor units; of a year a twelfth.
    month_minor BIGINT NOT NULL,
    PRIMARY KEY (day_ms, tier, version, currency)
);
