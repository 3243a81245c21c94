from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.errors import EncodingError
from model.media.encoders import choose_encoder, encoder_arguments, encoder_fault
from model.media.video_writer import VideoWriter

FAULT = encoder_fault("h264_nvenc")
without_nvenc = pytest.mark.skipif(FAULT is None, reason="this machine has NVENC")


def test_x264_works_and_is_the_default() -> None:
    assert encoder_fault("libx264") is None
    assert choose_encoder("libx264") == "libx264"
    assert encoder_arguments("libx264", 18)[:4] == ["-c:v", "libx264", "-crf", "18"]


def test_nvenc_is_asked_for_a_quality_and_no_rate() -> None:
    arguments = encoder_arguments("h264_nvenc", 20)
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    assert options["-c:v"] == "h264_nvenc"
    assert (options["-rc"], options["-cq"], options["-b:v"]) == ("vbr", "20", "0")


@without_nvenc
def test_without_a_card_auto_is_x264_and_nvenc_is_refused_in_a_sentence() -> None:
    assert FAULT and "Unrecognized option" not in FAULT
    assert choose_encoder("auto") == "libx264"
    with pytest.raises(EncodingError, match=r"cannot encode with h264_nvenc .*libx264 encodes on"):
        choose_encoder("h264_nvenc")


@without_nvenc
def test_a_film_whose_encoder_fails_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    frame = np.zeros((64, 64, 3), np.uint8)

    def write() -> None:
        with VideoWriter(tmp_path / "v.mp4", width=64, height=64, encoder="h264_nvenc") as writer:
            for _ in range(50):
                writer.write(frame)

    with pytest.raises(EncodingError, match="ffmpeg could not write"):
        write()
    assert not list(tmp_path.iterdir())
