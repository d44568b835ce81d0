-- Lost: the history of subscriptions, and what was worked out from it and from usage.
DROP TABLE recurring_days;
DROP TABLE usage_tops_made;
DROP TABLE usage_tops;
DROP TABLE subscription_moves;
DROP TABLE subscription_history;
DROP INDEX payment_orders_by_time;
DROP INDEX invoices_by_time;
DROP INDEX audit_by_time;
DROP INDEX audit_by_action;
DROP INDEX audit_by_actor;
DROP INDEX audit_by_target;
