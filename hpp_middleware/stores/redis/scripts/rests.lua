-- Keep until when upstreams are left alone, and answer with all that are.
-- ARGV: 3 whatever the reply is to begin with, then for each: its key and model as one text, and seconds from now

local RESTS = KEYS[22]
for place = 4, #ARGV, 2 do
  local seconds = tonumber(ARGV[place + 1])
  if seconds > 0 then
    redis.call('HSET', RESTS, ARGV[place], string.format('%.6f', NOW + seconds))
  else
    redis.call('HDEL', RESTS, ARGV[place])
  end
end
local found = { ARGV[3] }
local all = redis.call('HGETALL', RESTS)
for place = 1, #all, 2 do
  local left = tonumber(all[place + 1]) - NOW
  if left > 0 then
    found[#found + 1] = all[place]
    found[#found + 1] = string.format('%.6f', left)
  else
    redis.call('HDEL', RESTS, all[place])
  end
end
return found
