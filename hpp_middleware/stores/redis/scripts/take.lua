-- Draw from every window and take every place, or nothing, as hpp_middleware/core/windows.py says.
-- KEYS: windows, then places; the question's own at the end
-- ARGV: 1 the time in microseconds (empty for the server's own), 2 for how long a place is held, in microseconds,
--       3 how many windows, 4... amount, refill and room of each, then most and holder of each place
-- common to take, correct and extend: window.lua

local question = table.remove(KEYS)
local again = asked_before(question)
local LONGEST = 600000000 -- core.windows.LONGEST_US
local count = tonumber(ARGV[3])
local used, since, busy, fits = {}, {}, {}, true
for place = 1, count do
  local amount, refill, room = tonumber(ARGV[3 * place + 1]), tonumber(ARGV[3 * place + 2]), tonumber(ARGV[3 * place + 3])
  used[place], since[place] = drained(KEYS[place], refill, room)
  if used[place] + amount > room then fits = false end
end
for place = count + 1, #KEYS do
  local at = 3 * count + 2 * (place - count) + 2
  redis.call('ZREMRANGEBYSCORE', KEYS[place], '-inf', integer(NOW))
  local taken = redis.call('ZCOUNT', KEYS[place], '-inf', integer(NOW + LONGEST))
  busy[place - count] = taken
  if not redis.call('ZSCORE', KEYS[place], ARGV[at + 1]) then
    if taken >= tonumber(ARGV[at]) then fits = false end
  end
end
if fits and not again then
  remember(question)
  for place = 1, count do
    used[place] = math.max(0, used[place] + tonumber(ARGV[3 * place + 1]))
    put(KEYS[place], used[place], since[place], tonumber(ARGV[3 * place + 2]))
  end
  for place = count + 1, #KEYS do
    local at = 3 * count + 2 * (place - count) + 2
    busy[place - count] = busy[place - count] + redis.call('ZADD', KEYS[place], integer(NOW + tonumber(ARGV[2])), ARGV[at + 1])
    last(KEYS[place], tonumber(ARGV[2]))
  end
end
for place = 1, count do used[place] = integer(used[place]) end
return { (fits or again) and 1 or 0, used, busy }
