-- Append entries to a stream, in order.
-- KEYS: stream.  ARGV: for each entry how many texts follow, then field, value, ...
local at = 1
while at <= #ARGV do
  local count = tonumber(ARGV[at])
  redis.call('XADD', KEYS[1], '*', unpack(ARGV, at + 1, at + count))
  at = at + count + 1
end
return 'OK'
