-- Orders that are not made twice, and when a clock was last believed. One text for SQLite and PostgreSQL, as in 0001.

-- Where the order is paid: whoever asks again is sent there again.
ALTER TABLE payment_orders ADD COLUMN page_url TEXT;
-- Those that are forgotten one day.
CREATE INDEX payment_orders_unpaid ON payment_orders (created_ms) WHERE state IN ('open', 'refused');

-- What a clock showed that was believed, when moments of subscriptions were last written down, Unix ms.
INSERT INTO counters (name, value) VALUES ('moments_seen', 0);
