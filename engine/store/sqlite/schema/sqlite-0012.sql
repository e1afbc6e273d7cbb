-- Version 12: what a waiting delivery was to go to, and runs that fell back.

-- target: a keyed hash of the URL, credential and the like that the configuration named, of work that waits for another
-- attempt or for its turn; NULL where nothing is known of it, and for what waits for something else.
ALTER TABLE work ADD COLUMN target TEXT;

-- fallback: the runs for which routes under `unmatched` fired. NULL for what earlier versions decided: their matched
-- counts decisions, those of such routes among them.
ALTER TABLE decision ADD COLUMN fallback INTEGER;
