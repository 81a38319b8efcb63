-- Place a hold in every account it names, or in none.
-- ARGV: 3 id, 4 id as JSON, 5 want, 6 floor, 7 owner, 8 ttl, 9 orphan amount, 10 draft, 11 whether the amounts are sane,
-- 12 claim, 13 fingerprint, 14 the claim's ttl (empty for no claim), 15 payer as JSON, 16 whether the rest is granted,
-- 17 how many limits, 18... account and amount of each, then accounts

local id, want, floor, owner = ARGV[3], tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7]
local key, claiming = ARGV[12], ARGV[14] ~= ''
local limits = tonumber(ARGV[17])
local names = {}
for place = 18 + 2 * limits, #ARGV do names[#names + 1] = ARGV[place] end

local function same(others)
  if #others ~= #names then return false end
  for place, name in ipairs(names) do
    if others[place] ~= name then return false end
  end
  return true
end

local lease = redis.call('ZSCORE', LEASES, owner)
if not lease or tonumber(lease) <= NOW then return reply(id, 'fenced') end

local hold = read_hold(id)
if hold then
  if hold[STATE] == 'held' and hold[WANT] == ARGV[5] and same(hold[WHOSE]) then
    return reply(id, 'done', integer(hold[AMOUNT]))
  end
  return reply(id, 'conflict')
end

if claiming then
  local packed = redis.call('HGET', CLAIMS, key)
  if packed then
    local claim = cmsgpack.unpack(packed)
    local other = read_hold(claim[BY])
    local state = other and other[STATE]
    if state == 'held' or (state ~= 'released' and state ~= 'expired' and NOW < claim[EXPIRES]) then
      if claim[FINGERPRINT] ~= ARGV[13] then return reply(id, 'mismatch', nil, nil, nil, claim[BY]) end
      if state == 'held' then return reply(id, 'running', nil, nil, nil, claim[BY]) end
      return reply(id, 'finished', nil, nil, nil, claim[BY], redis.call('HGET', KEPT, key))
    end
  end
end

local quotas, declared = limited(18, limits)
local counts, available, short = room(names, quotas)
local amount = nil
if ARGV[11] == '1' then
  if want <= available then
    amount = want
  elseif floor < want and floor <= available then
    amount = ARGV[16] == '1' and available or math.min(want, math.max(floor, math.floor(available / 2)))
  end
end
if not amount then
  return reply(id, 'refused', nil, counts, nil, nil, nil, nil, ARGV[11] == '1' and short or nil)
end

local deadline = NOW + tonumber(ARGV[8])
if claiming then
  drop_claim(key)
  local expires = NOW + tonumber(ARGV[14])
  redis.call('HSET', CLAIMS, key, cmsgpack.pack({ ARGV[13], id, names[1], expires }))
  redis.call('ZADD', CLAIMED, score(expires), key)
end
write_hold(id, {
  'held', amount, ARGV[5], owner, deadline, math.max(0, math.min(tonumber(ARGV[9]), amount)), 0,
  0, claiming and key or '', 0, names, ARGV[4], ARGV[15], ARGV[10],
})
redis.call('ZADD', LIVE, score(deadline), id)
redis.call('ZADD', OWNED, 0, prefix(owner) .. id)
write_limits(names, quotas, declared)
move_held(names, amount)
return reply(id, 'done', integer(amount), counts)
