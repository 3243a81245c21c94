"""The order in which deliveries wait: fair shares between callers, inside RQ's own list.

Self-clocked fair queueing (S. J. Golestani, "A self-clocked fair queueing scheme for broadband
applications", INFOCOM 1994). Each delivery gets a finish tag when it comes:

    F = max(V, largest tag of the same share that waits) + cost

Cost is seconds of sound times the measured speed of the preset. V, the virtual time, is the largest
tag of a delivery that has left the list, so a caller who was idle gets no credit for it. A delivery
is inserted before the first one with a larger tag, and workers of any release pop from the left.

    rq:queue:<queue>    list    RQ's: deliveries in the order in which they are taken
    fair:<queue>        zset    `<delivery> <share>` by finish tag
    fair-time:<queue>   string  V

What another release pushed has no tag and keeps its place between its neighbours. What has left the
list is found at the next insertion. When a list has run empty, its tags and V are forgotten.
"""

from __future__ import annotations

from typing import Final

from redis.client import Pipeline

from worker.contract.ledger_scripts import PREFIX, SPEED, job_key

# A job without sound, as an older release may have stored it, must not be free.
_LEAST_COST: Final = 1e-3

# Reads only. The finish tag that a delivery of this job would get now, the first delivery that it
# would stand before (or nil), V, and the tags of deliveries that wait no more.
_FINISH_TAG: Final = (
    f"local LEAST_COST = {_LEAST_COST}\n"
    """
local function finish_tag(waiting, tags, clock, job_key, speed)
  local job = redis.call('HMGET', job_key, 'share', 'principal', 'audio_s', 'preset')
  local share = job[1] or job[2] or ''
  local measured = redis.call('HGET', speed, job[4] or 'balanced')
  local cost = math.max(LEAST_COST, (tonumber(job[3] or '0') or 0) * (tonumber(measured) or 1))
  local is_waiting = {}
  for _, delivery in ipairs(waiting) do is_waiting[delivery] = true end
  local now, last, tag_of, stale, lowest = 0, 0, {}, {}, nil
  if #waiting > 0 then now = tonumber(redis.call('GET', clock) or '0') end
  local entries = redis.call('ZRANGE', tags, 0, -1, 'WITHSCORES')
  for i = 1, #entries, 2 do
    local delivery, owner = string.match(entries[i], '^(%S+) (.*)$')
    local tag = tonumber(entries[i + 1])
    if delivery and is_waiting[delivery] then
      lowest = lowest or tag
      tag_of[delivery] = tag
      if owner == share then last = tag end
    else
      stale[#stale + 1] = entries[i]
      -- Workers take the lowest tag first. What is missing behind one that waits was withdrawn,
      -- so it got no service and V does not count it.
      if #waiting > 0 and tag <= (lowest or tag) then now = math.max(now, tag) end
    end
  end
  local finish, before = math.max(now, last) + cost, nil
  for _, delivery in ipairs(waiting) do
    if not before and tag_of[delivery] and tag_of[delivery] > finish then before = delivery end
  end
  return finish, before, now, stale, share
end
"""
)

# KEYS list, tags, V, job, speed; ARGV delivery, which stands at the end of the list.
_PLACE: Final = (
    _FINISH_TAG
    + """
local list, tags, clock, delivery = KEYS[1], KEYS[2], KEYS[3], ARGV[1]
if redis.call('LREM', list, -1, delivery) == 0 then return 0 end
local waiting = redis.call('LRANGE', list, 0, -1)
local finish, before, now, stale, share = finish_tag(waiting, tags, clock, KEYS[4], KEYS[5])
for _, entry in ipairs(stale) do redis.call('ZREM', tags, entry) end
redis.call('SET', clock, string.format('%.17g', now))
redis.call('ZADD', tags, string.format('%.17g', finish), delivery .. ' ' .. share)
if before then
  redis.call('LINSERT', list, 'BEFORE', before, delivery)
else
  redis.call('RPUSH', list, delivery)
end
return 1
"""
)

# KEYS list, tags, V; ARGV delivery. A withdrawn delivery costs its share nothing.
_WITHDRAW: Final = """
redis.call('LREM', KEYS[1], 0, ARGV[1])
for _, entry in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  if string.match(entry, '^%S+') == ARGV[1] then redis.call('ZREM', KEYS[2], entry) end
end
if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('DEL', KEYS[2], KEYS[3]) end
return 1
"""

# KEYS job, list where it waits, then (if it goes on to the renderers from there) their list, tags
# and V, and speed; ARGV delivery. How many deliveries are in front, -1 = it does not wait.
POSITION: Final = (
    _FINISH_TAG
    + """
if redis.call('HGET', KEYS[1], 'state') ~= 'queued' then return -1 end
local ahead = redis.call('LPOS', KEYS[2], ARGV[1]) or 0
if #KEYS == 2 then return ahead end
local waiting = redis.call('LRANGE', KEYS[3], 0, -1)
local _, before = finish_tag(waiting, KEYS[4], KEYS[5], KEYS[1], KEYS[6])
return ahead + (before and redis.call('LPOS', KEYS[3], before) or #waiting)
"""
)


def tags_key(queue: str) -> str:
    """Finish tags of the deliveries in a queue."""
    return f"{PREFIX}fair:{queue}"


def time_key(queue: str) -> str:
    """Virtual time of a queue."""
    return f"{PREFIX}fair-time:{queue}"


def place(pipeline: Pipeline, list_key: str, queue: str, job_id: str, delivery: str) -> None:
    """Add to an open transaction: move a delivery from the end of its list to its fair place.

    The job's hash says whose it is (`share`, else `principal`) and what it costs.

    Args:
        pipeline: The transaction, in which the delivery was pushed to the end before.
        list_key: RQ's list.
        queue: Name of the queue.
        job_id: The job.
        delivery: The entry of the list.
    """
    keys = [list_key, tags_key(queue), time_key(queue), job_key(job_id), SPEED]
    # The text, not its digest: nothing in a transaction may fail because Redis forgot a script.
    pipeline.eval(_PLACE, len(keys), *keys, delivery)


def withdraw(pipeline: Pipeline, list_key: str, queue: str, delivery: str) -> None:
    """Add to an open transaction: take a delivery out of its list."""
    keys = [list_key, tags_key(queue), time_key(queue)]
    pipeline.eval(_WITHDRAW, len(keys), *keys, delivery)
