-- Version 2: lanes, windows that hold work back, and what a delivery's templates see beside its event.

-- Which destination's queue work waits in; empty while nobody knows. Each lane is a queue of its own, so that one whose
-- destination hangs is passed over, however long it is.
ALTER TABLE work ADD COLUMN lane TEXT NOT NULL DEFAULT '';
DROP INDEX work_due;
CREATE INDEX work_due ON work (lane, due_at) WHERE owner IS NULL AND dead_at IS NULL;

-- What a delivery's templates see beside its event, as JSON: how many a throttle held back, what another died of.
CREATE TABLE delivery_words (
  work_id TEXT PRIMARY KEY,
  event_id TEXT NOT NULL,
  encoding INTEGER NOT NULL,
  words BLOB NOT NULL
);
CREATE INDEX delivery_words_event ON delivery_words (event_id);

-- What a digest is made of: each item is a document of an event. Its own id is the delivery's it would have been alone.
CREATE TABLE digest_item (
  delivery_id TEXT NOT NULL,
  item_id TEXT NOT NULL,
  event_id TEXT NOT NULL,
  idx INTEGER NOT NULL,
  run_id TEXT,
  replays INTEGER NOT NULL,
  added_at REAL NOT NULL,
  PRIMARY KEY (delivery_id, item_id)
) WITHOUT ROWID;
CREATE INDEX digest_item_id ON digest_item (item_id);
CREATE INDEX digest_item_event ON digest_item (event_id);

-- holder: the delivery that took a throttle's slot, or that a digest's items are collected for.
ALTER TABLE window ADD COLUMN holder TEXT;
CREATE INDEX window_holder ON window (holder) WHERE holder IS NOT NULL;

-- state: what the engine itself remembers of what it holds back, as JSON.
ALTER TABLE control ADD COLUMN state BLOB;
