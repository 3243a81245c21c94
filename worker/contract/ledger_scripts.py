"""The ledger's keys, and what it does in one step inside Redis (Lua, Redis 6.2 and newer, Valkey).

    job:<id>          hash      the job
    open              zset      ids that are not terminal, by time of acceptance
    open:<principal>  zset      the same of one caller
    jobs:<principal>  zset      all jobs of one caller, by time of acceptance
    lease:<id>        string    token of the process that holds the job; Redis lets it expire
    gone:<id>         string    a job that was deleted
    events:<id>       stream    what happened to the job
    idem:<..>         string    an idempotency key
    outbox            zset      webhook events by the time they are due; outbox:<event> is the event
    expire            zset      terminal ids by the time their results are erased
    media             zset      ids whose media lie on the disk, by time of acceptance
    stored, stored-jobs  hash   bytes on the disk, of a caller and of a job
    fair:<queue>, fair-time:<queue>  the order of a queue (worker.contract.fair_queue)
    speed             hash      measured seconds of rendering per second of video, by preset
    stats             hash      counters for /metrics (worker.contract.statistics)
    quarantine        hash      jobs that some process could not handle, and why
    workers, inspectors, reconcilers  zset   living processes by their last sign of life

Every change of state also writes an event, and every way into a terminal state goes through
`conclude`, which is why there is exactly one terminal event and one webhook event per job.
"""

from __future__ import annotations

from typing import Final

# One hash tag, so that all keys of the ledger live in one slot of a cluster; keys that a script
# derives from a job's own fields therefore need not be declared.
PREFIX: Final = "tf:{j}:"
OPEN: Final = f"{PREFIX}open"
OUTBOX: Final = f"{PREFIX}outbox"
EXPIRE: Final = f"{PREFIX}expire"
MEDIA: Final = f"{PREFIX}media"
STORED: Final = f"{PREFIX}stored"
STORED_JOBS: Final = f"{PREFIX}stored-jobs"
SPEED: Final = f"{PREFIX}speed"
QUARANTINE: Final = f"{PREFIX}quarantine"
STATISTICS: Final = f"{PREFIX}stats"
LEDGER_ID: Final = f"{PREFIX}ledger-id"

MAX_EVENTS: Final = 512
"""About so many events of a job are kept; the oldest go first."""
DELETED_TTL_S: Final = 7 * 86_400
"""How long a deleted id is remembered: longer than any worker can hold it."""
SPEED_WEIGHT: Final = 0.2
"""Weight of the newest measurement in the moving average."""
STATISTICS_BOUNDS_S: Final = (
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0),
)
"""Upper bounds of the histograms, in seconds: a preview of one sentence takes less than one, a
minute at quality on a CPU an hour."""


STORE_BYTES_FUNCTION: Final = (
    f"local STORED, STORED_JOBS, JOB = '{STORED}', '{STORED_JOBS}', '{PREFIX}job:'\n"
    """
-- A job's bytes on the disk. What it had before, and whose it was, is kept apart from the job's own
-- hash, so that the total can be put right after another release has deleted the job.
local function store_bytes(id, bytes)
  local known = redis.call('HGET', STORED_JOBS, id)
  local before, share = string.match(known or '', '^(%d+) (.*)$')
  local job = redis.call('HMGET', JOB .. id, 'id', 'share', 'principal')
  share = share or job[2] or job[3] or ''
  if not job[1] then bytes = 0 end
  if bytes > 0 then
    redis.call('HSET', STORED_JOBS, id, string.format('%.0f ', bytes) .. share)
  else
    redis.call('HDEL', STORED_JOBS, id)
  end
  local change = string.format('%.0f', bytes - tonumber(before or '0'))
  if change ~= '0' and redis.call('HINCRBY', STORED, share, change) <= 0 then
    redis.call('HDEL', STORED, share)
  end
end
"""
)
"""Lua function `store_bytes(id, bytes)`: both hashes change in one step."""


def job_key(job_id: str) -> str:
    """Hash of a job."""
    return f"{PREFIX}job:{job_id}"


def lease_key(job_id: str) -> str:
    """Token of the process that holds a job."""
    return f"{PREFIX}lease:{job_id}"


