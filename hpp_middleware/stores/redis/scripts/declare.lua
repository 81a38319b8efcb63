-- Move a quota by the change in what a configuration file declares for it.
-- ARGV: 3 account, 4 quota

local account, declared = ARGV[3], tonumber(ARGV[4])
local before = redis.call('HMGET', ACCOUNTS, column('quota', account), column('declared', account))
local had = tonumber(before[1] or 0)
local quota = moved(had, declared, before[2])
if declared < 0 or declared > MAX_NANO or quota < 0 or quota > MAX_NANO then
  return reply(account, 'refused', integer(had))
end
redis.call('HSET', ACCOUNTS, column('quota', account), integer(quota), column('declared', account), integer(declared))
redis.call('ZADD', NAMES, 0, account)
return reply(account, 'done', integer(quota - had))
