-- Nothing was there before: all of it goes.
DROP TABLE tokens;
DROP TABLE audit;
DROP TABLE changes;
DROP TABLE issuer_keys;
DROP TABLE configuration;
DROP TABLE policies;
DROP TABLE usage;
DROP TABLE edge_sessions;
DROP TABLE subjects;
DROP TABLE counters;
