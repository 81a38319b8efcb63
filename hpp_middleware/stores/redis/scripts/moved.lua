-- Forget what the archive has: places in the stream, and lines where those are to be forgotten too. A line that somebody
-- has damaged since stays, and so do those behind it.
-- ARGV: 3 how many places, 4... the places, then account and last line, again and again

local places = tonumber(ARGV[3])
for place = 4, 3 + places do redis.call('XDEL', STREAM, ARGV[place]) end

local MOST = 2000
for place = 4 + places, #ARGV, 2 do
  local account = ARGV[place]
  local gone = tonumber(redis.call('HGET', ACCOUNTS, column('gone', account)) or 0)
  local last = math.min(tonumber(ARGV[place + 1]), gone + MOST)
  for seq = gone + 1, last do
    local where = integer(seq) .. ':' .. account
    local text = redis.call('HGET', LINES, where)
    if text then
      local read, line = pcall(cjson.decode, text)
      local amount = text:match('"amount":(%-?%d+)')
      if not (read and type(line) == 'table' and type(line.line) == 'string' and type(line.hold) == 'string' and amount) then
        last = seq - 1
        break
      end
      redis.call('HINCRBY', ACCOUNTS, column('gone_amount', account), amount)
      if line.line == 'resolution' then
        redis.call('HINCRBY', ACCOUNTS, column('gone_resolutions', account), 1)
      end
      redis.call('HDEL', INDEX, line.line .. ':' .. line.hold)
      redis.call('HDEL', LINES, where)
    end
  end
  if last > gone then redis.call('HSET', ACCOUNTS, column('gone', account), integer(last)) end
end
return { ARGV[3], redis.call('XLEN', STREAM) }
