"""What a storm left: every accepted job has one end, one file that plays and one webhook."""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import imageio_ffmpeg
from redis import Redis, RedisError

from service.provenance.reader import read_report
from service.provenance.trust import Trust
from service.provenance.verdict import judge as judge_report
from tests.chaos.deployment import Deployment
from tests.chaos.processes import Storm
from worker.contract.artifacts import ArtifactNotFoundError, ArtifactStore
from worker.contract.ending import media_names
from worker.contract.ledger import Ledger
from worker.contract.messages import JobRecord, JobState
from worker.contract.quarantine import Quarantine

DRAIN_S = 240.0
TIDY_S = 90.0


@dataclass
class Report:
    """What a storm left."""

    accepted: int = 0
    refused: int = 0
    kills: Mapping[str, int] = field(default_factory=dict)
    states: Counter[str] = field(default_factory=Counter)
    attempts: Counter[int] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    untidy: list[str] = field(default_factory=list)
    webhooks: int = 0
    webhooks_repeated: int = 0
    drain_s: float = 0.0

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.doubled or self.untidy)

    def more_lines(self) -> list[str]:
        """What a special kind of storm has to add."""
        return []

    def lines(self) -> list[str]:
        kills = ", ".join(f"{name} {count}" for name, count in self.kills.items())
        return [
            f"kills: {kills}",
            f"states: {dict(self.states)}; attempts needed: {dict(sorted(self.attempts.items()))}",
            f"posts that were refused or broken off: {self.refused}; drained in {self.drain_s:.0f} s",
            f"webhooks: {self.webhooks} events, {self.webhooks_repeated} delivered again under "
            "the same id",
            *self.more_lines(),
            *(f"LOST {line}" for line in self.lost),
            *(f"DOUBLED {line}" for line in self.doubled),
            *(f"UNTIDY {line}" for line in self.untidy),
            f"accepted {self.accepted}, kills {sum(self.kills.values())}, "
            f"{len(self.lost)} lost, {len(self.doubled)} doubled",
        ]


