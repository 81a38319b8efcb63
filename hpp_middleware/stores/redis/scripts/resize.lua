-- Give a live hold another amount.
-- ARGV: 3 id, 4 attempt, 5 amount, 6 whether it is sane, 7 orphan amount, 8 draft

local id, attempt, amount = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local hold = read_hold(id)
if not hold then return reply(id, 'unknown') end
local before = integer(hold[AMOUNT])
if hold[STATE] == 'held' and hold[ATTEMPT] == attempt and before == ARGV[5] then return reply(id, 'done', before) end
if hold[STATE] ~= 'held' or attempt <= hold[ATTEMPT] then return reply(id, 'conflict', before) end

local counts, available = room(hold[WHOSE])
local more = amount - hold[AMOUNT]
if ARGV[6] ~= '1' or (more > 0 and more > available) then return reply(id, 'refused', before, counts) end

hold[AMOUNT] = amount
hold[ATTEMPT] = attempt
hold[ORPHAN] = math.min(amount, math.max(hold[ORPHAN], tonumber(ARGV[7])))
hold[DRAFT] = ARGV[8]
write_hold(id, hold)
move_held(hold[WHOSE], more)
return reply(id, 'done', integer(amount))
