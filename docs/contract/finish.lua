-- Store the one result of each call: of one, or of several of one queue, whose keys, arguments and replies come behind
-- each other. The first to finish wins; whoever comes later is given what was stored.
-- KEYS: call, stream.
-- ARGV: worker, result (json), ttl_s, group, entry_id. With an entry_id the entry is acknowledged in the same step;
--       a worker that wants no result lost even if it dies here gives '' and acknowledges after it has answered.
-- Returns {'stored' or 'duplicate', result, reply_to, epoch}; the last two are '' where the call was never claimed.
local replies = {}
for number = 1, #KEYS / 2 do
  local key, stream, at = KEYS[2 * number - 1], KEYS[2 * number], 5 * (number - 1)
  local call = redis.call('HMGET', key, 'state', 'result', 'reply_to', 'epoch')
  local status, result = 'duplicate', call[2]
  if call[1] ~= 'finished' then
    status, result = 'stored', ARGV[at + 2]
    redis.call('HSET', key, 'state', 'finished', 'worker', ARGV[at + 1], 'result', result)
  end
  redis.call('EXPIRE', key, ARGV[at + 3])
  if ARGV[at + 5] ~= '' then
    redis.call('XACK', stream, ARGV[at + 4], ARGV[at + 5])
  end
  for _, value in ipairs({status, result, call[3] or '', call[4] or ''}) do
    table.insert(replies, value)
  end
end
return replies
