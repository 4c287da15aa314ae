-- Take a session: create its state and list it, or become its next owner. Returns the owner's epoch, and when it began.
-- KEYS: state, index (one slot).  ARGV: ttl_s, session, now_ms, index_kept_s, then field, value, ...
local epoch = redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('HSETNX', KEYS[1], 'seq', 0)
redis.call('HSETNX', KEYS[1], 'started_at', ARGV[3])
if #ARGV > 4 then
  redis.call('HSET', KEYS[1], unpack(ARGV, 5))
end
redis.call('EXPIRE', KEYS[1], ARGV[1])
local started = redis.call('HGET', KEYS[1], 'started_at')
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', '(' .. (ARGV[3] - ARGV[4] * 1000))
redis.call('ZADD', KEYS[2], 'NX', started, ARGV[2])
redis.call('EXPIRE', KEYS[2], ARGV[4])
return {epoch, started}
