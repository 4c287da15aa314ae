-- Append events of a session to the stream again, as they were, for its owner only: the archiver asks for a gap.
-- KEYS: state, events (one slot). ARGV: epoch, number of events, then each event (number of values, field, value, ...).
-- Returns how many were appended; 0 where another owner has the session.
if tonumber(redis.call('HGET', KEYS[1], 'epoch') or 0) ~= tonumber(ARGV[1]) then
  return 0
end
local at = 3
for _ = 1, tonumber(ARGV[2]) do
  local count = tonumber(ARGV[at])
  redis.call('XADD', KEYS[2], '*', unpack(ARGV, at + 1, at + count))
  at = at + 1 + count
end
return tonumber(ARGV[2])
