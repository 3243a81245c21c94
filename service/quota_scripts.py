"""What quotas do in one step inside Redis (Lua), so that they are exact over all processes.

    places:<caller>           zset    jobs that have a place: by the time it was taken, and by +inf
                                      once the job is accepted
    uploads:<caller>          hash    bytes of uploads that are on their way, by job
    media-open:<caller>       hash    seconds of sound by job
    day:<caller>:<day>        string  jobs of a UTC day
    media-day:<caller>:<day>  string  milliseconds of sound of a UTC day

A place ends when its job leaves the ledger's `open`, which each script looks for first. Nobody has
to give anything back, so nothing is lost with a killed process.
"""

from __future__ import annotations

from typing import Final

from worker.contract.ledger_scripts import PREFIX

DAY_S: Final = 86_400

# KEYS open, places, uploads, media-open, day, media-day (the last two of the day of this place).
_COMMON: Final = (
    f"local P, DAY_S = '{PREFIX}', {DAY_S}\n"
    """
local open, places, uploads, media_open = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local function number(text) return tonumber(text or '0') or 0 end
local function text(value) return string.format('%.6f', value) end
local function sum(key)
  local total = 0
  for _, value in ipairs(redis.call('HVALS', key)) do total = total + number(value) end
  return total
end
-- Whole milliseconds with INCRBY: Redis 6.2 corrupts its memory when a script calls INCRBYFLOAT.
local function add_to_day(key, seconds)
  redis.call('INCRBY', key, string.format('%.0f', seconds * 1000))
end
local function give_back(id, day, media_day)
  if number(redis.call('GET', day)) > 0 then redis.call('DECR', day) end
  local seconds = redis.call('HGET', media_open, id)
  if seconds then add_to_day(media_day, -number(seconds)) end
end
-- Another release frees places too, and knows nothing of what else belongs to them.
local function forget_without_place()
  for _, key in ipairs({uploads, media_open}) do
    for _, id in ipairs(redis.call('HKEYS', key)) do
      if not redis.call('ZSCORE', places, id) then redis.call('HDEL', key, id) end
    end
  end
end
-- Places whose jobs have ended, and those that were taken before `until_` and whose jobs never came.
local function free_places(until_)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', places, '+inf', '+inf')) do
    if not redis.call('ZSCORE', open, id) then redis.call('ZREM', places, id) end
  end
  local late = redis.call('ZRANGEBYSCORE', places, '-inf', until_, 'WITHSCORES')
  for i = 1, #late, 2 do
    local id = late[i]
    if redis.call('ZSCORE', open, id) then
      redis.call('ZADD', places, 'XX', '+inf', id)
      redis.call('HDEL', uploads, id)
    else
      -- Its process was killed. The day's figures are those of jobs that were accepted.
      if redis.call('EXISTS', P .. 'job:' .. id, P .. 'gone:' .. id) == 0 then
        local day = math.floor(tonumber(late[i + 1]) / DAY_S)
        local caller = string.sub(places, #(P .. 'places:') + 1)
        give_back(id, P .. 'day:' .. caller .. ':' .. day,
                  P .. 'media-day:' .. caller .. ':' .. day)
      end
      redis.call('ZREM', places, id)
    end
  end
  forget_without_place()
end
"""
)

TAKE: Final = (
    _COMMON
    + """
-- and KEYS stored; ARGV job, time, time before which a place without an open job is free, seconds to
-- keep, caller, bytes of the upload, then limits, '' = none: open jobs, jobs a day, stored bytes.
-- Answers {limit that is reached, 0 = none, what is used as text}.
local id, upload = ARGV[1], number(ARGV[6])
free_places(ARGV[3])
if ARGV[7] ~= '' and redis.call('ZCARD', places) >= tonumber(ARGV[7]) then
  return {1, tostring(redis.call('ZCARD', places))}
end
local today = number(redis.call('GET', KEYS[5]))
if ARGV[8] ~= '' and today >= tonumber(ARGV[8]) then return {2, tostring(today)} end
if ARGV[9] ~= '' then
  local used = number(redis.call('HGET', KEYS[7], ARGV[5])) + sum(uploads)
  local most = tonumber(ARGV[9])
  if used >= most or used + upload > most then return {3, string.format('%.0f', used)} end
end
redis.call('ZADD', places, ARGV[2], id)
redis.call('INCR', KEYS[5])
if upload > 0 then redis.call('HSET', uploads, id, ARGV[6]) end
for i = 2, 5 do redis.call('EXPIRE', KEYS[i], ARGV[4]) end
return {0, ''}
"""
)

CHARGE: Final = (
    _COMMON
    + """
-- ARGV job, time before which a place without an open job is free, seconds to keep, seconds of sound,
-- time, then limits, '' = none: seconds of a day, seconds of open jobs. Charged again, a job is charged
-- anew.
-- Answers {limit that is reached, 0 = none, what is used as text}.
local id, seconds = ARGV[1], math.floor(tonumber(ARGV[4]) * 1000 + 0.5) / 1000
free_places(ARGV[2])
local before = number(redis.call('HGET', media_open, id))
local today = number(redis.call('GET', KEYS[6])) / 1000 - before
if ARGV[6] ~= '' and today + seconds > tonumber(ARGV[6]) then return {1, text(today)} end
local running = sum(media_open) - before
if ARGV[7] ~= '' and running + seconds > tonumber(ARGV[7]) then return {2, text(running)} end
-- An upload that took longer than any may has lost its place, and must not be counted for ever.
redis.call('ZADD', places, 'NX', ARGV[5], id)
redis.call('HSET', media_open, id, text(seconds))
add_to_day(KEYS[6], seconds - before)
redis.call('EXPIRE', media_open, ARGV[3])
redis.call('EXPIRE', KEYS[6], ARGV[3])
return {0, ''}
"""
)

# ARGV job. From now on its place is free as soon as it leaves `open`, and its bytes are in `stored`.
CONFIRM: Final = (
    _COMMON
    + """
redis.call('HDEL', uploads, ARGV[1])
return redis.call('ZADD', places, 'XX', '+inf', ARGV[1])
"""
)

# ARGV job. A job that was accepted after all keeps its place.
RELEASE: Final = (
    _COMMON
    + """
local id = ARGV[1]
if redis.call('ZSCORE', open, id) then
  redis.call('ZADD', places, 'XX', '+inf', id)
  redis.call('HDEL', uploads, id)
  return 0
end
if redis.call('ZSCORE', places, id) then give_back(id, KEYS[5], KEYS[6]) end
redis.call('ZREM', places, id)
forget_without_place()
return 1
"""
)
