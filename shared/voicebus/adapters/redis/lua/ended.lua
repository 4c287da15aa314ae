-- Whether sessions have ended: one, or several of one shard, whose keys and replies come behind each other.
-- KEYS: the mark of a session's end.
-- Returns {1}, or {0} of one that goes on, or of which nothing is known (any more).
local replies = {}
for number, key in ipairs(KEYS) do
  replies[number] = redis.call('EXISTS', key)
end
return replies
