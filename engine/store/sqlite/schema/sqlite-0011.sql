-- Version 11: the threads that Slack messages of one key form.

-- name: a keyed hash of the channel and the key, which may come out of an event. data: the ts of the first message,
-- sealed like other data (encoding). used_at: when a message of the thread was last sent.
CREATE TABLE thread (
  name TEXT PRIMARY KEY,
  encoding INTEGER NOT NULL,
  data BLOB NOT NULL,
  used_at REAL NOT NULL
);
CREATE INDEX thread_used ON thread (used_at);
