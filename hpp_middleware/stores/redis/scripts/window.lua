-- What the scripts of limits begin with. A window is kept as two integers, what it lacked and when, in microseconds; places
-- as a sorted set of holders by the end of their time. What is over expires by itself, unless the time is a test's own.

local NOW = tonumber(ARGV[1])
if not NOW then
  local time = redis.call('TIME')
  NOW = tonumber(time[1]) * 1000000 + tonumber(time[2])
end

-- An integer as text: never 1e+15, never -0.
local function integer(number)
  return string.format('%.0f', number + 0)
end

local function expires(key, micro)
  if ARGV[1] == '' then redis.call('PEXPIRE', key, integer(math.ceil(micro / 1000) + 1000)) end
end

-- A window as it is now: what it lacks, and since when that is counted.
local function drained(key, refill, room)
  local kept = redis.call('GET', key)
  if not kept then return 0, NOW end
  local used, at = kept:match('^(%d+) (%d+)$')
  used, at = tonumber(used), tonumber(at)
  if at - NOW > room / refill then return 0, NOW end
  if NOW > at then
    used = math.max(0, used - math.min(NOW - at, math.floor(used / refill) + 2) * refill)
    at = NOW
  end
  return used, at
end

local function put(key, used, at, refill)
  redis.call('SET', key, integer(used) .. ' ' .. integer(at))
  expires(key, used / refill + at - NOW)
end

-- Places are kept as long as their last holder's time lasts.
local function last(key, micro)
  if redis.call('PTTL', key) < micro / 1000 then expires(key, micro) end
end

-- Clients send again what they have no reply to, and what is drawn twice is drawn double. So each question has a key of
-- its own, which is there for longer than anybody tries.
local function asked_before(key)
  return redis.call('EXISTS', key) == 1
end

local function remember(key)
  redis.call('SET', key, '', 'PX', 30000)
end
