-- Lost: webhooks that were received, what providers said last, who is linked to whom, and orders. Subscriptions stay as
-- payments left them.
DROP TABLE payment_orders;
DROP TABLE payment_snapshots;
DROP TABLE payment_links;
DROP TABLE payment_accounts;
DROP TABLE webhook_inbox;
DELETE FROM counters WHERE name = 'webhooks';
