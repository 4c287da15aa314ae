-- Store the one result of a call. The first to finish wins; whoever comes later is given what was stored.
-- KEYS: call, stream.
-- ARGV: worker, result (json), ttl_s, group, entry_id. With an entry_id the entry is acknowledged in the same step;
--       a worker that wants no result lost even if it dies here gives '' and acknowledges after it has answered.
-- Returns {'stored' or 'duplicate', result, reply_to, epoch}; the last two are '' where the call was never claimed.
local key = KEYS[1]
local call = redis.call('HMGET', key, 'state', 'result', 'reply_to', 'epoch')
local status, result = 'duplicate', call[2]
if call[1] ~= 'finished' then
  status, result = 'stored', ARGV[2]
  redis.call('HSET', key, 'state', 'finished', 'worker', ARGV[1], 'result', result)
end
redis.call('EXPIRE', key, ARGV[3])
if ARGV[5] ~= '' then
  redis.call('XACK', KEYS[2], ARGV[4], ARGV[5])
end
return {status, result, call[3] or '', call[4] or ''}
