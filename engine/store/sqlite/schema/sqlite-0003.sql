-- Version 3: the trace that an event belongs to.

-- A W3C traceparent, so that what becomes of an event after a restart is in the trace that it came with; NULL for none.
ALTER TABLE event ADD COLUMN trace TEXT;
