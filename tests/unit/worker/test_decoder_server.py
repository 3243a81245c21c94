"""Decoding in another process, by a socket: what compose's decoder container does."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.watermark.embedder import WatermarkEmbedder
from service.provenance.watermark import Mark, look_for_mark
from tests.films import H264, ffmpeg
from tests.uploads import picture, tone
from worker.contract.errors import ErrorCode, IntakeError
from worker.contract.intake import decoder_orders
from worker.contract.intake.confinement import confinement
from worker.contract.intake.decoder_orders import DecoderAwayError
from worker.contract.intake.decoder_server import make_server
from worker.contract.intake.entry import take_in
from worker.contract.intake.limited_child import run_limited
from worker.contract.intake.limits import IntakeLimits
from worker.contract.intake.uploads import Uploads
from worker.contract.messages import SamplingOptions
from worker.contract.watermark import payload_of

LIMITS = IntakeLimits()


@pytest.fixture
def decoder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    # Not below tmp_path: the name of a unix socket has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="tf-decoder-") as folder:
        path = Path(folder) / "decoder.sock"
        with make_server(path) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            monkeypatch.setattr(confinement, "socket", path)
            yield path
            server.shutdown()
            thread.join()


@pytest.mark.usefixtures("decoder")
def test_uploads_are_decoded_elsewhere_as_they_are_here(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(picture())
    (tmp_path / "audio").write_bytes(tone(0.5))
    uploads = Uploads(audio=tmp_path / "audio", images=(tmp_path / "image",))

    job_input = take_in(uploads, tmp_path, SamplingOptions(), LIMITS)

    assert job_input.audio.seconds == 0.5
    assert (tmp_path / "input.png").is_file() and (tmp_path / "speech.flac").is_file()


@pytest.mark.usefixtures("decoder")
def test_a_watermark_is_looked_for_elsewhere_with_keys_that_only_one_child_has(
    tmp_path: Path,
) -> None:
    key, other, job_id = bytes(range(32)), bytes(32), "0123456789ab" + "c" * 20
    grey = np.full((256, 256, 3), 128, np.uint8)
    WatermarkEmbedder(key, payload_of(key, job_id), width=256, height=256).apply(grey)
    Image.fromarray(grey).save(tmp_path / "frame.png")
    film = tmp_path / "film.mp4"
    ffmpeg("-loop", "1", "-i", tmp_path / "frame.png", "-frames:v", "3", *H264, film)

    assert look_for_mark(film, [other, key], tmp_path) == Mark(True, job_id[:12])
    assert look_for_mark(film, [other], tmp_path) == Mark(found=False)
    (tmp_path / "film.mp4").write_bytes(tone(0.5))
    assert look_for_mark(film, [key], tmp_path) is None


@pytest.mark.usefixtures("decoder")
def test_its_bounds_hold_and_are_told(tmp_path: Path) -> None:
    (tmp_path / "audio").write_bytes(tone(0.5))
    uploads = Uploads(audio=tmp_path / "audio", images=(tmp_path / "audio",))

    with pytest.raises(IntakeError) as caught:
        take_in(uploads, tmp_path, SamplingOptions(), replace(LIMITS, wall_clock_s=0.0))

    assert caught.value.code in (ErrorCode.UNDECODABLE_MEDIA, ErrorCode.UNSUPPORTED_MEDIA_TYPE)


def test_it_runs_no_program_of_another_name(decoder: Path) -> None:
    with pytest.raises(DecoderAwayError):
        run_limited(["/bin/sh", "-c", "true"], LIMITS.child(1), what="test")

    assert os.stat(decoder).st_mode & 0o777 == 0o600


def test_a_server_that_is_away_is_no_fault_of_the_upload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confinement, "socket", tmp_path / "absent")
    monkeypatch.setattr(decoder_orders, "_PATIENCE_S", 0.0)

    with pytest.raises(DecoderAwayError, match="no decoder server"):
        run_limited(["ffmpeg"], LIMITS.child(1), what="test")
