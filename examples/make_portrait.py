"""Make examples/portrait.jpg: the aligned average of studio portraits, a photograph of nobody.

    python examples/make_portrait.py PORTRAITS_FOLDER [--output examples/portrait.jpg]

`PORTRAITS_FOLDER` holds pictures of the Face Research Lab London Set (DeBruine & Jones 2017, CC BY
4.0), neutral and front, scaled to 768 x 768 px and named frl_neutral_front_<identity>_03.jpg.
People whose hair is tied back or short are averaged, so that the outline of the head stays crisp.

Each picture is warped, triangle by triangle, so that its points come to lie on the mean of all of
them: the 478 points of MediaPipe's face mesh, the outline of the hair, the neck, and the frame. A
plain average of such pictures is smoother than a photograph, because pores and hairs fall on
different places; the fine bands of the average are therefore raised to the energy that they have in
a single picture (the idea of Tiddeman, Burt & Perrett 2001, "Prototyping and transforming facial
textures for perception research").
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Delaunay

IDENTITIES = (
    *(2, 6, 11, 14, 16, 19, 20, 25, 27, 30, 66, 83, 94, 97, 99),
    *(100, 102, 107, 112, 122, 124, 126, 135, 139),
)
SIZE_PX = 768
LIP_GAP_TO_WIDTH_MAX = 0.05
INNER_LIPS = ((13, 14), (312, 317), (82, 87))
MOUTH_CORNERS = (61, 291)
CHIN, FOREHEAD, LEFT_CHEEK, RIGHT_CHEEK = 152, 10, 234, 454
NECK_POINTS = 6
BANDS, GAIN_MAX = 4, 1.8
CROP = np.s_[72:712, 66:706]

Picture = NDArray[np.float32]
Points = NDArray[np.float32]


def read_picture(path: Path) -> NDArray[np.uint8]:
    """A picture `(H, W, 3)` uint8 RGB.

    Raises:
        SystemExit: It is no picture.
    """
    picture = cv2.imread(str(path))
    if picture is None:
        raise SystemExit(f"{path} is not a picture that OpenCV reads")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)


def mesh_points(mesh: Any, picture: NDArray[np.uint8]) -> Points:
    """The 478 mesh points of the face in `picture` `(H, W, 3)` RGB: `(478, 2)` float32, pixels."""
    found = mesh.process(picture).multi_face_landmarks
    if not found:
        raise SystemExit("no face found; expected a frontal portrait")
    height, width = picture.shape[:2]
    return np.array([(p.x * width, p.y * height) for p in found[0].landmark], np.float32)


def lip_gap(points: Points) -> float:
    """Mean gap between the inner lips as a fraction of the mouth's width."""
    gaps = [np.linalg.norm(points[upper] - points[lower]) for upper, lower in INNER_LIPS]
    return float(
        np.mean(gaps) / np.linalg.norm(points[MOUTH_CORNERS[0]] - points[MOUTH_CORNERS[1]])
    )


