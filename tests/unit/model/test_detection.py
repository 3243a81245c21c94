from __future__ import annotations

import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from model.errors import (
    CheckpointError,
    FaceIndexError,
    FaceTooSmallError,
    MissingDependencyError,
    NoFaceError,
)
from model.face.detection import DetectedFace, MediaPipeFaceDetector, select_face
from model.face.detectors import load_detector
from model.face.face_alignment_detector import FaceAlignmentDetector, find_weights

# The astronaut's face lies in here: left, top, right, bottom in pixels.
FACE_AREA = (160, 50, 290, 210)


@pytest.fixture(scope="module")
def mediapipe_detector() -> MediaPipeFaceDetector:
    return MediaPipeFaceDetector()


@pytest.fixture(scope="module")
def astronaut() -> DetectedFace:
    [face] = MediaPipeFaceDetector()(skimage.data.astronaut())
    return face


def scaled(picture: np.ndarray, factor: float) -> np.ndarray:
    height, width = picture.shape[:2]
    size = (round(width * factor), round(height * factor))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def face_of_size(size_px: float) -> DetectedFace:
    landmarks = np.random.default_rng(0).uniform(0, size_px, (68, 2)).astype(np.float32)
    landmarks[0], landmarks[1] = (0, 0), (size_px, size_px)
    return DetectedFace.from_landmarks(landmarks, 0.9)


def test_the_astronaut_is_found(astronaut: DetectedFace) -> None:
    left, top, right, bottom = astronaut.bbox_xyxy

    assert astronaut.landmarks.shape == (68, 2)
    assert astronaut.landmarks.dtype == np.float32
    assert FACE_AREA[0] < left < right < FACE_AREA[2]
    assert FACE_AREA[1] < top < bottom < FACE_AREA[3]
    assert 0.5 <= astronaut.score <= 1


def test_the_points_are_in_ibug_order(astronaut: DetectedFace) -> None:
    # "Left" and "right" as the picture shows them: index 0 is at the picture's left edge.
    x, y = astronaut.landmarks.T

    assert x[0] < x[8] < x[16], "jaw: ear, chin, ear"
    assert y[8] > max(y[0], y[16]), "the chin is the lowest"
    assert np.all(np.diff(x[17:22]) > 0), "left brow"
    assert np.all(np.diff(x[22:27]) > 0), "right brow"
    assert x[21] < x[22], "brows do not cross"
    assert np.all(np.diff(y[27:31]) > 0), "bridge runs down"
    assert np.all(np.diff(x[31:36]) > 0), "nostrils"
    assert x[36] < x[39] < x[42] < x[45], "eye corners"
    assert np.all(y[[37, 38, 43, 44]] < y[[41, 40, 47, 46]]), "upper lids over lower lids"
    assert x[48] < x[51] < x[54], "mouth corners and middle of the upper lip"
    assert y[51] < y[62] <= y[66] < y[57], "lips from top to bottom"
    assert x[48] <= x[60] < x[64] <= x[54], "inner corners inside the outer ones"
    assert y[17:27].max() < y[36:48].max() < y[30] < y[51] < y[57] < y[8], "brows to chin"


def test_the_inner_lips_enclose_the_teeth(astronaut: DetectedFace) -> None:
    # She smiles: between the lips lie bright, colourless teeth, on the lower lip red skin.
    picture = skimage.data.astronaut().astype(np.float32)
    colourfulness = np.ptp(picture, axis=-1)
    x, y = astronaut.landmarks.T
    teeth = colourfulness[int((y[62] + y[66]) / 2), int(x[62]) - 2 : int(x[62]) + 3]
    lip = colourfulness[int((y[66] + y[57]) / 2), int(x[57]) - 2 : int(x[57]) + 3]

    assert teeth.mean() + 10 < lip.mean()


