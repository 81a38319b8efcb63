-- One reading command on one key, if the books are those that were opened: what is missing is then really missing.
-- ARGV: 3 a mark to know the answer by, 4 command, 5 the key's place, 6... its arguments

return { ARGV[3], redis.call(ARGV[4], KEYS[tonumber(ARGV[5])], unpack(ARGV, 6)) }
