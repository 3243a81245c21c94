"""The renderer without a model: real files through the real encoder."""

from __future__ import annotations

import subprocess
import wave
from dataclasses import replace
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from model.media.video_reader import read_frames
from tests.films import film
from worker.contract.intake.file_names import VIDEO
from worker.contract.intake.limits import IntakeLimits
from worker.contract.intake.sounds import accept_audio
from worker.contract.intake.videos import accept_video
from worker.contract.messages import SamplingOptions, Stage
from worker.contract.results import VideoUse
from worker.progress import HandBackError
from worker.render_request import RenderRequest
from worker.renderers import load_renderer
from worker.settings import WorkerSettings
from worker.stage_clock import StageClock
from worker.test_card import TestCardRenderer


class Diary:
    """A sink that writes down what it is told, and may ask to stop."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.stages: list[Stage] = []
        self.done: list[tuple[int, int]] = []
        self._stop_at = stop_at

    def stage(self, stage: Stage) -> None:
        self.stages.append(stage)

    def frames(self, done: int, total: int) -> None:
        self.done.append((done, total))
        if self._stop_at is not None and done >= self._stop_at:
            raise HandBackError


@pytest.fixture
def request_(tmp_path: Path) -> RenderRequest:
    Image.new("RGB", (64, 48), "teal").save(tmp_path / "input.png")
    with wave.open(str(tmp_path / "upload"), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(48_000)
        out.writeframes(bytes(2 * 48_000))
    speech, sound = tmp_path / "speech.flac", tmp_path / "sound.flac"
    accept_audio(tmp_path / "upload", speech, sound, IntakeLimits())
    return RenderRequest(
        tmp_path / "input.png", speech, sound, tmp_path / "out.mp4", SamplingOptions(fps=20)
    )


def test_it_writes_a_video_of_the_sounds_length_and_tells_its_progress(
    request_: RenderRequest,
) -> None:
    diary = Diary()

    result = TestCardRenderer().render(request_, diary)

    assert (result.num_frames, result.width, result.height) == (20, 64, 48)
    assert result.seconds == 1.0
    assert diary.stages == [Stage.GENERATING, Stage.ENCODING]
    assert diary.done == [(0, 20), (8, 20), (16, 20), (20, 20)]
    assert set(result.timings_s) == {"generating", "encoding"}
    listing = subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-i", request_.output],
        capture_output=True,
        text=True,
        check=False,
    ).stderr
    assert "Video: h264" in listing
    assert "Audio: aac" in listing


@pytest.mark.parametrize("seconds", [0.6, 2.0])
def test_a_video_is_shown_frame_by_frame_and_back_again(
    request_: RenderRequest, tmp_path: Path, seconds: float
) -> None:
    accept_video(
        film(tmp_path / "film.mp4", seconds=seconds), tmp_path / VIDEO, IntakeLimits(), fps=20.0
    )
    source = list(read_frames(tmp_path / VIDEO, fps=None))

    result = TestCardRenderer().render(
        replace(request_, image=None, video=tmp_path / VIDEO), Diary()
    )

    assert (result.num_frames, result.width, result.height) == (20, 160, 90)
    assert result.video == VideoUse(
        source_frames=len(source), held_frames=(), looped=len(source) < 20
    )
    shown = list(read_frames(request_.output, fps=None))
    order = [*range(20)] if len(source) > 20 else [*range(12), *range(10, 2, -1)]
    for index, number in enumerate(order):
        # The bar has gone by, and the encoder is lossy.
        rest = np.abs(shown[index].astype(int) - source[number])[:, 8 * index + 24 or None :]
        assert not rest.size or rest.mean() < 6


@pytest.mark.parametrize(
    "changes",
    [{"image": None}, {"video": Path("v")}, {"image": None, "video": Path("v"), "driving": Path()}],
)
def test_a_request_is_for_an_image_or_for_a_video(
    request_: RenderRequest, changes: dict[str, Path | None]
) -> None:
    with pytest.raises(ValueError, match="image"):
        replace(request_, **changes)


def test_an_interrupted_render_leaves_no_file(request_: RenderRequest) -> None:
    with pytest.raises(HandBackError):
        TestCardRenderer().render(request_, Diary(stop_at=8))

    assert not request_.output.exists()


def test_the_settings_name_the_renderer() -> None:
    renderer = load_renderer(WorkerSettings(renderer="test-card"))

    assert renderer.info.model_name == "test-card"


def test_the_stage_clock_counts_interleaved_stages_apart() -> None:
    clock = StageClock()
    clock.enter(Stage.GENERATING)
    for _ in range(3):
        with clock.aside(Stage.ENCODING):
            pass
    clock.enter(None)

    assert set(clock.rounded()) == {"generating", "encoding"}
    assert clock.timings_s["generating"] >= 0.0
