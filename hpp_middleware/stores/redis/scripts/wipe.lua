-- Make room to rebuild: everything goes but credentials and seals.
-- ARGV: 1 the new epoch, 2 how many shards

for place, key in ipairs(KEYS) do
  if place > 1 and place < 18 then redis.call('UNLINK', key) end
end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'shards', ARGV[2], 'version', '1')
return 1
