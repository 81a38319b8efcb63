-- What every operation begins with. It stands before each script of an operation, in one text with it.
--
-- ARGV: 1 the epoch, 2 the time (empty for the server's own), then the operation's own.
-- All checks come first, then the writes: a script is never undone.
-- Amounts are integer text; a sum that may leave 2^53 is only ever moved by HINCRBY, which counts in 64 bits.

local META, ACCOUNTS, NAMES, HOLDS, LIVE, OWNED, RESOLVED = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local LEASES, LINES, INDEX, STREAM, GRANTS, GRANTED = KEYS[8], KEYS[9], KEYS[10], KEYS[11], KEYS[12], KEYS[13]
local CLAIMS, CLAIMED, KEPT, KEEPING = KEYS[14], KEYS[15], KEYS[16], KEYS[17]

if redis.call('HGET', META, 'epoch') ~= ARGV[1] then
  return redis.error_reply('HPPEPOCH the books are not those that were opened')
end

-- A hold is packed as an array; these are its places.
local STATE, AMOUNT, WANT, OWNER, DEADLINE, ORPHAN, CHARGED = 1, 2, 3, 4, 5, 6, 7
local ATTEMPT, CLAIM, ENDED, WHOSE, ID_JSON, PAYER_JSON, DRAFT = 8, 9, 10, 11, 12, 13, 14
-- And so is a claim.
local FINGERPRINT, BY, PAYER, EXPIRES = 1, 2, 3, 4

local MAX_NANO = 9e15
local MAX_SUM = 9e18

-- The time as JSON says it: the server's microseconds without the zeros at their end.
local function clock()
  if ARGV[2] ~= '' then return ARGV[2] end
  local time = redis.call('TIME')
  local micro = string.format('%06d', tonumber(time[2])):gsub('0+$', '')
  if micro == '' then micro = '0' end
  return time[1] .. '.' .. micro
end

local NOW_TEXT = clock()
local NOW = tonumber(NOW_TEXT)

-- An integer as text: never 1e+15, never -0.
local function integer(number)
  return string.format('%.0f', number + 0)
end

local function score(number)
  return string.format('%.17g', number)
end

-- In a set ordered by bytes, what belongs to a name stands together.
local function prefix(name)
  return #name .. ':' .. name
end

local function belonging(key, name, most, skipped)
  local start = prefix(name)
  local found = redis.call('ZRANGEBYLEX', key, '[' .. start, '(' .. start .. '\255', 'LIMIT', skipped or 0, most)
  for place, member in ipairs(found) do found[place] = member:sub(#start + 1) end
  return found
end

local function column(name, account)
  return name .. ':' .. account
end

local function read_hold(id)
  local packed = redis.call('HGET', HOLDS, id)
  return packed and cmsgpack.unpack(packed)
end

local function write_hold(id, hold)
  redis.call('HSET', HOLDS, id, cmsgpack.pack(hold))
end

-- A hold leaves the state held, or is corrected.
local function end_hold(id, hold, state)
  if hold[STATE] == 'held' then
    redis.call('ZREM', LIVE, id)
    redis.call('ZREM', OWNED, prefix(hold[OWNER]) .. id)
  end
  hold[STATE] = state
  hold[ENDED] = NOW
  write_hold(id, hold)
  redis.call('ZADD', RESOLVED, score(NOW), id)
end

-- Each account of a hold once, whatever it was given.
local function once(names)
  local seen, each = {}, {}
  for _, name in ipairs(names) do
    if not seen[name] then
      seen[name] = true
      each[#each + 1] = name
    end
  end
  return each
end

local function move_held(names, difference)
  local by = integer(difference)
  for _, name in ipairs(once(names)) do
    redis.call('HINCRBY', ACCOUNTS, column('held', name), by)
    redis.call('ZADD', NAMES, 0, name)
  end
end

-- Quota, settled and held of each account, as text, for the caller to count with; what the poorest has left, and which
-- that is. The quota of some may be another one by now: quotas, by account.
local function room(names, quotas)
  local counts, available, short = {}, nil, nil
  for _, name in ipairs(names) do
    local three = redis.call('HMGET', ACCOUNTS, column('quota', name), column('settled', name), column('held', name))
    three[1] = quotas and quotas[name] or three[1]
    for place = 1, 3 do counts[#counts + 1] = three[place] or '0' end
    local left = tonumber(three[1] or 0) - tonumber(three[2] or 0) - tonumber(three[3] or 0)
    if not available or left < available then available, short = left, name end
  end
  return counts, available, short
end

-- A quota, moved by the change in what is declared of it. The change comes first: the sum of both may leave 2^53.
local function moved(quota, declared, before)
  return quota + (declared - tonumber(before or 0))
end

-- The quotas that accounts have with what is declared of them, where that can be: count limits, from a place of ARGV on,
-- account and amount of each. Nothing is written yet.
local function limited(from, count)
  local quotas, declared = {}, {}
  for place = from, from + 2 * count - 1, 2 do
    local account, limit = ARGV[place], tonumber(ARGV[place + 1])
    local two = redis.call('HMGET', ACCOUNTS, column('quota', account), column('declared', account))
    local quota = moved(tonumber(two[1] or 0), limit, two[2])
    if limit >= 0 and limit <= MAX_NANO and quota >= 0 and quota <= MAX_NANO then
      quotas[account], declared[account] = integer(quota), integer(limit)
    end
  end
  return quotas, declared
end

local function write_limits(names, quotas, declared)
  for _, name in ipairs(names) do
    if quotas[name] then
      redis.call('HSET', ACCOUNTS, column('quota', name), quotas[name], column('declared', name), declared[name])
    end
  end
end

-- id, status, amount, counts of the accounts, ledger lines, whose the claim is, what was kept, whether a sweep is to go
-- on, which account was short
local function reply(id, status, amount, counts, lines, hold, kept, more, short)
  return { id, status, amount or '0', counts or {}, lines or {}, hold or '', kept or false, more and 1 or 0, short or '' }
end

local function line_text(id, hold, class, seq, amount, report)
  local name = hold[ID_JSON]
  if class ~= 'resolution' then name = name:sub(1, -2) .. ':' .. class .. '"' end
  return '{"id":' .. name .. ',"hold":' .. hold[ID_JSON] .. ',"line":"' .. class .. '","account":' .. hold[PAYER_JSON]
    .. ',"seq":' .. seq .. ',"amount":' .. amount .. ',"held":' .. integer(hold[AMOUNT])
    .. ',"created":' .. NOW_TEXT .. ',"draft":' .. hold[DRAFT] .. ',"report":' .. report .. '}'
end

-- Whether a hold, damaged by whatever hand, has all that its lines are written of: a script that fails is not undone.
local function is_whole(hold)
  if type(hold) ~= 'table' then return false end
  for place, kind in pairs({
    [OWNER] = 'string', [DEADLINE] = 'number', [AMOUNT] = 'number', [ORPHAN] = 'number', [CHARGED] = 'number', [WHOSE] = 'table',
    [ID_JSON] = 'string', [PAYER_JSON] = 'string', [DRAFT] = 'string', [CLAIM] = 'string',
  }) do
    if type(hold[place]) ~= kind then return false end
  end
  return #hold[WHOSE] > 0 and hold[DRAFT] ~= '' and hold[AMOUNT] >= 0 and hold[AMOUNT] <= MAX_NANO
end

-- Whether what its accounts have counted leaves room for more.
local function is_countable(hold, total, tokens)
  for _, name in ipairs(once(hold[WHOSE])) do
    local settled = tonumber(redis.call('HGET', ACCOUNTS, column('settled', name)) or 0)
    if settled + total > MAX_SUM or settled < -MAX_SUM then return false end
  end
  local payer = hold[WHOSE][1]
  local three = redis.call('HMGET', ACCOUNTS, column('tokens', payer), column('seq', payer), column('requests', payer))
  if tonumber(three[1] or 0) + tonumber(tokens) > MAX_SUM then return false end
  return math.max(tonumber(three[2] or 0), tonumber(three[3] or 0)) <= MAX_SUM
end

-- Bring a hold into a state in which it is charged, and write the lines that say so; nil where no store could count it.
-- Accounts besides the payer's may be charged less than all: by how much, spared says.
local function charge(id, hold, amount, state, report, tokens, spared)
  if not is_whole(hold) then return nil end
  local classes, amounts, freed = { 'resolution' }, {}, hold[AMOUNT]
  local total = amount
  if state == 'corrected' then
    classes, total, freed = { 'correction' }, amount - hold[CHARGED], 0
    amounts = { total }
  else
    amounts = { math.min(amount, hold[AMOUNT]) }
    if amount > hold[AMOUNT] then
      classes[2], amounts[2] = 'overage', amount - hold[AMOUNT]
    end
  end
  if not is_countable(hold, total, tokens) then return nil end

  local names, payer = once(hold[WHOSE]), hold[WHOSE][1]
  local texts = {}
  for place, class in ipairs(classes) do
    local seq = integer(redis.call('HINCRBY', ACCOUNTS, column('seq', payer), 1))
    local text = line_text(id, hold, class, seq, integer(amounts[place]), report)
    local where = seq .. ':' .. payer
    redis.call('HSET', LINES, where, text)
    redis.call('HSET', INDEX, class .. ':' .. id, where)
    redis.call('XADD', STREAM, '*', 'line', where)
    texts[place] = text
  end
  if state ~= 'corrected' then redis.call('HINCRBY', ACCOUNTS, column('requests', payer), 1) end
  if tokens ~= '0' then redis.call('HINCRBY', ACCOUNTS, column('tokens', payer), tokens) end
  for place, name in ipairs(names) do
    local less = place > 1 and spared and spared[name] or 0
    redis.call('HINCRBY', ACCOUNTS, column('settled', name), integer(total - less))
  end
  move_held(hold[WHOSE], 0 - freed)
  hold[CHARGED] = amount
  end_hold(id, hold, state)
  return texts
end

-- How many bytes of answers an account has kept: a running sum, for thousands may be kept.
local function kept_bytes(account) return tonumber(redis.call('HGET', KEEPING, account) or 0) end

-- Keep an answer with a claim, or none.
local function keep(account, key, answer)
  local more = (answer and #answer or 0) - redis.call('HSTRLEN', KEPT, key)
  if answer then redis.call('HSET', KEPT, key, answer) else redis.call('HDEL', KEPT, key) end
  if more ~= 0 and redis.call('HINCRBY', KEEPING, account, more) == 0 then redis.call('HDEL', KEEPING, account) end
end

-- Its request can be tried again.
local function free_claim(key, claim)
  claim[EXPIRES] = NOW
  redis.call('HSET', CLAIMS, key, cmsgpack.pack(claim))
  redis.call('ZADD', CLAIMED, score(NOW), key)
end

local function drop_claim(key)
  local packed = redis.call('HGET', CLAIMS, key)
  if packed then
    keep(cmsgpack.unpack(packed)[PAYER], key, nil)
    redis.call('HDEL', CLAIMS, key)
    redis.call('ZREM', CLAIMED, key)
  end
end
