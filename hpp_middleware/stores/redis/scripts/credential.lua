-- Keep a credential in the place of what has its digest or its id, and of the one that it is made from.
-- ARGV: 3 id, 4 digest, 5 credential as JSON, 6 the digest of the one it is made from (empty for none), 7 that one as it
-- was read, 8 whether workers must hear of it

local CREDENTIALS, DIGESTS = KEYS[20], KEYS[21]
if ARGV[6] ~= '' and redis.call('HGET', CREDENTIALS, ARGV[6]) ~= ARGV[7] then return { ARGV[3], 0 } end
local before = redis.call('HGET', DIGESTS, ARGV[3])
if before then redis.call('HDEL', CREDENTIALS, before) end
local other = redis.call('HGET', CREDENTIALS, ARGV[4])
if other then redis.call('HDEL', DIGESTS, cjson.decode(other).id) end
redis.call('HSET', CREDENTIALS, ARGV[4], ARGV[5])
redis.call('HSET', DIGESTS, ARGV[3], ARGV[4])
if ARGV[8] == '1' then redis.call('HINCRBY', META, 'changes', 1) end
return { ARGV[3], 1 }
