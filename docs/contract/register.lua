-- Compare and set one field of a hash: read by others, changed by many workers.
-- KEYS: registry.  ARGV: field, the value that was read ('' for none), the new value ('' to remove the field).
-- Returns 1, or 0 where another worker was quicker.
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then
  return 0
end
if ARGV[3] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
end
return 1
