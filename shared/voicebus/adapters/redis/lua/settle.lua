-- A request that was reserved has ended: its key holds the answer from now on, or (nothing given) goes. One that is still
-- in hand holds it a while longer. Not where its time was over and another one has reserved the key.
-- KEYS: the key.  ARGV: what it was reserved with, the new value or '', ttl_s.
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return 0 end
if ARGV[2] == '' then return redis.call('DEL', KEYS[1]) end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1
