-- How sessions stand: one, or several of one shard, whose keys and replies come behind each other.
-- KEYS: state.
-- Returns {status}, '' where there is no such session (any more).
local replies = {}
for number, key in ipairs(KEYS) do
  replies[number] = redis.call('HGET', key, 'status') or ''
end
return replies
