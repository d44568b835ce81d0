-- Lost: archives.
DROP TABLE archives;
