-- Swap a hold for what was used.
-- ARGV: 3 id, 4 amount, 5 whether it is sane, 6 report, 7 tokens, 8 whether the request failed and cost nothing, 9 how
-- many bytes of answers may be kept (empty for no answer), 10 the answer, 11... account and amount of what is spared

local id, amount = ARGV[3], tonumber(ARGV[4])
local hold = read_hold(id)
if not hold then return reply(id, 'unknown') end
local before = integer(hold[CHARGED])
if ARGV[5] ~= '1' then return reply(id, 'refused', before) end

local after = ({ held = 'settled', expired = 'corrected' })[hold[STATE]]
if not after then
  if hold[STATE] ~= 'released' and before == ARGV[4] then return reply(id, 'done', before) end
  return reply(id, 'conflict', before)
end

local spared = {}
for place = 11, #ARGV, 2 do spared[ARGV[place]] = tonumber(ARGV[place + 1]) end
local lines = charge(id, hold, amount, after, ARGV[6], ARGV[7], spared)
if not lines then return reply(id, 'refused', before) end

local key, payer = hold[CLAIM], hold[WHOSE][1]
local packed = key ~= '' and redis.call('HGET', CLAIMS, key)
local claim = packed and cmsgpack.unpack(packed)
if claim and claim[BY] == id then
  if ARGV[8] == '1' then
    free_claim(key, claim)
  elseif ARGV[9] ~= '' and kept_bytes(payer) + #ARGV[10] <= tonumber(ARGV[9]) then
    keep(payer, key, ARGV[10])
  end
end
return reply(id, 'done', integer(amount), nil, lines)
