-- Version 7: what hydration fetched, one row for each run and part.

-- part: inputs, outputs or feedback. size: the bytes of its JSON before compression. What earlier versions fetched stays
-- in event_body.fetched; where both have a run's part, this row counts.
CREATE TABLE fetched (
  event_id TEXT NOT NULL,
  part TEXT NOT NULL,
  run_key TEXT NOT NULL,
  size INTEGER NOT NULL,
  encoding INTEGER NOT NULL,
  data BLOB NOT NULL,
  PRIMARY KEY (event_id, part, run_key)
);
-- A claim adds up the sizes of an event's rows without reading them.
CREATE INDEX fetched_size ON fetched (event_id, size);
