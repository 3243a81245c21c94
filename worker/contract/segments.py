"""A long job's segments: who draws which, and which are drawn. The ledger's part of `worker.team`.

    segments:<id>       hash     plan; done:<n> = key of its file
    segment:<id>:<n>    string   holder's name, colon, token of what draws it; Redis lets it expire

The job stays its worker's; a segment is lent to whoever asks for one, and is free again when its lease
lapses, or when somebody sees that its holder is gone (`holders`). What is drawn stays drawn, also when the
job goes to another worker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, cast

from redis import Redis

from worker.contract.ledger_scripts import PREFIX
from worker.contract.queues import RENDER_QUEUE, call_helpers, open_queue, queue_key

ALL_DRAWN: Final = -1
NOT_WANTED: Final = -2
ALL_TAKEN: Final = -3
_KEPT_S: Final = 86_400

_KEYS: Final = (
    f"local JOB, SEGMENTS, SEGMENT = '{PREFIX}job:', '{PREFIX}segments:', '{PREFIX}segment:'\n"
    """
local function is_wanted(id)
  local job = redis.call('HMGET', JOB .. id, 'state', 'cancel_requested_at')
  return job[1] == 'running' and not job[2]
end
"""
)
# ARGV id, token, milliseconds, plan, number of segments. The number of the segment that is lent.
_CLAIM: Final = (
    _KEYS
    + f"local ALL_DRAWN, NOT_WANTED, ALL_TAKEN = {ALL_DRAWN}, {NOT_WANTED}, {ALL_TAKEN}\n"
    + """
local key = SEGMENTS .. ARGV[1]
if not is_wanted(ARGV[1]) or redis.call('HGET', key, 'plan') ~= ARGV[4] then return NOT_WANTED end
local answer = ALL_DRAWN
for number = 0, tonumber(ARGV[5]) - 1 do
  if redis.call('HEXISTS', key, 'done:' .. number) == 0 then
    local lease = SEGMENT .. ARGV[1] .. ':' .. number
    if redis.call('SET', lease, ARGV[2], 'NX', 'PX', ARGV[3]) then
      return number
    end
    answer = ALL_TAKEN
  end
end
return answer
"""
)
# ARGV id, token, milliseconds, number. Whether it is still ours, and wanted.
_RENEW: Final = (
    _KEYS
    + """
local lease = SEGMENT .. ARGV[1] .. ':' .. ARGV[4]
if not is_wanted(ARGV[1]) or redis.call('GET', lease) ~= ARGV[2] then return 0 end
return redis.call('PEXPIRE', lease, ARGV[3])
"""
)
# ARGV id, token, number, key of the file (or nothing: it is given back). Whether it counts.
_SETTLE: Final = (
    _KEYS
    + """
