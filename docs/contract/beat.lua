-- One heartbeat: the hash, its time by the server's clock, and its end, in one step.
-- KEYS: heartbeat.  ARGV: ttl_s, then field, value, ...
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], 'at', time[1] * 1000 + math.floor(time[2] / 1000), unpack(ARGV, 2))
return redis.call('EXPIRE', KEYS[1], ARGV[1])
