-- Lines of an account, in order; those that were moved and forgotten are not here any more.
-- ARGV: 3 account, 4 after which, 5 how many

local account = ARGV[3]
local counts = redis.call('HMGET', ACCOUNTS, column('seq', account), column('gone', account))
local from = math.max(tonumber(ARGV[4]), tonumber(counts[2] or 0)) + 1
local last = math.min(tonumber(counts[1] or 0), from + tonumber(ARGV[5]) - 1)
local found = { account }
while from <= last do
  local names = {}
  for seq = from, math.min(last, from + 499) do names[#names + 1] = integer(seq) .. ':' .. account end
  for _, text in ipairs(redis.call('HMGET', LINES, unpack(names))) do
    if text then found[#found + 1] = text end
  end
  from = from + 500
end
return found
