-- Draw whatever windows have, put back what is below 0, and give places back.
-- KEYS: windows, then places; the question's own at the end
-- ARGV: 1 the time in microseconds (empty for the server's own), 2 unused, 3 how many windows,
--       4... amount, refill and room of each, then most and holder of each place

local MOST_UNITS = 9007199254740991
local question = table.remove(KEYS)
if asked_before(question) then return 1 end
remember(question)
local count = tonumber(ARGV[3])
for place = 1, count do
  local amount, refill, room = tonumber(ARGV[3 * place + 1]), tonumber(ARGV[3 * place + 2]), tonumber(ARGV[3 * place + 3])
  local used, since = drained(KEYS[place], refill, room)
  put(KEYS[place], math.min(math.max(0, used + amount), MOST_UNITS), since, refill)
end
for place = count + 1, #KEYS do
  redis.call('ZREM', KEYS[place], ARGV[3 * count + 2 * (place - count) + 3])
end
return 1