def turned(picture: np.ndarray, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """The picture turned against the clock on a larger grey ground, and the affine map `(2, 3)`."""
    height, width = picture.shape[:2]
    side = int(np.hypot(height, width))
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    turn[:, 2] += (side - width) / 2, (side - height) / 2
    return cv2.warpAffine(picture, turn, (side, side), borderValue=(128, 128, 128)), turn


@pytest.mark.parametrize("degrees", range(0, 360, 45))
@pytest.mark.parametrize("portrait", ["astronaut", "example"])
def test_a_face_at_any_angle_has_its_landmarks_where_they_are(
    mediapipe_detector: MediaPipeFaceDetector, portrait: str, degrees: int
) -> None:
    picture = skimage.data.astronaut()
    if portrait == "example":
        example = Image.open(Path(__file__).parents[3] / "examples" / "portrait.jpg")
        picture = np.asarray(example.convert("RGB").resize((512, 512)))
    [upright] = mediapipe_detector(picture)

    seen, turn = turned(picture, degrees)
    face = mediapipe_detector(seen)[0]

    expected = upright.landmarks @ turn[:, :2].T + turn[:, 2]
    error = np.linalg.norm(face.landmarks - expected, axis=1).mean() / upright.size_px
    assert error < 0.03


def test_noise_has_no_face(mediapipe_detector: MediaPipeFaceDetector) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)

    assert mediapipe_detector(noise) == []
    assert mediapipe_detector(np.full((240, 320, 3), 255, np.uint8)) == []


def test_a_scaled_picture_gives_scaled_landmarks(
    mediapipe_detector: MediaPipeFaceDetector, astronaut: DetectedFace
) -> None:
    [face] = mediapipe_detector(scaled(skimage.data.astronaut(), 2.0))

    error_px = np.linalg.norm(face.landmarks / 2 - astronaut.landmarks, axis=1)
    assert error_px.mean() < 0.03 * astronaut.size_px


def test_several_faces_come_largest_first(mediapipe_detector: MediaPipeFaceDetector) -> None:
    portrait = skimage.data.astronaut()[0:300, 80:380]
    small = scaled(portrait, 0.7)
    picture = np.full((340, 560, 3), 200, np.uint8)
    picture[20 : 20 + small.shape[0], 10 : 10 + small.shape[1]] = small
    picture[20:320, 240:540] = portrait

    faces = mediapipe_detector(picture)

    assert len(faces) == 2
    assert faces[0].size_px > faces[1].size_px
    assert faces[0].landmarks[:, 0].min() > 240 > faces[1].landmarks[:, 0].max()
    assert select_face(faces, 1) is faces[1]


def test_a_small_face_is_found_and_refused(mediapipe_detector: MediaPipeFaceDetector) -> None:
    faces = mediapipe_detector(scaled(skimage.data.astronaut(), 0.45))

    assert len(faces) == 1
    with pytest.raises(FaceTooSmallError, match="at least 64 px"):
        select_face(faces)


def test_selection_takes_the_face_asked_for() -> None:
    faces = [face_of_size(200), face_of_size(100)]

    assert select_face(faces) is faces[0]
    assert select_face(faces, 1) is faces[1]


@pytest.mark.parametrize("size_px", [30, 63.4])
def test_selection_refuses_a_small_face(size_px: float) -> None:
    with pytest.raises(FaceTooSmallError, match=f"{size_px:.0f} px"):
        select_face([face_of_size(size_px)])
    assert select_face([face_of_size(size_px)], min_face_px=20).size_px == pytest.approx(size_px)


def test_selection_without_a_face_says_so() -> None:
    with pytest.raises(NoFaceError, match="No face"):
        select_face([])
    with pytest.raises(FaceIndexError, match=r"face_index is 2.*1 face"):
        select_face([face_of_size(100)], 2)


# --- face-alignment: its real networks, with weights made here ----------------------------------


def box_network(*, finds_a_face: bool) -> dict[str, torch.Tensor]:
    """Weights of S3FD that see one face of 512 px in any picture of 128 px, or none anywhere."""
    from face_alignment.detection.sfd.net_s3fd import s3fd

    torch.manual_seed(0)
    state = s3fd().state_dict()
    for name, values in state.items():
        if "_mbox_" in name:
            values.zero_()
        if name.endswith("_conf.bias"):
            values.copy_(torch.tensor([9.0] * (len(values) - 1) + [0.0]))
    if finds_a_face:
        # The coarsest map has 2 x 2 anchors there; their boxes overlap so much that one remains.
        state["conv7_2_mbox_conf.bias"].copy_(torch.tensor([0.0, 4.0]))
    return state


