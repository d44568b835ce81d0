-- Lost: where open orders are paid.
DELETE FROM counters WHERE name = 'moments_seen';
DROP INDEX payment_orders_unpaid;
ALTER TABLE payment_orders DROP COLUMN page_url;
