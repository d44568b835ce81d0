-- What payment providers tell, and what that comes to. One text for SQLite and PostgreSQL, as in 0001.

INSERT INTO counters (name, value) VALUES ('webhooks', 0);

-- Every webhook that was signed, stored before it was answered. Never deleted: a provider may repeat one after days.
CREATE TABLE webhook_inbox (
    id BIGINT PRIMARY KEY,
    provider TEXT NOT NULL,
    -- The provider's id of the event; where it has none, the hash of the body.
    event_id TEXT NOT NULL,
    -- SHA-256 of what the event says, hex: an id that comes again and says something else is kept apart.
    hash TEXT NOT NULL,
    -- Such as customer.subscription.updated.
    kind TEXT NOT NULL,
    -- Whom the provider charges: what is known of one account is looked at together.
    account TEXT,
    -- The provider's subscription, or the order.
    reference TEXT,
    -- When it happened, as the provider says, Unix ms.
    at_ms BIGINT NOT NULL,
    received_ms BIGINT NOT NULL,
    -- How often it came.
    deliveries BIGINT NOT NULL,
    -- pending, done, ignored, unlinked, failed or conflict.
    state TEXT NOT NULL,
    attempts BIGINT NOT NULL DEFAULT 0,
    -- When a pending one is tried next, Unix ms.
    next_ms BIGINT NOT NULL,
    error TEXT,
    -- Whom it was found to be about.
    subject TEXT,
    -- service::payments::Fact, JSON: what of it matters. Null: nothing.
    fact TEXT,
    payload TEXT NOT NULL
);
CREATE UNIQUE INDEX webhook_inbox_by_event ON webhook_inbox (provider, event_id, hash);
CREATE INDEX webhook_inbox_by_account ON webhook_inbox (provider, account, at_ms);
CREATE INDEX webhook_inbox_due ON webhook_inbox (next_ms, id) WHERE state = 'pending';
CREATE INDEX webhook_inbox_by_state ON webhook_inbox (state, id);

-- One row for each account, to lock: two webhooks of one account are looked at one after the other.
CREATE TABLE payment_accounts (
    provider TEXT NOT NULL,
    account TEXT NOT NULL,
    PRIMARY KEY (provider, account)
);

-- Whose an account (reference '') or one subscription of it is, where an operator said so.
CREATE TABLE payment_links (
    provider TEXT NOT NULL,
    account TEXT NOT NULL,
    reference TEXT NOT NULL,
    subject TEXT NOT NULL,
    PRIMARY KEY (provider, account, reference)
);

-- What is known of each subscription at a provider, worked out from all of its events.
CREATE TABLE payment_snapshots (
    provider TEXT NOT NULL,
    reference TEXT NOT NULL,
    account TEXT NOT NULL,
    subject TEXT,
    -- policy::subscription::Subscription, JSON.
    outcome TEXT NOT NULL,
    PRIMARY KEY (provider, reference)
);
CREATE INDEX payment_snapshots_by_account ON payment_snapshots (provider, account);
CREATE INDEX payment_snapshots_by_subject ON payment_snapshots (subject) WHERE subject IS NOT NULL;

-- What was ordered with providers that take single payments.
CREATE TABLE payment_orders (
    provider TEXT NOT NULL,
    id TEXT NOT NULL,
    subject TEXT NOT NULL,
    tier TEXT NOT NULL,
    -- Minor units of an ISO 4217 currency.
    amount BIGINT NOT NULL,
    currency TEXT NOT NULL,
    months BIGINT NOT NULL,
    -- open, paid, refused or differs.
    state TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    paid_ms BIGINT,
    PRIMARY KEY (provider, id)
);
CREATE INDEX payment_orders_by_subject ON payment_orders (subject);
