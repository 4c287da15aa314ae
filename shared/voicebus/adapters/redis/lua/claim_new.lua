-- Claim the calls that a blocking read has just brought, sent on its connection in the moment in which it has: the worker
-- looks at what came while the server runs this. Only calls about which nothing is odd, a few at a time: written just
-- now, delivered for the first time, without a record. What this leaves out is for `claim`.
-- KEYS: stream. The records of calls, which it writes, are in the same slot.
-- ARGV: group, worker, the last id that a read brought it before, most: how many calls, new_ms: how long one may have
--       waited, ttl_s, what records begin with ('vb:call:{QUEUE}:'), what inboxes begin with ('vb:inbox:'),
--       tools: those that the worker starts without delay, each on a line ('\n' on either side): 'NAME VERSION'.
-- Returns {now, id, ...}: ms, and the entries whose calls may be started, each for the first time. Where more than a
--         second and a half has passed since, as for a worker that was frozen, `claim` is to be asked again.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local most = tonumber(ARGV[4])
local pending = redis.call('XPENDING', KEYS[1], ARGV[1], '(' .. ARGV[3], '+', most + 1, ARGV[2])
local claimed = {now}
if #pending == 0 or #pending > most then
  return claimed
end

-- More text than that takes too long to be read here.
local longest = 16384

local function call_of(id)
  local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
  if not entry then
    return nil
  end
  local fields = {}
  for at = 1, #entry[2], 2 do
    fields[entry[2][at]] = entry[2][at + 1]
  end
  local deadline = tonumber(fields.deadline or now + 1)
  if fields.v ~= '1' or fields.type ~= 'tool.call' or not deadline or deadline <= now
    or not string.find(fields.epoch or '', '^%d+$') or (fields.session or '') == ''
    or #(fields.data or '') > longest or now - tonumber(string.match(id, '^%d+')) >= tonumber(ARGV[5]) then
    return nil
  end
  local readable, call = pcall(cjson.decode, fields.data)
  if not readable or type(call) ~= 'table' or type(call.tool) ~= 'string' or type(call.call_id) ~= 'string'
    or type(call.reply_to) ~= 'string' or string.sub(call.reply_to, 1, #ARGV[8]) ~= ARGV[8]
    or (call.attempt or 1) ~= 1 or call.replayed == true then
    return nil
  end
  local tool = '\n' .. call.tool .. ' '
  if type(call.version) == 'string' then
    tool = tool .. call.version .. '\n'
  end
  if not string.find(ARGV[9], tool, 1, true) then
    return nil
  end
  return ARGV[7] .. fields.session .. ':' .. call.call_id, fields.epoch, call.reply_to
end

for _, one in ipairs(pending) do
  local id = one[1]
  if one[4] == 1 then
    local key, epoch, reply_to = call_of(id)
    if key and redis.call('EXISTS', key) == 0 then
      redis.call('HSET', key, 'epoch', epoch, 'reply_to', reply_to, 'state', 'running', 'worker', ARGV[2],
        'started_at', now, 'attempt', '1', 'history', ARGV[2] .. ' ' .. now .. '\n')
      redis.call('EXPIRE', key, ARGV[6])
      table.insert(claimed, id)
    end
  end
end
return claimed
