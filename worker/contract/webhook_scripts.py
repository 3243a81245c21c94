"""What the outbox does in one step inside Redis beside taking what is due."""

from __future__ import annotations

from typing import Final

from worker.contract.ledger_scripts import COMMON

# ARGV id, what became of its webhook as JSON; nothing is written of a job that was deleted meanwhile.
NOTE_WEBHOOK: Final = (
    COMMON
    + """
if redis.call('EXISTS', job_key(ARGV[1])) == 0 then return 0 end
redis.call('HSET', job_key(ARGV[1]), 'webhook', ARGV[2])
return 1
"""
)

# ARGV id, what becomes of its webhook as JSON: the event of a job that has ended is due now, once more.
REDELIVER: Final = (
    COMMON
    + """
local id, event = ARGV[1], 'evt_' .. ARGV[1]
local job = redis.call('HMGET', job_key(id), 'state', 'callback_url', 'finished_at')
if not job[1] or is_open(job[1]) or not job[2] then return 0 end
redis.call('HSET', P .. 'outbox:' .. event, 'id', event, 'job_id', id, 'type', 'job.' .. job[1],
           'occurred_at', job[3], 'callback_url', job[2], 'attempts', 0)
redis.call('ZADD', P .. 'outbox', string.format('%.3f', stamp()), event)
redis.call('HSET', job_key(id), 'webhook', ARGV[2])
return 1
"""
)
