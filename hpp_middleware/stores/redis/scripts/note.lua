-- Write a field of what is known of the books, if they are those that were opened.
-- ARGV: 3 field, 4 value

redis.call('HSET', META, ARGV[3], ARGV[4])
return 1
