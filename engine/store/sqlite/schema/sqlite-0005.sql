-- Version 5: a digest is full by its bytes, too.

-- bytes: how large the events of a digest's items are together.
ALTER TABLE window ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
