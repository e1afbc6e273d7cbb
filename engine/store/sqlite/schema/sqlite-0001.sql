-- Version 1 of the store's schema, in SQLite's dialect.
-- Times are Unix seconds, UTC. Types are chosen so that PostgreSQL can have the same tables
-- (REAL is its double precision, BLOB its bytea); WITHOUT ROWID keeps a row in its key's own tree.
-- Data encodings: 0 as it is, 1 zstandard; 2 and 3 the same, sealed with a key from outside (see vault.py).

-- Facts about this store; schema_version is the number of the last file applied.
CREATE TABLE meta (
  name TEXT PRIMARY KEY,
  value TEXT NOT NULL
) WITHOUT ROWID;

-- One accepted webhook each. Ids are UUIDv7, so they sort by time.
CREATE TABLE event (
  id TEXT PRIMARY KEY,
  dedup_key TEXT NOT NULL UNIQUE,
  kind TEXT NOT NULL,
  rule_id TEXT,
  received_at REAL NOT NULL,
  size INTEGER NOT NULL,
  repaired INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX event_received ON event (received_at);

-- What was sent, and what hydration fetched. Apart from event, so that it can go earlier.
-- The long columns come last: those before them are read without their pages.
CREATE TABLE event_body (
  event_id TEXT PRIMARY KEY,
  encoding INTEGER NOT NULL,
  fetched_size INTEGER,
  fetched_encoding INTEGER,
  body BLOB NOT NULL,
  fetched BLOB
);

-- What is still to be done. Success deletes the row; a row with dead_at is a dead letter.
-- owner NULL and dead_at NULL: due. owner set: that replica is at it, since leased_at.
-- wanted: the replay somebody asked for while it was being attempted; it begins when the owner lets go.
-- An evaluation's id is its event's.
CREATE TABLE work (
  id TEXT PRIMARY KEY,
  kind TEXT NOT NULL,
  event_id TEXT NOT NULL,
  route TEXT NOT NULL,
  action TEXT NOT NULL,
  idx INTEGER NOT NULL,
  run_id TEXT,
  first_at REAL NOT NULL,
  due_at REAL NOT NULL,
  attempts INTEGER NOT NULL,
  replays INTEGER NOT NULL,
  owner TEXT,
  leased_at REAL,
  wanted INTEGER,
  dead_at REAL,
  error TEXT
) WITHOUT ROWID;
CREATE INDEX work_event ON work (event_id);
CREATE INDEX work_due ON work (due_at) WHERE owner IS NULL AND dead_at IS NULL;
CREATE INDEX work_leased ON work (leased_at) WHERE owner IS NOT NULL;
CREATE INDEX work_dead ON work (event_id) WHERE dead_at IS NOT NULL;

-- Every attempt ever made. It says all about its delivery, because the work row is gone on success.
CREATE TABLE attempt (
  seq INTEGER PRIMARY KEY,
  event_id TEXT NOT NULL,
  work_id TEXT NOT NULL,
  kind TEXT NOT NULL,
  route TEXT NOT NULL,
  action TEXT NOT NULL,
  idx INTEGER NOT NULL,
  run_id TEXT,
  first_at REAL NOT NULL,
  replay INTEGER NOT NULL,
  number INTEGER NOT NULL,
  started_at REAL NOT NULL,
  seconds REAL NOT NULL,
  outcome TEXT NOT NULL,
  reason TEXT NOT NULL,
  status INTEGER,
  destination TEXT NOT NULL,
  worker TEXT NOT NULL,
  detail BLOB
);
CREATE INDEX attempt_event ON attempt (event_id, work_id);
CREATE INDEX attempt_work ON attempt (work_id);

-- What each evaluation of an event came to; decisions is JSON, one entry a document and route.
CREATE TABLE decision (
  seq INTEGER PRIMARY KEY,
  event_id TEXT NOT NULL,
  replays INTEGER NOT NULL,
  decided_at REAL NOT NULL,
  config_hash TEXT NOT NULL,
  matched INTEGER NOT NULL,
  unmatched_reason TEXT,
  encoding INTEGER NOT NULL,
  decisions BLOB NOT NULL
);
CREATE INDEX decision_event ON decision (event_id);
CREATE INDEX decision_unmatched ON decision (event_id) WHERE unmatched_reason IS NOT NULL;

-- The engines at work on this store, by their signs of life.
CREATE TABLE replica (
  owner TEXT PRIMARY KEY,
  host TEXT NOT NULL,
  pid INTEGER NOT NULL,
  started_at REAL NOT NULL,
  beat_at REAL NOT NULL
) WITHOUT ROWID;

-- Open windows of throttles and digests, by what they group.
CREATE TABLE window (
  purpose TEXT NOT NULL,
  route TEXT NOT NULL,
  action TEXT NOT NULL,
  group_key TEXT NOT NULL,
  opened_at REAL NOT NULL,
  closes_at REAL NOT NULL,
  count INTEGER NOT NULL,
  state BLOB,
  PRIMARY KEY (purpose, route, action, group_key)
) WITHOUT ROWID;
CREATE INDEX window_closes ON window (closes_at);

-- What people or the engine hold back for a while: muted routes, paused destinations.
CREATE TABLE control (
  kind TEXT NOT NULL,
  subject TEXT NOT NULL,
  reason TEXT NOT NULL,
  set_by TEXT NOT NULL,
  set_at REAL NOT NULL,
  until_at REAL,
  PRIMARY KEY (kind, subject)
) WITHOUT ROWID;
