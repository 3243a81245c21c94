"""What a caller may choose is what the pipeline takes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, get_args

import pytest

from model.media.frames import Ending
from model.pipelines.framing import SHAPES
from model.pipelines.options import RenderOptions
from model.pipelines.presets import MOST_STRENGTH, STRENGTHS, Frame
from worker.contract.messages import INTAKE_OPTIONS, WRITER_OPTIONS, SamplingOptions
from worker.contract.option_types import MOST_MOTION, FrameName, VideoShorter
from worker.render_request import RenderRequest
from worker.runtime import render_options

FILES: dict[str, Any] = {"speech": Path("s"), "sound": None, "output": Path("o")}


def request(options: SamplingOptions, **files: Any) -> RenderRequest:
    return RenderRequest(**{"image": Path("i"), **FILES, **files}, options=options)


def test_every_option_of_a_caller_is_one_of_the_pipeline() -> None:
    options = {field.name for field in dataclasses.fields(RenderOptions)}

    # what the intake has carried out is not drawn, nor what is put on finished frames
    others = INTAKE_OPTIONS | WRITER_OPTIONS
    assert options >= {*SamplingOptions.model_fields} - others
    assert not options & others
    assert render_options(request(SamplingOptions())).preset == SamplingOptions().preset


@pytest.mark.parametrize("chosen", [{"seconds": 2.0}, {"audio_offset_ms": -120}])
def test_what_the_intake_has_done_changes_nothing_that_is_drawn(chosen: dict[str, Any]) -> None:
    assert {*chosen} <= INTAKE_OPTIONS
    assert render_options(request(SamplingOptions(**chosen))) == render_options(
        request(SamplingOptions())
    )


def test_parts_come_from_what_the_intake_found() -> None:
    options = SamplingOptions.model_validate({"ranges": "1-2", "video_shorter": "freeze"})
    files: dict[str, Any] = {"image": None, "video": Path("v"), "dubbed": ((1.0, 1.9),)}

    chosen = render_options(request(options, **files))

    assert (chosen.dubbed, chosen.video_shorter) == (((1.0, 1.9),), "freeze")
    assert render_options(request(SamplingOptions())).dubbed is None


def test_both_sides_know_the_same_words() -> None:
    assert get_args(Ending) == get_args(VideoShorter)
    assert get_args(Frame) == get_args(FrameName) == ("source", *SHAPES)


def test_photographs_move_and_blink_unless_told_otherwise() -> None:
    usual = render_options(request(SamplingOptions()))
    still = render_options(request(SamplingOptions(motion="still", blink=False)))

    assert (usual.motion, usual.blink, usual.loop) == ("natural", True, False)
    assert (still.motion_strength, still.blink) == (0.0, False)


def test_a_driver_decides_how_heads_move_and_a_video_moves_by_itself() -> None:
    driven = render_options(request(SamplingOptions(blink=False), driving=Path("d")))
    dubbed = render_options(request(SamplingOptions(), image=None, video=Path("v")))

    assert (driven.motion, driven.blink) == (None, False)
    assert (dubbed.motion, dubbed.blink, dubbed.loop) == (None, None, False)


@pytest.mark.parametrize("name", STRENGTHS)
def test_both_sides_know_the_same_motions(name: str) -> None:
    assert SamplingOptions(motion=name).motion == name  # type: ignore[arg-type]
    assert MOST_MOTION == MOST_STRENGTH
