-- Version 8: the lanes in which deliveries wait, and until when a delivery may wait.

-- One row for each lane in which deliveries wait. look_at: from when on a claim is to look there, which is when its
-- first falls due, or later where nothing could be taken. It may be too early, and the lane empty: a claim corrects it.
CREATE TABLE lane (
  name TEXT PRIMARY KEY,
  look_at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX lane_look ON lane (look_at, name);
INSERT INTO lane (name, look_at)
SELECT lane, min(due_at) FROM work WHERE kind = 'deliver' AND owner IS NULL AND dead_at IS NULL GROUP BY lane;

-- until_at: when its time is over, for a delivery that waits in a lane; NULL where it is in none. What waits now is
-- looked at once, and has its time then.
ALTER TABLE work ADD COLUMN until_at REAL;
UPDATE work SET until_at = first_at WHERE kind = 'deliver' AND dead_at IS NULL AND lane <> '';
CREATE INDEX work_until ON work (until_at) WHERE until_at IS NOT NULL AND owner IS NULL AND dead_at IS NULL;

-- Whatever is stored to wait is known to its lane.
CREATE TRIGGER work_stored AFTER INSERT ON work
WHEN NEW.owner IS NULL AND NEW.dead_at IS NULL AND NEW.kind = 'deliver'
BEGIN
  INSERT INTO lane (name, look_at) VALUES (NEW.lane, NEW.due_at)
  ON CONFLICT (name) DO UPDATE SET look_at = excluded.look_at WHERE excluded.look_at < lane.look_at;
END;
CREATE TRIGGER work_given_back AFTER UPDATE OF owner, dead_at, due_at, lane ON work
WHEN NEW.owner IS NULL AND NEW.dead_at IS NULL AND NEW.kind = 'deliver'
BEGIN
  INSERT INTO lane (name, look_at) VALUES (NEW.lane, NEW.due_at)
  ON CONFLICT (name) DO UPDATE SET look_at = excluded.look_at WHERE excluded.look_at < lane.look_at;
END;
