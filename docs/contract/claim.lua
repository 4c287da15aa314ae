-- Claim tool calls before they are started: one, or several of one queue, whose keys, arguments and replies come
-- behind each other.
-- KEYS: call.
-- ARGV: worker, epoch, reply_to, deadline (ms, or ''), idempotent (0/1), ttl_s, and `lost`: the worker that is known
--       to be dead, '*' if the entry was taken from a consumer that writes no claims, or ''.
-- Returns {'start', attempt}  this worker may start it, and has been written down as its runner; this is its n-th start
--         {'finished', json}  answer from the stored result
--         {'running', worker} another worker runs it and now answers to this reply_to; ask whether that one lives
--         {'unknown', worker} it may have been started by one that is gone, and must not start again
--         {'cancelled', why}  {'expired', ''}  do not start it
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function claim(key, at)
  local call = redis.call('HMGET', key, 'state', 'worker', 'result', 'cancelled', 'epoch', 'attempt', 'history')
  local state, runner = call[1], call[2]
  if state == 'finished' then
    return 'finished', call[3]
  end
  if tonumber(ARGV[at + 2]) >= tonumber(call[5] or 0) then
    redis.call('HSET', key, 'epoch', ARGV[at + 2], 'reply_to', ARGV[at + 3])
  end
  redis.call('EXPIRE', key, ARGV[at + 6])

  if state == 'running' and runner ~= ARGV[at + 1] then
    if ARGV[at + 7] ~= runner then
      return 'running', runner
    end
    if ARGV[at + 5] ~= '1' then
      return 'unknown', runner
    end
  elseif not state and ARGV[at + 7] == '*' and ARGV[at + 5] ~= '1' then
    return 'unknown', ''
  end
  if call[4] then
    return 'cancelled', call[4]
  end
  if ARGV[at + 4] ~= '' and now >= tonumber(ARGV[at + 4]) then
    return 'expired', ''
  end
  -- `history` has a line 'worker ms' for each start, for whoever asks later why a call never came to an end.
  local history = (call[7] or '') .. ARGV[at + 1] .. ' ' .. now .. '\n'
  local attempt = tostring((call[6] or 0) + 1)
  redis.call('HSET', key, 'state', 'running', 'worker', ARGV[at + 1], 'started_at', now, 'attempt', attempt,
    'history', history)
  return 'start', attempt
end

local replies = {}
for number, key in ipairs(KEYS) do
  local status, detail = claim(key, 7 * (number - 1))
  table.insert(replies, status)
  table.insert(replies, detail)
end
return replies
