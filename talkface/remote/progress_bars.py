"""Jobs of a service as progress bars on standard error; nothing where that is no terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from talkface.terminal import STAGE_TITLES

if TYPE_CHECKING:
    from talkface_client import JobPublic

_TITLES: Final = {stage.value: title for stage, title in STAGE_TITLES.items()}


class JobBars:
    """A bar for each job that is under way, and one for all of a batch.

    Args:
        total: Videos of the batch; 1 shows no bar for all.
    """

    def __init__(self, total: int = 1) -> None:
        console = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._all: TaskID | None = None
        if total > 1:
            self._all = self._bars.add_task("all videos", total=total, left="")

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def add(self, name: str) -> TaskID:
        """A video begins."""
        return self._bars.add_task(f"{name}: sending", total=1.0, left="")

    def show(self, bar: TaskID, name: str, job: JobPublic) -> None:
        """How its job stands: place in the queue or stage, and the time that is left."""
        left = "" if job.eta_s is None else f"about {job.eta_s:.0f} s left"
        self._bars.update(
            bar, description=f"{name}: {describe(job)}", completed=job.progress, left=left
        )

    def end(self, bar: TaskID) -> None:
        """It is done, well or not."""
        self._bars.remove_task(bar)
        if self._all is not None:
            self._bars.advance(self._all)


def describe(job: JobPublic) -> str:
    """What is going on with a job, in a few words."""
    if job.state.value == "queued" and job.stage is None:
        place = job.queue_position
        return "waiting" if not place else f"waiting behind {place}"
    return _TITLES.get(job.stage or "", job.stage or job.state.value)
