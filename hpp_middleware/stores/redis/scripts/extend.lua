-- Let places be held for longer; one that nobody holds any more is not taken again.
-- KEYS: places
-- ARGV: 1 the time in microseconds (empty for the server's own), 2 for how long, in microseconds, 3... the holder of each

for place, key in ipairs(KEYS) do
  redis.call('ZADD', key, 'XX', integer(NOW + tonumber(ARGV[2])), ARGV[place + 2])
  last(key, tonumber(ARGV[2]))
end
return 1
