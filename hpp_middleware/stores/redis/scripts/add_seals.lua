-- Append seals of accounts, each once; none of them where another one stands at a place already.
-- ARGV: 3... account, seq (20 digits), mac, seal as JSON, again and again

local SEALS, SEALED = KEYS[18], KEYS[19]
for place = 3, #ARGV, 4 do
  local there = redis.call('HGET', SEALS, ARGV[place + 1] .. ':' .. ARGV[place])
  if there and cjson.decode(there).mac ~= ARGV[place + 2] then return { ARGV[3], 'another' } end
end
for place = 3, #ARGV, 4 do
  if redis.call('HSETNX', SEALS, ARGV[place + 1] .. ':' .. ARGV[place], ARGV[place + 3]) == 1 then
    redis.call('ZADD', SEALED, 0, prefix(ARGV[place]) .. ARGV[place + 1])
  end
end
return { ARGV[3], 'done' }
