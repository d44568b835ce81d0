-- Lost: endpoints, and events that were not told yet.
DROP TABLE event_attempts;
DROP TABLE event_deliveries;
DROP TABLE events;
DROP TABLE event_endpoints;
