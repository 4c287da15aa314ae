-- The result of a call is not wanted any more: it will not start. Returns the worker that runs it already, else ''.
-- KEYS: call.  ARGV: reason, ttl_s.
local call = redis.call('HMGET', KEYS[1], 'state', 'worker')
if call[1] == 'finished' then
  return ''
end
redis.call('HSET', KEYS[1], 'cancelled', ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
return call[1] == 'running' and call[2] or ''