def small_picture() -> np.ndarray:
    return np.ascontiguousarray(skimage.data.astronaut()[64:192, 160:288])


@pytest.fixture(scope="module")
def weights_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from face_alignment.models import FAN

    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    torch.save(FAN(4).state_dict(), folder / "2DFAN4-11f355bf06.pth.tar")
    torch.save(box_network(finds_a_face=True), folder / "s3fd-619a316812.pth")
    return folder


def test_face_alignment_gives_landmarks_from_a_folder_of_weights(weights_dir: Path) -> None:
    [face] = FaceAlignmentDetector(weights_dir)(small_picture())

    assert face.landmarks.shape == (68, 2)
    assert face.landmarks.dtype == np.float32
    assert face.score == pytest.approx(1 / (1 + np.exp(-4.0)), abs=1e-4)
    # FAN looks at a square of 200 / 195 times the box's sum of sides; no point lies outside it.
    centre, half = 64.0 + 64.0, 512 * 2 * 200 / 195 / 2 + 64
    assert np.abs(face.landmarks - centre).max() < half + 0.12 * 512


def test_face_alignment_agrees_with_the_package_itself(
    weights_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # The package's own loading, its cache filled beforehand: nothing is downloaded.
    from face_alignment import FaceAlignment, LandmarksType

    (tmp_path / "checkpoints").symlink_to(weights_dir)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))

    [ours] = FaceAlignmentDetector()(small_picture())
    package = FaceAlignment(LandmarksType.TWO_D, device="cpu", compile=False)
    [theirs] = package.get_landmarks_from_image(small_picture())

    assert np.array_equal(ours.landmarks, theirs.astype(np.float32))


def test_face_alignment_finds_nothing_without_a_box(weights_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "2DFAN4-11f355bf06.pth.tar").symlink_to(weights_dir / "2DFAN4-11f355bf06.pth.tar")
    torch.save(box_network(finds_a_face=False), tmp_path / "s3fd-619a316812.pth")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert FaceAlignmentDetector(tmp_path)(small_picture()) == []


def test_face_alignment_names_the_files_that_are_absent(weights_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingDependencyError, match=r"2DFAN4-.*https://.*s3fd-.*https://"):
        find_weights(tmp_path)
    (tmp_path / "s3fd-619a316812.pth").symlink_to(weights_dir / "s3fd-619a316812.pth")
    with pytest.raises(MissingDependencyError, match=r"Put there: 2DFAN4-[^;]*$"):
        FaceAlignmentDetector(tmp_path)


class _RunsCode:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("the-weights-ran-code"),))  # type: ignore[return-value]


@pytest.mark.parametrize("content", ["pickle that runs code", "other network", "cut short"])
def test_face_alignment_refuses_weights_that_are_none(
    weights_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "2DFAN4-11f355bf06.pth.tar").symlink_to(weights_dir / "2DFAN4-11f355bf06.pth.tar")
    path = tmp_path / "s3fd-619a316812.pth"
    if content == "pickle that runs code":
        torch.save(_RunsCode(), path)
    elif content == "other network":
        torch.save({"weight": torch.zeros(3)}, path)
    else:
        path.write_bytes((weights_dir / "s3fd-619a316812.pth").read_bytes()[:5_000])

    with pytest.raises(CheckpointError, match="s3fd"):
        FaceAlignmentDetector(tmp_path)
    assert not (tmp_path / "the-weights-ran-code").exists()


# --- by name -------------------------------------------------------------------------------------


def test_detectors_are_loaded_by_name(weights_dir: Path, tmp_path: Path) -> None:
    assert isinstance(load_detector("mediapipe"), MediaPipeFaceDetector)
    chosen = load_detector("face-alignment", weights_dir=weights_dir)
    assert isinstance(chosen, FaceAlignmentDetector)
    with pytest.raises(MissingDependencyError):
        load_detector("face-alignment", weights_dir=tmp_path)
