-- Grants that the archive has: they are in the account's quota there already, and here they are known again.
-- ARGV: 3 account, 4... id and amount, again and again

for place = 4, #ARGV, 2 do
  redis.call('HSETNX', GRANTS, ARGV[place], ARGV[place + 1])
  redis.call('ZADD', GRANTED, 0, prefix(ARGV[3]) .. ARGV[place])
end
return { ARGV[3] }
