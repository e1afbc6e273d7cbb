-- Version 9: how much waits or is dead is counted in indexes, without reading the work itself.

-- Work that is begun at once by the process that stored it is never in it. owner and dead_at are always NULL here: with
-- them SQLite need not look at the table to see that they are.
CREATE INDEX work_waiting ON work (kind, lane, route, owner, dead_at) WHERE owner IS NULL AND dead_at IS NULL;
DROP INDEX work_dead;
CREATE INDEX work_dead ON work (event_id, kind, dead_at) WHERE dead_at IS NOT NULL;
