-- Take entries that no worker took for so long that nobody waits for them any more, to be dead-lettered: what was never
-- delivered, and what is pending for a consumer that has not touched it since. In one step, because a worker may read
-- what was found here a moment later.
-- KEYS: stream.  ARGV: group, consumer, horizon (ms; overdue are deadlines before it), rested_ms, count.
-- Returns {entry, ...} as XRANGE does; each is pending for the consumer now.
if redis.call('EXISTS', KEYS[1]) == 0 then
  return {}
end
redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0')  -- it is there already, mostly
local horizon, most = tonumber(ARGV[3]), tonumber(ARGV[5])

local function overdue(entry)
  local fields = entry[2]
  for i = 1, #fields, 2 do
    if fields[i] == 'deadline' then
      local deadline = tonumber(fields[i + 1])
      return deadline ~= nil and deadline < horizon
    end
  end
  return false
end

local taken = {}
for _, row in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], 'IDLE', ARGV[4], '-', '+', most)) do
  local found = redis.call('XRANGE', KEYS[1], row[1], row[1])[1]
  if found and overdue(found) then
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, row[1], 'JUSTID')
    taken[#taken + 1] = found
  end
end

local delivered
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local info = {}
  for i = 1, #group, 2 do info[group[i]] = group[i + 1] end
  if info.name == ARGV[1] then delivered = info['last-delivered-id'] end
end
local waiting = 0
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '(' .. delivered, '+', 'COUNT', most)) do
  if not overdue(entry) then break end  -- a group is delivered to in order: what comes first holds up the rest
  waiting = waiting + 1
end
if waiting > 0 then
  local reply = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', waiting, 'STREAMS', KEYS[1], '>')
  for _, entry in ipairs(reply[1][2]) do taken[#taken + 1] = entry end
end
return taken
