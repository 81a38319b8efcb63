-- Raise what a live hold is charged if its owner dies.
-- ARGV: 3 id, 4 orphan amount

local id = ARGV[3]
local hold = read_hold(id)
if not hold then return reply(id, 'unknown') end
if hold[STATE] ~= 'held' then return reply(id, 'conflict') end
hold[ORPHAN] = math.max(hold[ORPHAN], math.min(tonumber(ARGV[4]), hold[AMOUNT]))
write_hold(id, hold)
return reply(id, 'done', integer(hold[ORPHAN]))
