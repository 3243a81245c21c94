"""`python -m worker`: settings, logs, warm up, listen, until a signal."""

from __future__ import annotations

import sys

from model.errors import ModelError
from worker.contract.answers import DeadlinePolicy
from worker.contract.artifact_settings import open_store
from worker.contract.environment import process_name
from worker.contract.ledger import Ledger
from worker.contract.live_films import LiveFilms
from worker.contract.logs import get_logger
from worker.contract.presence import Presence
from worker.contract.quarantine import Quarantine
from worker.contract.queues import JOB_FUNCTION, RENDER_QUEUE, connect
from worker.contract.segments import Segments
from worker.contract.signing import SignerClient, socket_path
from worker.contract.start import StartError, check_data_dir, check_sandbox, read_settings, refuse
from worker.contract.watermark import watermark_key_path
from worker.jobs import render_talking_face
from worker.loop import begin, listen
from worker.progress import Heartbeat, Stop
from worker.renderers import load_renderer
from worker.settings import WorkerSettings
from worker.team import Split
from worker.video_file import Labelling
from worker.watermark import Watermarking
from worker.worker_context import WorkerContext, install

BROKEN = 71
"""Exit status of a process whose device failed; another one may start anew (EX_OSERR)."""
_log = get_logger("worker")


def main() -> int:
    """Run until SIGTERM or SIGINT, or until the device fails; the exit status."""
    try:
        settings = read_settings(WorkerSettings)
        begin("worker", settings.log_level, JOB_FUNCTION, render_talking_face)
        check_data_dir(settings.data_dir)
        check_sandbox(settings.sandbox, settings.decoder_socket)
        watermarking = Watermarking.of(
            settings.watermark, watermark_key_path(settings.data_dir, settings.watermark_key_file)
        )
        store = open_store(settings)
        renderer = load_renderer(settings)
        renderer.warm_up()
    except StartError as error:
        refuse(error)
    except ModelError as error:
        # Weights, a device or a library: none of them comes by trying again.
        refuse(StartError(f"the renderer cannot be loaded: {error}"))
    _log.info("renderer_warm", **renderer.info.model_dump())

    name, stop = process_name(), Stop(settings.grace_s)
    beats = Ledger(connect(settings.redis_url, name=name))
    redis = connect(settings.redis_url)
    with Heartbeat(beats, name, settings.lease_s, settings.stall_s) as heartbeat:
        context = WorkerContext(
            worker=name,
            ledger=Ledger(redis),
            quarantine=Quarantine(redis),
            store=store,
            renderer=renderer,
            heartbeat=heartbeat,
            stop=stop,
            lease_s=settings.lease_s,
            deadline=deadline_policy(settings, renderer.info.device),
            signer=_signer(settings),
            labelling=Labelling(settings.label, settings.label_language),
            watermarking=watermarking,
            films=LiveFilms(redis) if settings.stream else None,
            segments=lambda job_id: Segments(redis, job_id, settings.lease_s),
            split=Split(settings.segment_s, Presence(redis)),
        )
        install(context)
        listen(settings.redis_url, name, stop, RENDER_QUEUE)
    if context.broken:
        _log.error("device_failed", kind=context.broken[0])
        return BROKEN
    _log.info("worker_stopped")
    return 0


def _signer(settings: WorkerSettings) -> SignerClient | None:
    if not settings.content_credentials:
        _log.warning("videos_are_not_signed")
        return None
    return SignerClient(socket_path(settings.data_dir, settings.signer_socket))


def deadline_policy(settings: WorkerSettings, device: str) -> DeadlinePolicy:
    """How long a job may take on a device: what the settings say, else what the device can do."""
    per_audio_s = settings.deadline_per_audio_s
    if per_audio_s is None:
        per_audio_s = 10.0 if device.startswith("cuda") else 60.0
    return DeadlinePolicy(settings.deadline_base_s, per_audio_s)


if __name__ == "__main__":
    sys.exit(main())