local lease = SEGMENT .. ARGV[1] .. ':' .. ARGV[3]
if redis.call('GET', lease) ~= ARGV[2] then return 0 end
redis.call('DEL', lease)
if ARGV[4] == '' then return 1 end
return redis.call('HSETNX', SEGMENTS .. ARGV[1], 'done:' .. ARGV[3], ARGV[4])
"""
)


def segments_key(job_id: str) -> str:
    """Of the hash that a divided job has."""
    return f"{PREFIX}segments:{job_id}"


@dataclass(frozen=True)
class SegmentPlan:
    """How a video is divided.

    Args:
        num_frames: Of the whole.
        segment_frames: Of each segment but the last.
        renderer: What draws; only the same draws the same pictures.
    """

    num_frames: int
    segment_frames: int
    renderer: str

    @property
    def count(self) -> int:
        """Number of segments."""
        return -(-self.num_frames // self.segment_frames)

    def borders(self, number: int) -> tuple[int, int]:
        """First frame of a segment, and the frame behind its last."""
        start = number * self.segment_frames
        return start, min(start + self.segment_frames, self.num_frames)

    @property
    def text(self) -> str:
        """The same in one line."""
        return f"{self.num_frames} {self.segment_frames} {self.renderer}"

    @classmethod
    def of(cls, text: str) -> SegmentPlan:
        """From `text`."""
        num_frames, segment_frames, renderer = text.split(" ", 2)
        return cls(int(num_frames), int(segment_frames), renderer)


class Segments:
    """The segments of one job in one Redis; every method may raise `redis.RedisError`.

    Args:
        redis: A client.
        job_id: The job.
        lease_s: How long a segment is lent without a `renew`, in seconds.
    """

    def __init__(self, redis: Redis, job_id: str, lease_s: float) -> None:
        self._redis = redis
        self._job_id = job_id
        self._lease_ms = int(lease_s * 1000)
        self._key = segments_key(job_id)
        self._claim = redis.register_script(_CLAIM)
        self._renew = redis.register_script(_RENEW)
        self._settle = redis.register_script(_SETTLE)

    def plan(self) -> SegmentPlan | None:
        """How the job is divided; None if it is not."""
        text = cast(bytes | None, self._redis.hget(self._key, "plan"))
        return None if text is None else SegmentPlan.of(text.decode())

    def begin(self, plan: SegmentPlan) -> None:
        """Divide the job; what was drawn under another plan counts no more."""
        if self.plan() == plan:
            return
        with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.delete(self._key)
            pipeline.hset(self._key, "plan", plan.text)
            pipeline.expire(self._key, _KEPT_S)
            pipeline.execute()

    def others_wait(self) -> bool:
        """Whether a delivery of another job waits for a renderer."""
        waiting = cast(list[bytes], self._redis.lrange(queue_key(RENDER_QUEUE), 0, -1))
        return any(not entry.decode().startswith(self._job_id) for entry in waiting)

    def call_helpers(self, attempt: int, count: int) -> None:
        """Ask other workers to help with an attempt, by deliveries of the queue; some may not come."""
        with self._redis.pipeline(transaction=True) as pipeline:
            queue = open_queue(self._redis, RENDER_QUEUE)
            call_helpers(queue, pipeline, self._job_id, attempt, count)
            pipeline.execute()

    def claim(self, token: str, plan: SegmentPlan) -> int:
        """Borrow a segment that nobody draws: its number, or why there is none."""
        arguments: list[str | int] = [self._job_id, token, self._lease_ms, plan.text, plan.count]
        return int(self._claim(args=arguments))

    def renew(self, number: int, token: str) -> bool:
        """Keep a segment for longer; False if it is no longer ours, or not wanted."""
        return bool(self._renew(args=[self._job_id, token, self._lease_ms, number]))

    def finish(self, number: int, token: str, key: str) -> bool:
        """Say that a segment is drawn and where; False if it was somebody else's by then."""
        return bool(self._settle(args=[self._job_id, token, number, key]))

    def give_back(self, number: int, token: str) -> None:
        """Let others have a segment at once."""
        self._settle(args=[self._job_id, token, number, ""])

    def free(self, is_gone: Callable[[str], bool]) -> None:
        """Let others have the segments of holders that are gone."""
        plan = self.plan()
        if plan is None:
            return
        keys = [f"{PREFIX}segment:{self._job_id}:{number}" for number in range(plan.count)]
        tokens = cast(list[bytes | None], self._redis.mget(keys))
        for number, token in enumerate(tokens):
            if token is not None and is_gone(token.decode().rpartition(":")[0]):
                # Only if it is still theirs: it may be drawn, or lent anew, by now.
                self.give_back(number, token.decode())

    def drawn(self) -> dict[int, str]:
        """Keys of the files of the segments that are drawn, by number."""
        fields = cast(Mapping[bytes, bytes], self._redis.hgetall(self._key))
        return {
            int(name.removeprefix(b"done:")): key.decode()
            for name, key in fields.items()
            if name.startswith(b"done:")
        }

    def forget(self) -> None:
        """The job has ended."""
        self._redis.delete(self._key)
