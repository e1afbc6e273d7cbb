-- Version 12: what a waiting delivery was to go to, so that one whose destination was changed is due at once.

-- target: a keyed hash of the URL, credential and the like that the configuration named, of work that waits for another
-- attempt or for its turn; NULL where nothing is known of it, and for what waits for something else.
ALTER TABLE work ADD COLUMN target TEXT;
