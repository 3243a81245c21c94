"""`python -m worker.inspection`: looks for faces while jobs wait, so that hopeless ones end early.

Beside that it finds the faces of avatars, and those that somebody asks for (`worker.asset_work`).

CPU only, and no part of the model but the face detector: a portrait without a face is told within
seconds, however many renders stand before it. What is found is a courtesy: the renderer looks for
itself, and a job whose inspection fails for reasons of ours goes on to the renderers.
"""

from __future__ import annotations

import secrets
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model.errors import InputError, ModelError
from model.face.detectors import load_detector
from worker.asset_desk import desk_thread
from worker.asset_work import SharedDetector, inspecting
from worker.contract.artifact_settings import open_store
from worker.contract.artifacts import ArtifactStore
from worker.contract.environment import process_name
from worker.contract.intake.file_names import ORIGINAL, PORTRAIT
from worker.contract.ledger import Ledger
from worker.contract.ledger_records import UnreadableRecordError
from worker.contract.logs import bound, get_logger
from worker.contract.messages import BboxXyxy, JobRecord
from worker.contract.presence import ProcessKind
from worker.contract.queues import INSPECT_FUNCTION, INSPECT_QUEUE, connect
from worker.contract.start import StartError, check_data_dir, read_settings, refuse
from worker.failures import describe
from worker.judging import Portrait, judge_face
from worker.loop import begin, listen
from worker.progress import Heartbeat, Stop
from worker.render_request import read_rgb
from worker.settings import WorkerSettings

if TYPE_CHECKING:
    from model.face.detection import FaceDetector

_log = get_logger("inspection")


@dataclass(frozen=True)
class InspectionContext:
    """What a delivery needs of its process."""

    ledger: Ledger
    store: ArtifactStore
    detector: FaceDetector
    heartbeat: Heartbeat
    lease_s: float


_installed: list[InspectionContext] = []


def install(context: InspectionContext) -> None:
    """Give the deliveries of this process their context; RQ passes them ids only."""
    _installed[:] = [context]


def inspect_portrait(job_id: str, attempt: int) -> None:
    """Look at one job's picture: fail it, or send it on to the renderers.

    Where Redis goes away meanwhile the job is delivered again by the reconciler.

    Raises:
        RuntimeError: No context is installed; this is not an inspecting process.
        redis.RedisError: Redis went away.
    """
    if not _installed:
        raise RuntimeError("inspect_portrait runs in an inspecting process only")
    context, token = _installed[0], secrets.token_hex(16)
    with bound(job_id=job_id):
        try:
            record = context.ledger.claim_waiting(
                job_id, attempt, token, lease_s=context.lease_s, worker=context.heartbeat.worker
            )
        except UnreadableRecordError:
            # It is claimed all the same; the renderers find out what is to be done with it.
            context.ledger.pass_inspection(job_id, token, None)
            return
        if record is None:
            _log.info("inspection_stale", attempt=attempt)
            return
        if not record.is_understood:
            # What it asks for may be another face than we would judge it by.
            context.ledger.pass_inspection(job_id, token, None)
            return
        with (
            bound(request_id=record.request_id),
            context.heartbeat.holding(job_id, token),
        ):
            _inspect(context, record, token)


def _inspect(context: InspectionContext, record: JobRecord, token: str) -> None:
    boxes: list[BboxXyxy] | None = None
    try:
        boxes = _find_faces(context, record)
    except InputError as error:
        context.ledger.fail(record.id, token, describe(error))
        _log.info("inspection_failed_job", code=describe(error).code.value)
        return
    except Exception:  # noqa: BLE001  the job boundary: the renderer will look for itself
        _log.warning("inspection_impossible", exc_info=True)
    is_ours = context.ledger.pass_inspection(record.id, token, boxes)
    _log.info("inspected", faces=None if boxes is None else len(boxes), is_ours=is_ours)


def _find_faces(context: InspectionContext, record: JobRecord) -> list[BboxXyxy]:
    """Boxes of all faces, largest first, in pixels of the video.

    Raises:
        InputError: The face that the options name is absent, too small, or cannot be drawn.
    """

    def read(name: str) -> NDArray[np.uint8]:
        with context.store.local_copy(f"inputs/{record.id}/{name}") as path:
            return read_rgb(path)

    has_original = record.input.image is not None and record.input.image.has_original
    portrait = Portrait(read(PORTRAIT), (lambda: read(ORIGINAL)) if has_original else None)
    options = record.input.options
    faces = judge_face(context.detector, portrait, options.face_index, check=options.check_face)
    return [face.bbox_xyxy for face in faces]


def main() -> int:
    """Run until SIGTERM or SIGINT; the exit status."""
    # `python -m` runs this file under another name, while RQ imports it under its own.
    from worker import inspection

    try:
        settings = read_settings(WorkerSettings)
        begin("inspection", settings.log_level, INSPECT_FUNCTION, inspection.inspect_portrait)
        check_data_dir(settings.data_dir)
        store = open_store(settings)
        # The thread that looks at avatars asks it as well.
        detector = SharedDetector(
            load_detector(settings.detector, weights_dir=settings.face_alignment_dir, device="cpu")
        )
        detector(np.full((192, 192, 3), 128, np.uint8))
    except StartError as error:
        refuse(error)
    except ModelError as error:
        refuse(StartError(f"the face detector cannot be loaded: {error}"))
    name, stop = process_name(), Stop()
    ledger = Ledger(connect(settings.redis_url))
    beats = Ledger(connect(settings.redis_url, name=name))
    kind = ProcessKind.INSPECTOR
    with Heartbeat(beats, name, settings.lease_s, settings.stall_s, kind=kind) as heartbeat:
        inspection.install(
            inspection.InspectionContext(ledger, store, detector, heartbeat, settings.lease_s)
        )
        with desk_thread(settings.redis_url, store, "inspect", inspecting(store, detector), stop):
            listen(settings.redis_url, name, stop, INSPECT_QUEUE)
    _log.info("inspection_stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
