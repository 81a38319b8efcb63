-- Whose books these are; a server that holds none of ours may become ours.
-- ARGV: 1 the epoch if it becomes ours (empty where it must be ours already), 2 how many shards

local META = KEYS[1]
local epoch = redis.call('HGET', META, 'epoch')
if not epoch then
  if ARGV[1] == '' then return redis.error_reply('HPPEPOCH there are no books') end
  for place, key in ipairs(KEYS) do
    if redis.call('EXISTS', key) == 1 then return redis.error_reply('HPPEPOCH these books lost their epoch') end
  end
  redis.call('HSET', META, 'epoch', ARGV[1], 'shards', ARGV[2], 'version', '1')
end
return redis.call('HMGET', META, 'epoch', 'shards', 'version', 'ready')
