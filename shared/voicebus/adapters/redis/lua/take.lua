-- Become the owner of a session whose owner is gone, and read all that it has left, in one step.
-- KEYS: state, items, calls (one slot).
-- ARGV: the epoch that the state was read at, the new owner, now_ms, ttl_s.
-- Returns {epoch, state, items, calls}, the last three as HGETALL; {0} where another one was quicker, or it has ended.
local known = redis.call('HMGET', KEYS[1], 'epoch', 'status')
if known[1] ~= ARGV[1] or known[2] == 'ended' then
  return {0}
end
local epoch = redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('HSET', KEYS[1], 'owner', ARGV[2], 'status', 'idle', 'at', ARGV[3])
redis.call('HDEL', KEYS[1], 'released', 'moving')
for _, key in ipairs(KEYS) do
  redis.call('EXPIRE', key, ARGV[4])
end
return {epoch, redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2]), redis.call('HGETALL', KEYS[3])}
