-- Lost: how often who was denied.
DROP TABLE denials;
