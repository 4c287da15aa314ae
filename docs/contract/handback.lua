-- Give an entry back to the group as a new one; nothing where it is not pending any more, so trying again is harmless.
-- KEYS: stream.  ARGV: group, entry_id, then field, value, ... of the copy.
-- Returns the copy's id, or ''.
if redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) == 0 then
  return ''
end
return redis.call('XADD', KEYS[1], '*', unpack(ARGV, 3))
