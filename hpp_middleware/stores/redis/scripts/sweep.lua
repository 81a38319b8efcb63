-- Expire the holds that are due, and forget what is long over; a bounded number of each.
-- ARGV: 3 the report of an orphan, 4 how many, 5 how long what is over is remembered, in seconds

local most, before = tonumber(ARGV[4]), NOW - tonumber(ARGV[5])
local due, seen = {}, {}

local function add(id)
  if not seen[id] then
    seen[id] = true
    due[#due + 1] = id
  end
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', LIVE, '-inf', score(NOW), 'LIMIT', 0, most)) do add(id) end

-- From owner to owner of a live hold, by jumping over what stands between.
local from = '-'
while true do
  local first = redis.call('ZRANGEBYLEX', OWNED, from, '+', 'LIMIT', 0, 1)[1]
  if not first then break end
  local colon = first:find(':', 1, true)
  local owner = first:sub(colon + 1, colon + tonumber(first:sub(1, colon - 1)))
  local ends = redis.call('ZSCORE', LEASES, owner)
  if not ends or tonumber(ends) <= NOW then
    for _, id in ipairs(belonging(OWNED, owner, most)) do add(id) end
  end
  from = '(' .. prefix(owner) .. '\255'
end

-- By bytes: Lua's own comparison goes by the server's locale.
local function sooner(one, other)
  for place = 1, math.min(#one, #other) do
    local a, b = one:byte(place), other:byte(place)
    if a ~= b then return a < b end
  end
  return #one < #other
end
table.sort(due, sooner)

-- One that somebody has damaged keeps no other from being swept.
local function is_sound(hold)
  if not is_whole(hold) then return false end
  for _, name in ipairs(once(hold[WHOSE])) do
    if tonumber(redis.call('HGET', ACCOUNTS, column('held', name)) or 0) < hold[AMOUNT] then return false end
  end
  return pcall(cjson.decode, hold[DRAFT])
end

local swept, all, forgotten, left = 0, {}, { 0, 0, 0 }, nil
for place = 1, math.min(#due, most) do
  local id = due[place]
  local read, hold = pcall(read_hold, id)
  local lines = read and is_sound(hold)
    and charge(id, hold, math.max(0, math.min(hold[ORPHAN], hold[AMOUNT])), 'expired', ARGV[3], '0')
  if lines then
    swept = swept + 1
    for _, text in ipairs(lines) do all[#all + 1] = text end
  else
    left = left or id
  end
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', RESOLVED, '-inf', '(' .. score(before), 'LIMIT', 0, most)) do
  redis.call('HDEL', HOLDS, id)
  redis.call('ZREM', RESOLVED, id)
  forgotten[1] = forgotten[1] + 1
end
for _, owner in ipairs(redis.call('ZRANGEBYSCORE', LEASES, '-inf', '(' .. score(before), 'LIMIT', 0, most)) do
  if #belonging(OWNED, owner, 1) == 0 then
    redis.call('ZREM', LEASES, owner)
    forgotten[2] = forgotten[2] + 1
  end
end
for _, key in ipairs(redis.call('ZRANGEBYSCORE', CLAIMED, '-inf', score(NOW), 'LIMIT', 0, most)) do
  local read, claim = pcall(cmsgpack.unpack, redis.call('HGET', CLAIMS, key))
  local by = read and type(claim) == 'table' and type(claim[PAYER]) == 'string' and claim[BY]
  if type(by) == 'string' and not redis.call('ZSCORE', LIVE, by) then
    drop_claim(key)
    forgotten[3] = forgotten[3] + 1
  end
end
local more = math.max(math.min(#due, most), forgotten[1], forgotten[2], forgotten[3]) == most
return reply('', 'done', integer(swept), nil, all, left, nil, more)
