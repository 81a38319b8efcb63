-- The lines of one request of one account.
-- ARGV: 3 hold, 4 account

local found = { ARGV[3] }
for _, class in ipairs({ 'resolution', 'overage', 'correction' }) do
  local where = redis.call('HGET', INDEX, class .. ':' .. ARGV[3])
  if where and where:match('^%d+:(.*)$') == ARGV[4] then
    found[#found + 1] = redis.call('HGET', LINES, where) or nil
  end
end
return found