def outline_points(picture: NDArray[np.uint8], points: Points) -> Points:
    """Where hair, ears and neck end: 25 rays over the head, 3 rows of the neck, `(31, 2)` pixels.

    The studio wall is lighter than any hair; the wall's own colour is taken from both edges of each
    row.
    """
    blurred = cv2.GaussianBlur(picture, (0, 0), 2.0).astype(np.float32)
    wall = np.concatenate([blurred[:, :40], blurred[:, -40:]], axis=1)
    wall = np.median(wall, axis=1, keepdims=True)
    person = (np.abs(blurred - wall).max(axis=2) > 22).astype(np.uint8)
    person = cv2.morphologyEx(person, cv2.MORPH_CLOSE, np.ones((15, 15), np.uint8))
    person = cv2.morphologyEx(person, cv2.MORPH_OPEN, np.ones((21, 21), np.uint8))

    centre = (points[LEFT_CHEEK] + points[RIGHT_CHEEK]) / 2
    outline = []
    reach = np.arange(SIZE_PX // 2, dtype=np.float32)
    for angle in np.deg2rad(np.linspace(-105, 105, 25)):
        ray = centre + reach[:, None] * (np.sin(angle), -np.cos(angle))
        x, y = np.clip(ray.round().astype(int), 0, SIZE_PX - 1).T
        outside = np.flatnonzero(person[y, x] == 0)
        outline.append(ray[outside[0] if outside.size else -1])
    face_height = np.linalg.norm(points[CHIN] - points[FOREHEAD])
    for share in (0.02, 0.10, 0.18):
        y = int(points[CHIN, 1] + share * face_height)
        for side in (-1, 1):
            x = int(points[CHIN, 0])
            while 0 < x < SIZE_PX - 1 and person[y, x]:
                x += side
            outline.append(np.array((x, y), np.float32))
    return np.array(outline, np.float32)


def frame_points() -> Points:
    """Points on the picture's edge, which stay where they are: `(32, 2)`, pixels."""
    steps = np.linspace(0, SIZE_PX - 1, 9)[:-1]
    last = float(SIZE_PX - 1)
    edges = [[(s, 0.0), (last, s), (last - s, last), (0.0, last - s)] for s in steps]
    return np.array(edges, np.float32).reshape(-1, 2)


def similarity(points: Points, target: Points) -> NDArray[np.float32]:
    """Rotation, scale and shift `(2, 3)` that bring `points` nearest to `target`, both `(N, 2)`."""
    matrix, _ = cv2.estimateAffinePartial2D(points, target, method=cv2.LMEDS)
    return np.asarray(matrix, np.float32)


def warp(picture: Picture, points: Points, target: Points, triangles: Delaunay) -> Picture:
    """Move `points` of `picture` onto `target`, affinely inside each triangle.

    Args:
        picture: `(H, W, 3)` float32.
        points: `(N, 2)` pixels of `picture`.
        target: `(N, 2)` pixels of the result.
        triangles: Delaunay triangulation of `target`.
    """
    y, x = np.mgrid[0:SIZE_PX, 0:SIZE_PX]
    pixels = np.stack([x, y], axis=-1).reshape(-1, 2).astype(np.float64)
    index = triangles.find_simplex(pixels)
    transform = triangles.transform[index]
    first_two = np.einsum("nij,nj->ni", transform[:, :2], pixels - transform[:, 2])
    weights = np.concatenate([first_two, 1 - first_two.sum(axis=1, keepdims=True)], axis=1)
    source = np.einsum("nk,nkd->nd", weights, points[triangles.simplices[index]])
    source_map = source.reshape(SIZE_PX, SIZE_PX, 2).astype(np.float32)
    unused = np.empty(0, np.float32)  # the second map, when the first has both coordinates
    warped = cv2.remap(
        picture, source_map, unused, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(warped, np.float32)


def bands(picture: Picture) -> tuple[list[Picture], Picture]:
    """Split into `BANDS` differences of Gaussians, finest first, and what is left."""
    fine, rest = [], picture
    for level in range(BANDS):
        blurred = np.asarray(cv2.GaussianBlur(rest, (0, 0), 1.2 * 2**level), np.float32)
        fine.append(rest - blurred)
        rest = blurred
    return fine, rest


def energy(band: Picture, level: int) -> Picture:
    """Local mean square of a band over all colours: `(H, W, 1)`."""
    square = (band**2).mean(axis=2)
    return np.asarray(cv2.GaussianBlur(square, (0, 0), 6.0 * 2**level), np.float32)[..., None]


def head_mask(points: Points) -> Picture:
    """1 inside the hull of `points` `(N, 2)`, softly 0 outside: `(H, W, 1)`."""
    mask = np.zeros((SIZE_PX, SIZE_PX), np.uint8)
    cv2.fillConvexPoly(mask, cv2.convexHull(points.round().astype(np.int32)), 1)
    return np.asarray(cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 4.0), np.float32)[..., None]


def average(pictures: list[Picture], head: Picture) -> Picture:
    """Average pictures `(H, W, 3)`; inside `head` `(H, W, 1)` with one picture's fine detail.

    The middle half of the values is averaged at each pixel, so that a strand of hair or a collar
    that few pictures show leaves no ghost.
    """
    quarter = len(pictures) // 4
    middle = np.sort(np.stack(pictures), axis=0)[quarter:-quarter].mean(axis=0, dtype=np.float32)
    fine, rest = bands(middle)
    single = [np.zeros((SIZE_PX, SIZE_PX, 1), np.float32) for _ in range(BANDS)]
    for picture in pictures:
        for level, band in enumerate(bands(picture)[0]):
            single[level] += energy(band, level) / len(pictures)
    for level, band in enumerate(fine):
        gain = np.clip(np.sqrt(single[level] / (energy(band, level) + 1e-3)), 1.0, GAIN_MAX)
        rest = rest + band * (1 + head * (gain - 1))
    return rest


def make_portrait(folder: Path) -> NDArray[np.uint8]:
    """Average the chosen portraits of `folder`: `(640, 640, 3)` uint8 RGB.

    Raises:
        SystemExit: Fewer than 24 of the portraits are there with a closed mouth.
    """
    from mediapipe.python.solutions import face_mesh

    mesh = face_mesh.FaceMesh(static_image_mode=True, max_num_faces=1, refine_landmarks=True)
    pictures, faces = [], []
    for identity in IDENTITIES:
        path = folder / f"frl_neutral_front_{identity:03d}_03.jpg"
        if not path.is_file():
            continue
        picture = read_picture(path)
        points = mesh_points(mesh, picture)
        if lip_gap(points) <= LIP_GAP_TO_WIDTH_MAX:
            pictures.append(picture)
            faces.append(points)
    if len(pictures) < 24:
        raise SystemExit(f"{folder} has {len(pictures)} usable portraits; expected at least 24")
    print(f"averaging {len(pictures)} portraits")

    # Bring all to one place and size first, so that the triangles only have to mend shapes.
    mean = np.mean(faces, axis=0)
    for number, (picture, points) in enumerate(zip(pictures, faces, strict=True)):
        matrix = similarity(points, mean)
        moved = cv2.warpAffine(
            picture,
            matrix,
            (SIZE_PX, SIZE_PX),
            flags=cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REPLICATE,
        )
        pictures[number] = np.asarray(moved, np.uint8)
        faces[number] = points @ matrix[:, :2].T + matrix[:, 2]
    mean = np.mean(faces, axis=0)

    outlines = np.array([outline_points(p, f) for p, f in zip(pictures, faces, strict=True)])
    middle = np.median(outlines, axis=0)
    # A strand of hair or a pony-tail is not the outline: such points count as ordinary ones.
    stray = np.linalg.norm(outlines - middle, axis=2, keepdims=True) > 0.09 * SIZE_PX
    outlines = np.where(stray, middle, outlines)

    frame = frame_points()
    target = np.concatenate([mean, outlines.mean(axis=0), frame]).astype(np.float32)
    triangles = Delaunay(target)
    warped = [
        warp(
            picture.astype(np.float32), np.concatenate([points, outline, frame]), target, triangles
        )
        for picture, points, outline in zip(pictures, faces, outlines, strict=True)
    ]
    head = head_mask(target[: -len(frame) - NECK_POINTS])
    portrait = np.clip(average(warped, head), 0, 255).round().astype(np.uint8)
    return portrait[CROP]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("portraits", type=Path, help="folder with frl_neutral_front_*_03.jpg")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("portrait.jpg"))
    arguments = parser.parse_args()
    portrait = make_portrait(arguments.portraits)
    cv2.imwrite(
        str(arguments.output),
        cv2.cvtColor(portrait, cv2.COLOR_RGB2BGR),
        [cv2.IMWRITE_JPEG_QUALITY, 93],
    )
    print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main()