def events_key(job_id: str) -> str:
    """Stream of a job's events."""
    return f"{PREFIX}events:{job_id}"


def presence_key(kind: str) -> str:
    """Living processes of a kind by their last sign of life."""
    return f"{PREFIX}{kind}"


def gone_key(job_id: str) -> str:
    """Tombstone of a deleted job."""
    return f"{PREFIX}gone:{job_id}"


def jobs_key(principal: str | None) -> str:
    """All jobs of a caller."""
    return f"{PREFIX}jobs:{principal or ''}"


def open_key(principal: str | None) -> str:
    """Open jobs of a caller."""
    return f"{PREFIX}open:{principal or ''}"


COMMON: Final = (
    f"local P = '{PREFIX}'\n"
    f"local MAX_EVENTS, DELETED_TTL_S, WEIGHT = {MAX_EVENTS}, {DELETED_TTL_S}, {SPEED_WEIGHT}\n"
    f"local BOUNDS_S = {{{', '.join(format(bound, 'g') for bound in STATISTICS_BOUNDS_S)}}}\n"
    """
local function count(name, amount)
  redis.call('HINCRBY', P .. 'stats', name, amount or 1)
end
local function observe(name, seconds)
  local le = '+Inf'
  for _, bound in ipairs(BOUNDS_S) do
    if seconds <= bound then le = string.format('%g', bound) break end
  end
  count(name .. '|' .. le)
  redis.call('HINCRBYFLOAT', P .. 'stats', name .. '|sum', string.format('%.6f', seconds))
end
local function job_key(id) return P .. 'job:' .. id end
local function is_open(state)
  return state == 'queued' or state == 'running'
end
local function note(id, kind)
  local job = redis.call('HMGET', job_key(id), 'state', 'stage', 'attempt', 'frames_done',
                         'frames_total')
  redis.call('XADD', P .. 'events:' .. id, 'MAXLEN', '~', MAX_EVENTS, '*', 'kind', kind,
             'state', job[1], 'stage', job[2] or '', 'attempt', job[3],
             'done', job[4] or '', 'total', job[5] or '')
end
local function stamp()
  local now = redis.call('TIME')
  return tonumber(now[1]) + tonumber(now[2]) / 1e6
end
-- A broken record must not keep its job from ending.
local function decoded(text)
  local is_json, value = pcall(cjson.decode, text or '{}')
  return is_json and type(value) == 'table' and value or {}
end
local function count_end(id, now)
  local job = redis.call('HMGET', job_key(id), 'state', 'failure', 'timings_s', 'frames_done')
  local code = ''
  if job[1] == 'failed' and job[2] then code = decoded(job[2]).code or '' end
  count('jobs|' .. job[1] .. '|' .. code)
  if job[1] == 'succeeded' and job[4] then count('frames', job[4]) end
  for stage, seconds in pairs(decoded(job[3])) do
    observe('stage|' .. stage, tonumber(seconds))
  end
  local accepted = redis.call('ZSCORE', P .. 'open', id)
  if accepted then observe('total', math.max(0, now - tonumber(accepted))) end
end
-- The one door into a terminal state; at is the time as text.
local function conclude(id, at)
  local key, now = job_key(id), stamp()
  count_end(id, now)
  redis.call('HDEL', key, 'token', 'stage')
  redis.call('HSET', key, 'finished_at', at)
  redis.call('DEL', P .. 'lease:' .. id)
  redis.call('ZREM', P .. 'open', id)
  redis.call('HDEL', P .. 'quarantine', id)
  local job = redis.call('HMGET', key, 'principal', 'retention_s', 'callback_url', 'state')
  redis.call('ZREM', P .. 'open:' .. (job[1] or ''), id)
  if job[2] then
    local expires = string.format('%.3f', now + tonumber(job[2]))
    redis.call('HSET', key, 'expires_at', expires)
    redis.call('ZADD', P .. 'expire', expires, id)
  end
  if job[3] then
    -- A job ends once, so an id made of the job's own is the same in every retry.
    local event = 'evt_' .. id
    redis.call('HSET', P .. 'outbox:' .. event, 'id', event, 'job_id', id,
               'type', 'job.' .. job[4], 'occurred_at', at, 'callback_url', job[3],
               'attempts', 0)
    redis.call('ZADD', P .. 'outbox', string.format('%.3f', now), event)
  end
  note(id, 'state')
end
"""
)

