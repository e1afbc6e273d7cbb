-- Version 10: a webhook without an identity is recognised by its body for its sender's retry span only; copies are
-- counted. The dedup_key of such an event is now its id. Those that earlier versions wrote hold the body's hash, are
-- looked up no more, and so keep no new event out.

-- copies: how many more times the webhook came, and was not acted on. Earlier ones were not counted.
ALTER TABLE event ADD COLUMN copies INTEGER NOT NULL DEFAULT 0;

-- The latest event of each subject (a prompt, alert or rule; else the body itself), if it has no identity. The same
-- body is a copy of it until until_at, unless the subject's row is deleted or replaced by another event before.
CREATE TABLE latest_body (
  subject TEXT PRIMARY KEY,
  body_key TEXT NOT NULL,
  event_id TEXT NOT NULL,
  first_at REAL NOT NULL,
  until_at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX latest_body_until ON latest_body (until_at);
