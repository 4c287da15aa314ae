-- Give back a claim of `claim_new` whose call was not started and is for another worker: its record says nothing of a
-- start any more, and all else. Nothing where the call is not this worker's any more.
-- KEYS: call.  ARGV: worker.
-- Returns 1, or 0 where nothing was given back.
local call = redis.call('HMGET', KEYS[1], 'state', 'worker', 'attempt')
if call[1] ~= 'running' or call[2] ~= ARGV[1] or call[3] ~= '1' then
  return 0
end
redis.call('HDEL', KEYS[1], 'state', 'worker', 'started_at', 'attempt', 'history')
return 1