# ARGV id, token, attempt, lease in ms, time, worker, deadline: seconds, seconds per second of sound.
# Refuses what is terminal, what another process holds, and a delivery of an attempt that is over.
# Asking again is harmless.
CLAIM: Final = (
    COMMON
    + """
local id, token = ARGV[1], ARGV[2]
local key, lease = job_key(id), P .. 'lease:' .. id
local job = redis.call('HMGET', key, 'state', 'attempt', 'token')
if not is_open(job[1]) or job[2] ~= ARGV[3] then return 0 end
local holder = redis.call('GET', lease)
if holder and holder ~= token then return 0 end
redis.call('SET', lease, token, 'PX', ARGV[4])
if job[3] == token and job[1] == 'running' then return 1 end
local accepted = redis.call('ZSCORE', P .. 'open', id)
redis.call('HDEL', P .. 'quarantine', id)
if ARGV[3] == '1' and accepted then observe('queued', math.max(0, stamp() - tonumber(accepted))) end
redis.call('HSET', key, 'state', 'running', 'stage', 'validating', 'token', token,
           'started_at', ARGV[5], 'worker', ARGV[6])
redis.call('HDEL', key, 'frames_done', 'frames_total', 'timings_s')
if ARGV[7] ~= '' then
  local sound_s = tonumber(redis.call('HGET', key, 'audio_s') or '0')
  local deadline = stamp() + tonumber(ARGV[7]) + tonumber(ARGV[8]) * sound_s
  redis.call('HSETNX', key, 'deadline_at', string.format('%.3f', deadline))
end
note(id, 'state')
return 1
"""
)

# ARGV id, token, attempt, lease in ms, queue, holder: takes a job from a queue before the renderers' without
# changing its state.
CLAIM_WAITING: Final = (
    COMMON
    + """
local id, token, lease = ARGV[1], ARGV[2], P .. 'lease:' .. ARGV[1]
local job = redis.call('HMGET', job_key(id), 'state', 'attempt', 'queue')
if job[1] ~= 'queued' or job[2] ~= ARGV[3] or job[3] ~= ARGV[5] then return 0 end
local holder = redis.call('GET', lease)
if holder and holder ~= token then return 0 end
redis.call('SET', lease, token, 'PX', ARGV[4])
redis.call('HSET', job_key(id), 'token', token, 'worker', ARGV[6])
if ARGV[5] == 'validate' then
  redis.call('HSET', job_key(id), 'stage', 'validating')
  note(id, 'progress')
end
return 1
"""
)

# ARGV id, holder: its lease ends now, if it is still the holder. One that lives all the same takes it up again
# with its next RENEW, unless the job was given to somebody else before.
FREE: Final = (
    COMMON
    + """
local id = ARGV[1]
local job = redis.call('HMGET', job_key(id), 'worker', 'token')
if job[1] ~= ARGV[2] or not job[2] then return 0 end
if redis.call('GET', P .. 'lease:' .. id) ~= job[2] then return 0 end
redis.call('DEL', P .. 'lease:' .. id)
return 1
"""
)

# ARGV id, token, lease in ms.
RENEW: Final = (
    COMMON
    + """
if redis.call('HGET', job_key(ARGV[1]), 'token') ~= ARGV[2] then return 0 end
redis.call('SET', P .. 'lease:' .. ARGV[1], ARGV[2], 'PX', ARGV[3])
return 1
"""
)

# ARGV id, token, then fields and values. 0 = not ours, 1 = go on, 2 = stop: cancelled.
REPORT: Final = (
    COMMON
    + """
local key = job_key(ARGV[1])
local job = redis.call('HMGET', key, 'token', 'cancel_requested_at')
if job[1] ~= ARGV[2] then return 0 end
redis.call('HSET', key, unpack(ARGV, 3))
note(ARGV[1], 'progress')
if job[2] then return 2 end
return 1
"""
)

