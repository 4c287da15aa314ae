-- Put the dead letter of a tool call back into its queue, where it may start as if it never had: its record is removed.
-- KEYS: dead letters, stream, call.
-- ARGV: letter id, forced (0/1), idempotent (0/1), unstarted (0/1: the letter's reason says that it never started),
--       then field, value, ... of the entry.
-- Returns {'replayed', id of the new entry}, {'gone', ''} where there is no such letter any more, or {'started', worker}
-- where the call has started before, or may have, and is not to start twice.
if #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1]) == 0 then
  return {'gone', ''}
end
local known = redis.call('EXISTS', KEYS[3]) == 1
local call = redis.call('HMGET', KEYS[3], 'started_at', 'worker')
local started = call[1] or (not known and ARGV[4] ~= '1')
if started and ARGV[2] ~= '1' and ARGV[3] ~= '1' then
  return {'started', call[2] or ''}
end
redis.call('DEL', KEYS[3])
local id = redis.call('XADD', KEYS[2], '*', unpack(ARGV, 5))
redis.call('XDEL', KEYS[1], ARGV[1])
return {'replayed', id}
