-- Lost: the history of subscriptions.
DROP TABLE subscription_moves;
DROP TABLE subscription_history;
