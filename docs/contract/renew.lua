-- Keep a long call: its entry stays this worker's and does not look idle, its record does not expire.
-- KEYS: call, stream.  ARGV: worker, group, entry_id, ttl_s.
-- Returns 1, or 0 where the entry is no longer pending for this worker.
local pending = redis.call('XPENDING', KEYS[2], ARGV[2], ARGV[3], ARGV[3], 1)
if #pending == 0 or pending[1][2] ~= ARGV[1] then
  return 0
end
redis.call('XCLAIM', KEYS[2], ARGV[2], ARGV[1], 0, ARGV[3], 'JUSTID')
redis.call('EXPIRE', KEYS[1], ARGV[4])
return 1
