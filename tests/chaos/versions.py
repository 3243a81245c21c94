"""Two releases over one Redis, killed at random: nothing lost, nothing doubled, nothing misread.

    python -m tests.chaos.versions --seconds 300

The previous release (tests/previous_release.py) and this tree with one option more, each with an
API, a reconciler and two workers. Callers post to both, look at a job through the API that did not
accept it, cancel some and delete some. A job with the new option has to be drawn by the release
that knows it. The last line reads `accepted N, kills N, N lost, N doubled`; the exit status is 0
if nothing was, and 2 where this checkout has no history to take the previous release from.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from redis import Redis

from tests.chaos.code_trees import CHOSEN, OPTION, CodeTrees, lay_out
from tests.chaos.deployment import Deployment
from tests.chaos.judgement import Report, drain, judge, judge_tidiness
from tests.chaos.processes import Storm, Victim
from tests.chaos.storm import command_line
from tests.chaos.version_clients import Posted, VersionClients
from tests.films import film
from tests.previous_release import NoHistoryError
from worker.contract.ledger_scripts import job_key
from worker.contract.queues import connect

WORKERS_OF_EACH = 2
NO_HISTORY = 2
"""Exit status where the previous release cannot be laid out."""


@dataclass
class VersionsReport(Report):
    """What a storm over two releases left."""

    posts: Counter[str] = field(default_factory=Counter)
    drawn_by: Counter[str] = field(default_factory=Counter)
    passed_on: int = 0
    looks: Counter[str] = field(default_factory=Counter)
    misread: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return super().is_clean and not self.misread

    def more_lines(self) -> list[str]:
        looks = ", ".join(f"{what} {count}" for what, count in sorted(self.looks.items()))
        return [
            f"accepted by: {dict(self.posts)}; drawn by: {dict(self.drawn_by)}; "
            f"passed on: {self.passed_on} times",
            f"answers: {looks}",
            *(f"MISREAD {line}" for line in self.misread),
        ]


def run(seconds: float, seed: int, pause_s: tuple[float, float], folder: Path) -> VersionsReport:
    """One storm over two releases and the counting after it.

    Args:
        seconds: Length of the storm.
        seed: Of the kills and of the callers' choices.
        pause_s: Shortest and longest time between two kills.
        folder: An empty folder with a short name, for everything.

    Raises:
        NoHistoryError: The previous release cannot be taken from this checkout.
    """
    report = VersionsReport()
    trees, deployment = lay_out(folder), Deployment(folder)
    with (
        socket.create_server(("127.0.0.1", 0), backlog=512) as old,
        socket.create_server(("127.0.0.1", 0), backlog=512) as new,
    ):
        storm = Storm(_victims(deployment, trees, old, new), folder, seed, pause_s)
        urls = {
            name: f"http://127.0.0.1:{listener.getsockname()[1]}"
            for name, listener in (("previous", old), ("next", new))
        }
        clients = VersionClients(
            urls, deployment.redis_url, seed, film(folder / "film.mp4").read_bytes()
        )
        try:
            storm.start()
            clients.start()
            storm.rage(seconds)
            clients.end()
            with connect(deployment.redis_url) as redis:
                drain(report, redis, storm)
                report.kills, report.refused = storm.kills, clients.refused
                judge(
                    report,
                    clients.accepted,
                    redis,
                    deployment,
                    signed=False,
                    cancelled=clients.cancelled,
                    deleted=clients.deleted,
                )
                judge_tidiness(report, redis, deployment)
                _judge_releases(report, clients, redis, folder)
                report.passed_on = _count_in_logs(folder, "job_passed_on")
        finally:
            clients.end()
            storm.end()
    return report


def _victims(
    deployment: Deployment, trees: CodeTrees, old: socket.socket, new: socket.socket
) -> list[Victim]:
    numbers = range(1, WORKERS_OF_EACH + 1)
    return [
        deployment.redis(),
        deployment.api("previous api", old, trees.previous),
        deployment.api("next api", new, trees.next),
        deployment.reconciler("previous reconciler", trees.previous),
        deployment.reconciler("next reconciler", trees.next),
        deployment.validator("next validator", trees.next),
        deployment.signer(trees.next),
        *(deployment.worker(f"previous worker {number}", trees.previous) for number in numbers),
        *(deployment.worker(f"next worker {number}", trees.next) for number in numbers),
    ]


def _judge_releases(
    report: VersionsReport, clients: VersionClients, redis: Redis, folder: Path
) -> None:
    """Who drew a job, and whether its options are still those that its caller chose."""
    report.looks, report.misread = clients.looks, clients.misread
    takers = _takers(folder)
    takers_of: dict[str, set[str]] = {}
    for (job_id, _), releases in takers.items():
        takers_of.setdefault(job_id, set()).update(releases)
    for posted in clients.accepted.values():
        report.posts[f"{posted.api}{f' with {OPTION}' if posted.has_option else ''}"] += 1
        names = ["state", "attempt", "input"]
        state, attempt, job_input = cast(list[bytes | None], redis.hmget(job_key(posted.id), names))
        if posted.id in clients.gone and state is not None:
            report.misread.append(f"{posted.id} was deleted and is there")
        if posted.has_option and "previous" in takers_of.get(posted.id, set()):
            report.misread.append(f"{posted.id} has {OPTION} and was taken by the previous release")
        if attempt is None or job_input is None:
            continue
        report.misread += _wrong_options(posted, json.loads(job_input)["options"])
        if state == b"succeeded":
            drawn_by = takers.get((posted.id, int(attempt)), set())
            report.drawn_by[" or ".join(sorted(drawn_by)) or "nobody"] += 1
            if posted.has_option and drawn_by != {"next"}:
                report.misread.append(f"{posted.id} has {OPTION} and was drawn by {drawn_by}")


def _takers(folder: Path) -> dict[tuple[str, int], set[str]]:
    """Which releases took an attempt of a job, by what their workers logged when they began."""
    takers: dict[tuple[str, int], set[str]] = {}
    for log in folder.glob("*-worker-*.log"):
        for line in log.read_text(errors="replace").splitlines():
            if '"job_started"' not in line:
                continue
            # A line that a killed process left unfinished begins nothing that ended.
            with contextlib.suppress(json.JSONDecodeError):
                entry = json.loads(line)
                taken = (str(entry["job_id"]), int(entry["attempt"]))
                takers.setdefault(taken, set()).add(log.name.partition("-")[0])
    return takers


def _wrong_options(posted: Posted, options: dict[str, object]) -> Iterable[str]:
    wanted: dict[str, object] = {"seed": posted.seed}
    if posted.has_option:
        wanted[OPTION] = CHOSEN
    if options != wanted:
        yield f"{posted.id}: options {options} are stored, expected {wanted}"


def _count_in_logs(folder: Path, event: str) -> int:
    return sum(
        path.read_text(errors="replace").count(f'"{event}"') for path in folder.glob("*.log")
    )


def main() -> int:
    """The command; 0 if nothing was lost, doubled, misread or left lying about."""
    try:
        return command_line(__doc__.splitlines()[0], run)
    except NoHistoryError as error:
        print(error)
        return NO_HISTORY


if __name__ == "__main__":
    sys.exit(main())
