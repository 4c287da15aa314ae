-- Take a session: create its state, or become its next owner. Returns the owner's epoch.
-- KEYS: state.  ARGV: ttl_s, then field, value, ...
local epoch = redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('HSETNX', KEYS[1], 'seq', 0)
if #ARGV > 1 then
  redis.call('HSET', KEYS[1], unpack(ARGV, 2))
end
redis.call('EXPIRE', KEYS[1], ARGV[1])
return epoch
