"""Windows around head and shoulders: of wide pictures, full bodies, small scans, narrow ones, and films."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from model.face.landmarks import INNER_LIPS
from model.media.window import Mat, Window, WindowedFrames
from model.pipelines.framing import LEAST_PX, SHAPES, choose_window, head_boxes
from model.pipelines.options import RenderOptions
from model.pipelines.outputs import RenderPlan
from model.pipelines.presets import Frame
from model.pipelines.talking_face import TalkingFacePipeline
from tests.unit.model.conftest import make_face
from tests.unit.model.test_dubbing import Moved, draw, shown

Image = NDArray[np.uint8]
FRAMES: list[Frame] = ["square", "portrait", "landscape"]


def face_at(x: float, y: float, size: float) -> NDArray[np.float32]:
    """A face whose crop is `size` pixels and has its corner at (x, y)."""
    return (make_face(0.02) * size + np.array((x, y))).astype(np.float32)


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize(
    ("size", "place"),
    [
        ((3000, 2000), (1300, 500, 240)),  # a wide picture
        ((1600, 3200), (700, 150, 200)),  # a full body
        ((1600, 3200), (20, 20, 200)),  # in the corner
        ((900, 900), (150, 130, 560)),  # a close-up
        ((400, 520), (100, 130, 200)),  # a passport's
        ((301, 201), (120, 60, 70)),  # a small scan
    ],
)
def test_a_window_holds_the_head_and_lies_in_the_picture(
    frame: Frame, size: tuple[int, int], place: tuple[float, float, float]
) -> None:
    faces = face_at(*place)[None]

    framed = choose_window(faces, size, frame)

    window, mat = framed.window, framed.mat
    assert window.left >= 0 and window.left + window.width <= size[0]
    assert window.top >= 0 and window.top + window.height <= size[1]
    head = np.clip(head_boxes(faces)[0], 0, (*size, *size))
    assert window.left <= head[0] + 1 and head[2] - 1 <= window.left + window.width
    assert window.top <= head[1] + 1 and head[3] - 1 <= window.top + window.height
    out = (window.out_width, window.out_height) if mat is None else (mat.width, mat.height)
    assert out[0] % 2 == out[1] % 2 == 0 and min(out) >= LEAST_PX - 2
    shape = SHAPES[frame]
    assert out[0] / out[1] == pytest.approx(shape.width / shape.height, rel=0.012)
    # Neither is stretched.
    across, down = window.out_width / window.width, window.out_height / window.height
    assert across == pytest.approx(down, rel=0.015)


def test_large_pictures_keep_their_own_pixels() -> None:
    framed = choose_window(face_at(1300, 500, 300)[None], (3000, 2000), "square")
    picture = np.random.default_rng(0).integers(0, 255, (2000, 3000, 3), np.uint8)

    cut = framed.window.cut(picture)

    x, y = framed.window.left, framed.window.top
    assert framed.mat is None and cut.shape[0] == cut.shape[1]
    np.testing.assert_array_equal(cut, picture[y : y + cut.shape[0], x : x + cut.shape[1]])


def test_a_small_scan_is_enlarged_and_a_bound_is_kept() -> None:
    faces = face_at(60, 50, 80)[None]

    small = choose_window(faces, (200, 260), "square").window
    bounded = choose_window(face_at(300, 100, 900)[None], (4000, 3000), "square", 1080).window

    assert (small.out_width, small.out_height) == (512, 512) and small.width <= 200
    assert (bounded.out_width, bounded.out_height) == (1080, 1080) and bounded.width > 1080


def test_a_films_window_holds_the_heads_whole_way() -> None:
    faces = np.stack([face_at(400 + 12 * n, 200 + 2 * n, 200) for n in range(40)])

    window = choose_window(faces, (1920, 1080), "portrait").window

    heads = head_boxes(faces)
    assert window.left <= heads[:, 0].min() and heads[:, 2].max() <= window.left + window.width
    assert window.top <= heads[:, 1].min() + 1 and heads[:, 3].max() <= window.top + window.height


def test_points_go_where_pixels_go() -> None:
    window = Window(left=30, top=20, width=100, height=80, out_width=200, out_height=160)
    picture = np.zeros((150, 160, 3), np.uint8)
    picture[60:62, 70:72] = 255

    points = window.place(np.array([(71.0, 61.0)], np.float32))

    bright = np.argwhere(window.cut(picture)[..., 0] > 100).mean(axis=0)[::-1] + 0.5
    np.testing.assert_allclose(points[0], bright, atol=0.6)


def test_a_mat_is_the_blur_of_the_pictures_edge() -> None:
    picture = np.zeros((100, 60, 3), np.uint8)
    picture[:, :, 0], picture[:50, :, 1] = 200, 100
    mat = Mat(left=50, top=0, width=160, height=100)

    laid = mat.lay(picture)

    np.testing.assert_array_equal(laid[:, 50:110], picture)
    assert laid.shape == (100, 160, 3)
    assert 195 < laid[50, 10, 0] < 205 and 30 < laid[50, 10, 1] < 70 and laid[50, 10, 2] < 5
    assert np.abs(np.diff(laid[:, 10].astype(int), axis=0)).max() < 12
    around = mat.around(np.zeros((100, 60), np.bool_))
    assert around.sum() == 100 * 100


@pytest.mark.parametrize("frame", FRAMES)
def test_a_photograph_is_framed_around_the_face_that_speaks(
    pipeline: TalkingFacePipeline, portrait: Image, speech: NDArray[np.float32], frame: Frame
) -> None:
    # Two people; the smaller one, on the right, is number 1.
    group = np.full((700, 1500, 3), 205, np.uint8)
    group[40:640, 80:680] = cv2.resize(portrait, (600, 600))
    group[150:600, 950:1400] = cv2.resize(portrait, (450, 450))

    options = RenderOptions(preset="preview", face_index=1, frame=frame, motion="natural")
    plan = pipeline.prepare(group, speech, options)
    drawn = draw(pipeline, plan, 0, 2)

    assert drawn.shape == (2, plan.height, plan.width, 3)
    assert plan.height % 2 == plan.width % 2 == 0 and plan.frame == frame
    x0, y0, x1, y1 = plan.face_bbox_xyxy
    # In the middle, but for a window that the picture's edge stops.
    assert 0.25 * plan.width < (x0 + x1) / 2 < 0.75 * plan.width
    assert 0.2 * plan.height < (y0 + y1) / 2 < 0.7 * plan.height
    mouth = plan.target_landmarks[0, list(INNER_LIPS)].mean(axis=0)
    left, top = (0, 0) if plan.mat is None else (plan.mat.left, plan.mat.top)
    at = cv2.transform(mouth[None, None], cv2.invertAffineTransform(plan.crop_affine))[0, 0]
    assert x0 < at[0] + left < x1 and y0 < at[1] + top < y1


def test_a_film_is_framed_by_one_window(
    pipeline: TalkingFacePipeline, portrait: Image, speech: NDArray[np.float32], tmp_path: Path
) -> None:
    class Wide(Moved):
        """The head on the right of a wide film."""

        def __init__(self) -> None:
            super().__init__(portrait, 12, gaps=False)
            self.width, self.height = 960, 540

        def read(self, start: int, stop: int):  # type: ignore[no-untyped-def]
            for frame in super().read(start, stop):
                yield cv2.copyMakeBorder(frame, 100, 120, 520, 120, cv2.BORDER_REPLICATE)

    source = Wide()
    options = RenderOptions(preset="preview", frame="square")
    plan = pipeline.prepare_video(source, speech, options)

    assert plan.footage is not None and plan.footage.window is not None
    window = plan.footage.window
    assert (plan.width, plan.height) == (window.out_width, window.out_height) == (512, 512)
    drawn, own = draw(pipeline, plan), shown(plan)
    assert drawn.shape == (23, 512, 512, 3)
    for index in (0, 5, 11):
        mask = pipeline.soft_mask(plan, index)
        np.testing.assert_array_equal(drawn[index][~mask], own[index][~mask])
        assert 0.01 < mask.mean() < 0.3
    x0, y0, x1, y1 = plan.face_bbox_xyxy
    assert 100 < x0 < x1 < 412 and 60 < y0 < y1 < 480

    plan.save(tmp_path / "plan.npz")
    read = RenderPlan.load(tmp_path / "plan.npz", source)
    assert read.footage is not None and isinstance(read.footage.frames, WindowedFrames)
    np.testing.assert_array_equal(draw(pipeline, read, 0, 1), drawn[:1])
