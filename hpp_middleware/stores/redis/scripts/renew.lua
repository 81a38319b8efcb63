-- Extend a worker's lease; one that reaches further already stays.
-- ARGV: 3 owner, 4 ttl

local ends, before = NOW + tonumber(ARGV[4]), redis.call('ZSCORE', LEASES, ARGV[3])
if not before or tonumber(before) < ends then redis.call('ZADD', LEASES, score(ends), ARGV[3]) end
return reply(ARGV[3], 'done')
