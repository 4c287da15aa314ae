-- Remove a consumer that has nothing pending; XGROUP DELCONSUMER alone would lose what it got meanwhile.
-- KEYS: stream.  ARGV: group, consumer.  Returns 1 if it was removed.
if #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]) > 0 then
  return 0
end
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
return 1
