-- Version 6: evaluations and deliveries are queues of their own.

-- Whoever has room for one kind finds it, however much of the other waits in the same lane.
DROP INDEX work_due;
CREATE INDEX work_due ON work (lane, kind, due_at) WHERE owner IS NULL AND dead_at IS NULL;
