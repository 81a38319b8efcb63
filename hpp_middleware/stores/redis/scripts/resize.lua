-- Give a live hold another amount, and move it to other accounts, where they are named.
-- ARGV: 3 id, 4 attempt, 5 amount, 6 whether it is sane, 7 orphan amount, 8 draft, 9 how many limits, 10... account and
-- amount of each, then accounts

local id, attempt, amount = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local hold = read_hold(id)
if not hold then return reply(id, 'unknown') end
local before = integer(hold[AMOUNT])
if hold[STATE] == 'held' and hold[ATTEMPT] == attempt and before == ARGV[5] then return reply(id, 'done', before) end
if hold[STATE] ~= 'held' or attempt <= hold[ATTEMPT] then return reply(id, 'conflict', before) end

local limits, names = tonumber(ARGV[9]), {}
for place = 10 + 2 * limits, #ARGV do names[#names + 1] = ARGV[place] end
if #names == 0 then names = hold[WHOSE] end
if names[1] ~= hold[WHOSE][1] then return reply(id, 'conflict', before) end

local was, is, left, joined, stayed = {}, {}, {}, {}, {}
for _, name in ipairs(hold[WHOSE]) do was[name] = true end
for _, name in ipairs(names) do
  is[name] = true
  if was[name] then stayed[#stayed + 1] = name else joined[#joined + 1] = name end
end
for _, name in ipairs(hold[WHOSE]) do
  if not is[name] then left[#left + 1] = name end
end

-- One that it is in already has room for what it has, and what is given back always fits.
local more = amount - hold[AMOUNT]
local counted = (more > 0 or #joined == 0) and names or joined
local quotas, declared = limited(10, limits)
local counts, available, short = {}, nil, nil
for _, name in ipairs(counted) do
  local three, there = room({ name }, quotas)
  if not was[name] then
    there = there - hold[AMOUNT]
    three[3] = integer(tonumber(three[3]) + hold[AMOUNT])
  end
  for place = 1, 3 do counts[#counts + 1] = three[place] end
  if not available or there < available then available, short = there, name end
end
if ARGV[6] ~= '1' or (more > available and (more > 0 or #joined > 0)) then
  return reply(id, 'refused', before, counts, nil, nil, nil, nil, ARGV[6] == '1' and short or nil)
end

write_limits(names, quotas, declared)
move_held(left, 0 - hold[AMOUNT])
move_held(stayed, more)
move_held(joined, amount)
hold[WHOSE] = names
hold[AMOUNT] = amount
hold[ATTEMPT] = attempt
hold[ORPHAN] = math.min(amount, math.max(hold[ORPHAN], tonumber(ARGV[7])))
hold[DRAFT] = ARGV[8]
write_hold(id, hold)
return reply(id, 'done', integer(amount))