# ARGV id, token, time, preset or '', seconds of rendering per second of video, seconds of
# rendering, then fields and values.
FINISH: Final = (
    COMMON
    + """
local id = ARGV[1]
local key = job_key(id)
if redis.call('HGET', key, 'token') ~= ARGV[2] then return 0 end
redis.call('HSET', key, unpack(ARGV, 7))
if ARGV[4] ~= '' then
  for field, sample in pairs({[ARGV[4]] = ARGV[5], job = ARGV[6]}) do
    local known = redis.call('HGET', P .. 'speed', field)
    local value = tonumber(sample)
    if known then value = (1 - WEIGHT) * tonumber(known) + WEIGHT * value end
    redis.call('HSET', P .. 'speed', field, string.format('%.6f', value))
  end
end
conclude(id, ARGV[3])
return 1
"""
)

# ARGV id, attempt or '' for any, time, then fields and values: ends an open job that nobody is
# asked about; a process that runs it notices at its next report.
END: Final = (
    COMMON
    + """
local id = ARGV[1]
local key = job_key(id)
local job = redis.call('HMGET', key, 'state', 'attempt')
if not is_open(job[1]) then return 0 end
if ARGV[2] ~= '' and job[2] ~= ARGV[2] then return 0 end
redis.call('HSET', key, unpack(ARGV, 4))
conclude(id, ARGV[3])
return 1
"""
)

# ARGV id, time. -1 = unknown, 0 = ended otherwise, 1 = is cancelled, 2 = will be.
CANCEL: Final = (
    COMMON
    + """
local id, key = ARGV[1], job_key(ARGV[1])
local state = redis.call('HGET', key, 'state')
if not state then return -1 end
if state == 'cancelled' then return 1 end
if not is_open(state) then return 0 end
redis.call('HSETNX', key, 'cancel_requested_at', ARGV[2])
if state == 'running' then return 2 end
redis.call('HSET', key, 'state', 'cancelled')
conclude(id, ARGV[2])
return 1
"""
)

# ARGV id. Nothing of the job stays but the word that it is gone, which also fences off its worker.
DELETE: Final = (
    COMMON
    + STORE_BYTES_FUNCTION
    + """
local id, key = ARGV[1], job_key(ARGV[1])
local job = redis.call('HMGET', key, 'id', 'principal', 'idempotency')
if not job[1] then return 0 end
redis.call('SET', P .. 'gone:' .. id, '1', 'EX', DELETED_TTL_S)
redis.call('DEL', key, P .. 'lease:' .. id, P .. 'events:' .. id, P .. 'outbox:evt_' .. id)
if job[3] then redis.call('DEL', job[3]) end
redis.call('ZREM', P .. 'outbox', 'evt_' .. id)
redis.call('HDEL', P .. 'quarantine', id)
redis.call('ZREM', P .. 'expire', id)
redis.call('ZREM', P .. 'open', id)
redis.call('ZREM', P .. 'media', id)
redis.call('ZREM', P .. 'open:' .. (job[2] or ''), id)
redis.call('ZREM', P .. 'jobs:' .. (job[2] or ''), id)
store_bytes(id, 0)
return 1
"""
)

# ARGV id, reason: kept aside only while it waits, for who says so may be later than the job's end.
KEEP_WAITING_ASIDE: Final = (
    COMMON
    + """
local id = ARGV[1]
if redis.call('HGET', job_key(id), 'state') ~= 'queued' then return 0 end
if redis.call('HSET', P .. 'quarantine', id, ARGV[2]) == 0 then return 0 end
count('quarantined')
return 1
"""
)

# KEYS outbox; ARGV now, most events, seconds for which they are kept from others.
TAKE_DUE: Final = (
    COMMON
    + """
local taken = {}
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
for _, event in ipairs(due) do
  local fields = redis.call('HGETALL', P .. 'outbox:' .. event)
  if #fields == 0 then
    redis.call('ZREM', KEYS[1], event)
  else
    redis.call('ZADD', KEYS[1], tonumber(ARGV[1]) + tonumber(ARGV[3]), event)
    taken[#taken + 1] = fields
  end
end
return taken
"""
)
