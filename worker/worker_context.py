"""What a worker process is made of, for the deliveries that RQ gives nothing but ids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from worker.contract.answers import DeadlinePolicy
from worker.contract.artifacts import ArtifactStore
from worker.contract.ledger import Ledger
from worker.contract.live_films import LiveFilms
from worker.contract.quarantine import Quarantine
from worker.contract.segments import Segments
from worker.contract.signing import SignerClient
from worker.progress import Heartbeat, Stop
from worker.render_request import Renderer
from worker.team import Split
from worker.video_file import NO_LABEL, Labelling
from worker.watermark import Watermarking


@dataclass(frozen=True)
class WorkerContext:
    """What a delivery needs of its process.

    Args:
        worker: Name of this process.
        ledger: The truth about jobs.
        quarantine: Where jobs go that cannot be read.
        store: Inputs and results.
        renderer: Loaded and warm.
        heartbeat: Keeps the lease.
        stop: Set when this process is asked to stop.
        lease_s: Length of a lease in seconds.
        deadline: How long a job may take, or None for ever.
        broken: Filled with a reason when this process can render no more and has to be replaced.
        signer: Who signs finished videos, or None where the deployment does not sign.
        labelling: The label of videos whose caller chose none.
        watermarking: What marks the pictures of all videos, or None.
        films: Told of videos that are watched while they are drawn; None where none is.
        segments: Those of a job; None where every video is drawn by one worker.
        split: When this worker lets others help it.
    """

    worker: str
    ledger: Ledger
    quarantine: Quarantine
    store: ArtifactStore
    renderer: Renderer
    heartbeat: Heartbeat
    stop: Stop
    lease_s: float
    deadline: DeadlinePolicy | None = None
    broken: list[str] = field(default_factory=list)
    signer: SignerClient | None = None
    labelling: Labelling = NO_LABEL
    watermarking: Watermarking | None = None
    films: LiveFilms | None = None
    segments: Callable[[str], Segments] | None = None
    split: Split | None = None


_installed: list[WorkerContext] = []


def install(context: WorkerContext) -> None:
    """Give the deliveries of this process their context; RQ passes them ids only."""
    _installed[:] = [context]


def installed() -> WorkerContext:
    """The context of this process.

    Raises:
        RuntimeError: There is none; this is not a worker process.
    """
    if not _installed:
        raise RuntimeError("deliveries run in a worker process only (python -m worker)")
    return _installed[0]
