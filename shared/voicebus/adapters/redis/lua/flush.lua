-- Append a session's recorded events and the state that they change, in one step, for its owner only.
-- KEYS: state, items, calls, events, index, the mark of its end (one slot).
-- ARGV: epoch, first_seq, ttl_s, accept, counts of events, of state, item and call values, index_kept_s, ended (0 or 1),
--       then each event (number of values, field, value, ...), then the state, item and call values.
-- Returns {'ok', last}, {'stale', the current owner's epoch}, or {'behind', last}: the server knows less than this
-- owner has written (a lost write, a fail-over); the owner sends again from last+1, with accept=1, as it may not have
-- all of that any more. {'unknown', last}: nor does it know that this one is the owner. Then it sends again from its
-- first event on, in the place of those that a former owner may have written since.
local epoch, first = tonumber(ARGV[1]), tonumber(ARGV[2])
local current = tonumber(redis.call('HGET', KEYS[1], 'epoch') or 0)
local last = tonumber(redis.call('HGET', KEYS[1], 'seq') or 0)
if current > epoch then
  return {'stale', current}
end
if ARGV[4] ~= '1' then
  if current < epoch then
    return {'unknown', last}
  elseif first > last + 1 then
    return {'behind', last}
  end
elseif current < epoch then
  last = math.min(last, first - 1)
end

local at = 11
for n = 1, tonumber(ARGV[5]) do
  local count = tonumber(ARGV[at])
  if first + n - 1 > last then
    redis.call('XADD', KEYS[4], '*', unpack(ARGV, at + 1, at + count))
    last = first + n - 1
  end
  at = at + 1 + count
end

redis.call('HSET', KEYS[1], 'epoch', epoch, 'seq', last)
for n = 1, 3 do
  local count = tonumber(ARGV[5 + n])
  -- in steps, because unpack is limited by Lua's stack
  for from = at, at + count - 1, 1000 do
    redis.call('HSET', KEYS[n], unpack(ARGV, from, math.min(from + 999, at + count - 1)))
  end
  at = at + count
  redis.call('EXPIRE', KEYS[n], ARGV[3])
end
if ARGV[10] == '1' then
  redis.call('SET', KEYS[6], 1, 'EX', ARGV[3])
end
if ARGV[4] == '1' then -- the server may have forgotten that there is such a session
  local known = redis.call('HMGET', KEYS[1], 'started_at', 'id')
  if known[1] and known[2] then
    redis.call('ZADD', KEYS[5], 'NX', known[1], known[2])
    redis.call('EXPIRE', KEYS[5], ARGV[9])
  end
end
return {'ok', last}
