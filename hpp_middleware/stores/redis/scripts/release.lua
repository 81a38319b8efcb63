-- Give a hold back. An unknown id leaves a tombstone.
-- ARGV: 3 id, 4 id as JSON, 5 the report of a correction

local id = ARGV[3]
local hold = read_hold(id)
if not hold then
  hold = { 'released', 0, '0', '', 0, 0, 0, 0, '', NOW, {}, ARGV[4], '""', '' }
  end_hold(id, hold, 'released')
  return reply(id, 'done')
end
if hold[STATE] == 'held' then
  move_held(hold[WHOSE], 0 - hold[AMOUNT])
  end_hold(id, hold, 'released')
  return reply(id, 'done')
end
if hold[STATE] == 'expired' then
  local lines = charge(id, hold, 0, 'corrected', ARGV[5], '0')
  local packed = lines and hold[CLAIM] ~= '' and redis.call('HGET', CLAIMS, hold[CLAIM])
  local claim = packed and cmsgpack.unpack(packed)
  if claim and claim[BY] == id then free_claim(hold[CLAIM], claim) end
  return reply(id, 'done', '0', nil, lines)
end
if hold[STATE] == 'released' or hold[CHARGED] == 0 then return reply(id, 'done') end
return reply(id, 'conflict')
