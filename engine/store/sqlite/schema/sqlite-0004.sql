-- Version 4: a throttle's count is told, whatever becomes of the delivery that was to tell it.

-- group_key, told: how many of a throttle's key were held back that this delivery is to tell. It dies: they are counted
-- again.
ALTER TABLE delivery_words ADD COLUMN group_key TEXT;
ALTER TABLE delivery_words ADD COLUMN told INTEGER;
