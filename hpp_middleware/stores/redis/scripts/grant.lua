-- Add to an account's quota, once per id, which is no other account's.
-- ARGV: 3 id, 4 account, 5 amount, 6 the quota expected (empty for any), 7 the grant as JSON

local id, account = ARGV[3], ARGV[4]
local seen = redis.call('HGET', GRANTS, id)
if seen then
  local same = seen == ARGV[5] and redis.call('ZSCORE', GRANTED, prefix(account) .. id)
  return reply(id, same and 'done' or 'conflict', seen)
end
local before = redis.call('HGET', ACCOUNTS, column('quota', account)) or '0'
if ARGV[6] ~= '' and ARGV[6] ~= before then return reply(id, 'conflict', before) end
local quota = tonumber(before) + tonumber(ARGV[5])
if quota < 0 or quota > MAX_NANO then return reply(id, 'refused', before) end

redis.call('HSET', GRANTS, id, ARGV[5])
redis.call('ZADD', GRANTED, 0, prefix(account) .. id)
redis.call('HSET', ACCOUNTS, column('quota', account), integer(quota))
redis.call('ZADD', NAMES, 0, account)
redis.call('XADD', STREAM, '*', 'grant', ARGV[7])
return reply(id, 'done', ARGV[5])
