-- An account as the archive has it.
-- ARGV: 3 account, 4 quota, 5 what its lines come to, 6 seq, 7 requests, 8 tokens, 9 what of the quota no grant says,
-- 10 what the lines of others charge to it

local account = ARGV[3]
redis.call('HSET', ACCOUNTS,
  column('quota', account), ARGV[4], column('settled', account), ARGV[5], column('seq', account), ARGV[6],
  column('requests', account), ARGV[7], column('tokens', account), ARGV[8],
  column('gone', account), ARGV[6], column('gone_amount', account), ARGV[5],
  column('gone_resolutions', account), ARGV[7], column('gone_granted', account), ARGV[9])
redis.call('HINCRBY', ACCOUNTS, column('settled', account), ARGV[10])
redis.call('ZADD', NAMES, 0, account)
return { account }