def wait_until(condition: Callable[[], bool], limit_s: float) -> bool:
    """Whether `condition` came true within the limit; Redis may be away meanwhile."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        try:
            if condition():
                return True
        except RedisError:
            pass
        time.sleep(0.2)
    return False


def drain(report: Report, redis: Redis, storm: Storm) -> None:
    """Wait until no job is open and no webhook is due, with all processes alive."""

    def is_drained() -> bool:
        storm.tend()
        return not redis.zcard("tf:{j}:open") and not redis.zcard("tf:{j}:outbox")

    began = time.monotonic()
    wait_until(is_drained, DRAIN_S)
    report.drain_s = time.monotonic() - began


def judge(
    report: Report,
    accepted: Collection[str],
    redis: Redis,
    deployment: Deployment,
    *,
    signed: bool = True,
    cancelled: Collection[str] = (),
    deleted: Collection[str] = (),
) -> None:
    """Look at every accepted job.

    Args:
        report: Is filled.
        accepted: Ids that were answered with 202.
        redis: A client.
        deployment: Where the files and the webhooks are.
        signed: Every video has to be signed by this installation; older releases do not sign.
        cancelled: Jobs that a client asked to cancel; they may have succeeded all the same.
        deleted: Jobs that a client asked to delete; they may be gone.
    """
    ledger, store = Ledger(redis), deployment.store
    trust = deployment.trust if signed else None
    events_of = _webhooks(report, deployment.deliveries)
    report.accepted = len(accepted)
    for job_id in accepted:
        hooks = events_of.get(job_id, set())
        if len(hooks) > 1:
            report.doubled.append(f"{job_id}: webhooks {hooks}")
        record = ledger.get(job_id)
        if record is None and job_id in deleted:
            report.states["deleted"] += 1
            continue
        if record is None or not record.state.is_terminal:
            report.lost.append(f"{job_id}: {'unknown' if record is None else record.state.value}")
            continue
        report.states[record.state.value] += 1
        report.attempts[record.attempt] += 1
        if reason := _wrong_end(record, store, trust, may_be_cancelled=job_id in cancelled):
            report.lost.append(f"{job_id}: {reason}")
        ends = [event for event in ledger.read_events(job_id) if event.state.is_terminal]
        if len(ends) != 1:
            report.doubled.append(f"{job_id}: {len(ends)} terminal events")
        if not hooks:
            report.lost.append(f"{job_id}: no webhook")


def judge_tidiness(report: Report, redis: Redis, deployment: Deployment) -> None:
    """Wait for the sweep, then name what is left all the same."""
    wait_until(lambda: not _untidy(redis, deployment), TIDY_S)
    report.untidy += _untidy(redis, deployment)


def _webhooks(report: Report, deliveries: Path) -> dict[str, set[str]]:
    """The webhooks of each job, by what the receiver was told."""
    told = Counter(deliveries.read_text().splitlines()) if deliveries.exists() else Counter()
    events_of: dict[str, set[str]] = {}
    jobs_of: dict[str, set[str]] = {}
    for line in told:
        event_id, job_id, kind = line.split()
        events_of.setdefault(job_id, set()).add(f"{event_id} {kind}")
        jobs_of.setdefault(event_id, set()).add(job_id)
    report.webhooks = len(told)
    report.webhooks_repeated = sum(told.values()) - len(told)
    report.doubled += [f"{event}: {jobs}" for event, jobs in jobs_of.items() if len(jobs) > 1]
    return events_of


def _wrong_end(
    record: JobRecord, store: ArtifactStore, trust: Trust | None, *, may_be_cancelled: bool
) -> str:
    """Why an ended job did not end as it should, or an empty string."""
    if record.state is JobState.CANCELLED and may_be_cancelled:
        return ""
    if record.state is not JobState.SUCCEEDED:
        return f"{record.state.value}: {record.failure}"
    return _broken(record, store, trust)


def _broken(record: JobRecord, store: ArtifactStore, trust: Trust | None) -> str:
    """What is wrong with a job's video, or an empty string."""
    assert record.result is not None
    try:
        with store.local_copy(record.result.key) as path:
            if hashlib.sha256(path.read_bytes()).hexdigest() != record.result.sha256:
                return "the file is not the one that was recorded"
            if trust is not None:
                with path.open("rb") as stream:
                    found = judge_report(read_report(stream, "video/mp4", trust))
                if found.verdict != "ours":
                    return f"unsigned: {found.verdict} {found.problems}"
            ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
            arguments = [ffmpeg, "-v", "error", "-i", str(path), "-f", "null", "-"]
            played = subprocess.run(arguments, capture_output=True, text=True)
            return played.stderr.strip()
    except ArtifactNotFoundError:
        return "there is no file"


def _untidy(redis: Redis, deployment: Deployment) -> list[str]:
    """What is left that nobody needs: files, entries of RQ, jobs kept aside that have ended."""
    ledger, store, data_dir = Ledger(redis), deployment.store, deployment.data_dir
    left = [f"inputs/{name}" for name in store.names("inputs") if ledger.get(name) is None]
    # After the end nothing of the caller's is left but the video.
    left += [
        f"inputs/{job_id}/{name}"
        for job_id in store.names("inputs")
        if ledger.has_ended(job_id)
        for name in media_names(store, job_id)
    ]
    for job_id in store.names("results"):
        record = ledger.get(job_id)
        wanted: set[str] = set()
        if record is not None and record.result is not None:
            stem = Path(record.result.key).stem
            wanted = {f"{stem}.mp4", f"{stem}.json", f"{stem}.jpg"}
        left += [
            f"results/{job_id}/{name}"
            for name in store.names(f"results/{job_id}")
            if name not in wanted
        ]
    left += [
        f"{folder}/{name}"
        for folder, _, names in os.walk(data_dir / "artifacts")
        for name in names
        if name.startswith(".incoming-")
    ]
    left += [str(path) for path in (data_dir / "scratch").glob("*")]
    for pattern in ("rq:job:*", "rq:wip:*", "rq:queue:*"):
        left += [key.decode() for key in cast(list[bytes], redis.keys(pattern))]
    left += [f"quarantine: {job_id}" for job_id in Quarantine(redis).ids()]
    return left
