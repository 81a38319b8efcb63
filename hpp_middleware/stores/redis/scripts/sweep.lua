-- Expire the holds that are due, and forget what is long over; a bounded number of each.
-- ARGV: 3 the report of an orphan, 4 how many, 5 how long what is over is remembered, in seconds

local most, before = tonumber(ARGV[4]), NOW - tonumber(ARGV[5])
local due, seen, left = {}, {}, nil

local function is_draft(text)
  local read, draft = pcall(cjson.decode, text)
  if not read or type(draft) ~= 'table' or type(draft.price) ~= 'table' then return false end
  return type(draft.consumer) == 'string' and type(draft.model) == 'string' and type(draft.requested_model) == 'string'
end

local function orphan_amount(hold) return math.max(0, math.min(hold[ORPHAN], hold[AMOUNT])) end

local function is_sound(hold)
  if not (is_whole(hold) and is_countable(hold, orphan_amount(hold), '0')) then return false end
  for _, name in ipairs(once(hold[WHOSE])) do
    if tonumber(redis.call('HGET', ACCOUNTS, column('held', name)) or 0) < hold[AMOUNT] then return false end
  end
  return is_draft(hold[DRAFT])
end

-- One that somebody has damaged is named, keeps no other from being swept, and hides none that stands behind it.
local function add(ids)
  for _, id in ipairs(ids) do
    if not seen[id] then
      seen[id] = true
      local read, hold = pcall(read_hold, id)
      if read and is_sound(hold) then due[#due + 1] = id else left = left or id end
    end
  end
end

-- From page to page, until there are enough.
local function gather(page)
  local from, start = 0, #due
  repeat
    local ids = page(from)
    add(ids)
    from = from + most
  until #ids < most or #due - start >= most
end

gather(function(from) return redis.call('ZRANGEBYSCORE', LIVE, '-inf', score(NOW), 'LIMIT', from, most) end)

-- From owner to owner of a live hold, by jumping over what stands between.
local from = '-'
while true do
  local first = redis.call('ZRANGEBYLEX', OWNED, from, '+', 'LIMIT', 0, 1)[1]
  if not first then break end
  local colon = first:find(':', 1, true)
  local owner = first:sub(colon + 1, colon + tonumber(first:sub(1, colon - 1)))
  local ends = redis.call('ZSCORE', LEASES, owner)
  if not ends or tonumber(ends) <= NOW then
    gather(function(skipped) return belonging(OWNED, owner, most, skipped) end)
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

local swept, all, forgotten = 0, {}, { 0, 0, 0 }
for place = 1, math.min(#due, most) do
  local id = due[place]
  local hold = read_hold(id)
  -- Once more: one before it may have left its account with too little.
  local lines = is_sound(hold) and charge(id, hold, orphan_amount(hold), 'expired', ARGV[3], '0')
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
local more = math.max(swept, forgotten[1], forgotten[2], forgotten[3]) == most
return reply('', 'done', integer(swept), nil, all, left, nil, more)
