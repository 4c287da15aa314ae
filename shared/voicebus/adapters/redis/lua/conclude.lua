-- Store the one result of each call, answer with it and acknowledge its entry, in one step: of one call, or of several
-- of one queue, whose keys, arguments and replies come behind each other. The first to finish wins. Not for a cluster,
-- where an inbox and a queue have slots of their own: there `finish` stores, and the worker answers.
-- KEYS: call, stream, inbox.
-- ARGV: worker, result (json), ttl_s, group, entry_id ('' to acknowledge nothing), inbox as the call named it, epoch,
--       inbox_ttl_s; then of the answer: id, session, at, traceparent ('' for none).
-- Returns {'answered', '', '', ''}
--         {'stored', '', reply_to, epoch}          the call is to be answered at this reply_to
--         {'duplicate', result, reply_to, epoch}   it had come to this result before, and is to be answered with it
--         reply_to and epoch are '' where the call was never claimed.
local replies = {}

local function reply(...)
  for _, value in ipairs({...}) do
    table.insert(replies, value)
  end
end

for number = 1, #KEYS / 3 do
  local key, stream, inbox, at = KEYS[3 * number - 2], KEYS[3 * number - 1], KEYS[3 * number], 12 * (number - 1)
  local call = redis.call('HMGET', key, 'state', 'result', 'reply_to', 'epoch')
  local reply_to, epoch = call[3] or '', call[4] or ''
  if call[1] == 'finished' then
    redis.call('EXPIRE', key, ARGV[at + 3])
    reply('duplicate', call[2], reply_to, epoch)
  else
    redis.call('HSET', key, 'state', 'finished', 'worker', ARGV[at + 1], 'result', ARGV[at + 2])
    redis.call('EXPIRE', key, ARGV[at + 3])
    local answered = false
    if reply_to == '' or reply_to == ARGV[at + 6] then
      local entry = {'v', '1', 'id', ARGV[at + 9], 'type', 'tool.result', 'session', ARGV[at + 10],
        'epoch', epoch == '' and ARGV[at + 7] or epoch, 'at', ARGV[at + 11], 'data', ARGV[at + 2]}
      if ARGV[at + 12] ~= '' then
        table.insert(entry, 'traceparent')
        table.insert(entry, ARGV[at + 12])
      end
      -- What is no stream takes no answer, which must not keep the others from theirs.
      local sent = redis.pcall('XADD', inbox, '*', unpack(entry))
      answered = type(sent) == 'string'
    end
    if answered then
      redis.call('EXPIRE', inbox, ARGV[at + 8])
      if ARGV[at + 5] ~= '' then
        redis.call('XACK', stream, ARGV[at + 4], ARGV[at + 5])
      end
      reply('answered', '', '', '')
    else
      reply('stored', '', reply_to, epoch)
    end
  end
end
return replies
