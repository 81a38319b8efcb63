-- How an account stands, and how much its shard has still to move.
-- ARGV: 3 account

local account = ARGV[3]
local three = redis.call('HMGET', ACCOUNTS, column('seq', account), column('quota', account), column('declared', account))
return { account, three[1] or '0', three[2] or '0', three[3] or '0', redis.call('XLEN', STREAM) }
