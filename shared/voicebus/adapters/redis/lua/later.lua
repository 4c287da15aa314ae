-- Whether a heartbeat is of a time that is still to come by the server's clock, which was set back since.
-- KEYS: heartbeat.  Returns 1 or 0; 0 also where it does not tell its time.
local told = redis.pcall('HGET', KEYS[1], 'at')
local at = type(told) == 'string' and tonumber(told)
local time = redis.call('TIME')
if at and at > time[1] * 1000 + math.floor(time[2] / 1000) then
  return 1
end
return 0
