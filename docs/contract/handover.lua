-- Give a pending entry to another consumer of its group, which is told of it; nothing where it is not ours any more.
-- KEYS: stream.  ARGV: group, entry_id, the consumer that has it, the one that is to.
-- Returns 1, or 0 where it was not given.
local pending = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1)
if #pending == 0 or pending[1][2] ~= ARGV[3] then
  return 0
end
redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[4], 0, ARGV[2], 'JUSTID')
return 1
