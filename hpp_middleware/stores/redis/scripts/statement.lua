-- An account and its rows, in one snapshot; the caller adds them up.
-- ARGV: 3 account, 4 for how long a hold may outlast its deadline

local account = ARGV[3]
local fields = {}
for place, name in ipairs({ 'quota', 'settled', 'held', 'declared', 'seq', 'requests', 'tokens',
                            'gone', 'gone_amount', 'gone_resolutions', 'gone_granted' }) do
  fields[place] = redis.call('HGET', ACCOUNTS, column(name, account)) or '0'
end

local granted = {}
for place, id in ipairs(belonging(GRANTED, account, -1)) do granted[place] = redis.call('HGET', GRANTS, id) or '0' end

local held, overdue, due = {}, 0, NOW - tonumber(ARGV[4])
for _, id in ipairs(redis.call('ZRANGE', LIVE, 0, -1)) do
  local read, hold = pcall(read_hold, id)
  if read and is_whole(hold) then
    for _, name in ipairs(once(hold[WHOSE])) do
      if name == account then
        held[#held + 1] = integer(hold[AMOUNT])
        if hold[DEADLINE] < due then overdue = overdue + 1 end
      end
    end
  end
end

-- Past the account's own count as well, until nothing more is found.
local charged, resolutions, last = {}, 0, tonumber(fields[8])
local from = tonumber(fields[8]) + 1
local count = math.min(tonumber(fields[5]), from + 2 * redis.call('HLEN', LINES) + 10000) -- which may be damaged, too
while true do
  local names, any = {}, false
  for seq = from, from + 499 do names[#names + 1] = integer(seq) .. ':' .. account end
  for place, text in ipairs(redis.call('HMGET', LINES, unpack(names))) do
    if text then
      any, last = true, from + place - 1
      charged[#charged + 1] = text:match('"amount":(%-?%d+)')
      if text:find('"line":"resolution"', 1, true) then resolutions = resolutions + 1 end
    end
  end
  from = from + 500
  if not any and from > count then break end
end
return { account, fields, granted, held, charged, integer(resolutions), integer(last), overdue }
