-- One heartbeat: the hash, its time by the server's clock, and its end, in one step.
-- KEYS: heartbeat.  ARGV: ttl_s, then field, value, ...
-- Returns 1, or 0 where there was none before: at first, and where the server has lost it (FLUSHALL), and all else too.
local there = redis.call('EXISTS', KEYS[1])
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], 'at', time[1] * 1000 + math.floor(time[2] / 1000), unpack(ARGV, 2))
redis.call('EXPIRE', KEYS[1], ARGV[1])
return there
