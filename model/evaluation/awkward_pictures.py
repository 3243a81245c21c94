"""Photographs made awkward: covered mouths, heads that look away, drawings, bad light.

Each edit takes a picture `(H, W, 3)` uint8 RGB, its face `(68, 2)` in pixels and a generator, and returns a
picture of the same size. `COVERS` hide the mouth, `UNSEEN_COVERS` too, and nothing is chosen on those;
`DRAWINGS` and `LIGHTS` leave it where it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.face.alignment import crop_affine, invert_affine, warp_points
from model.face.average_face import AVERAGE_FACE
from model.face.head_depth import head_depth
from model.face.landmarks import INNER_LIPS, LEFT_EYE, OUTER_LIPS, RIGHT_EYE, mouth_width

Picture = NDArray[np.uint8]
Points = NDArray[np.float32]
Edit = Callable[[Picture, Points, np.random.Generator], Picture]

_TURNED_SIDE: Final = 640
"""Side of the square in which a head is turned, pixels."""


def surgical_mask(image: Picture, face: Points, rng: np.random.Generator) -> Picture:
    """A pleated mask from the nose's bridge to below the chin."""
    colour = np.array(((150, 190, 220), (235, 238, 240), (40, 42, 48))[rng.integers(3)], np.float32)
    outline = np.concatenate([face[1:16], face[[28]] + 0.1 * (face[[30]] - face[[28]])])
    size = _size(face)
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
    pleats = 9 * np.sin((rows - face[33, 1]) * 2 * np.pi / (0.16 * size))
    bulge = -35 * ((columns - face[33, 0]) / (0.6 * size)) ** 2
    cloth = colour + (pleats + bulge + rng.normal(0, 2, rows.shape))[..., None]
    return _over(image, cloth, _hull(image, outline), 0.01 * size)


def cloth_mask(image: Picture, face: Points, rng: np.random.Generator) -> Picture:
    """A mask of patterned cloth."""
    outline = np.concatenate([face[2:15], face[[29]]])
    cloth = _pattern(image.shape[:2], _size(face), rng)
    return _over(image, cloth, _hull(image, outline), 0.01 * _size(face))


def hand(image: Picture, face: Points, rng: np.random.Generator) -> Picture:
    """Fingers of the person's own skin across the mouth."""
    size, width = _size(face), float(mouth_width(face))
    mouth = face[list(OUTER_LIPS)].mean(axis=0)
    skin = _sample(image, (face[2] + face[31]) / 2, 0.05 * size)
    angle = rng.uniform(-0.5, 0.5) + (np.pi if rng.random() < 0.5 else 0.0)
    along = np.array((np.cos(angle), np.sin(angle)))
    across = np.array((-along[1], along[0]))
    out = image.astype(np.float32)
    thick = rng.uniform(0.085, 0.12) * size
    for number in range(4):
        tip = mouth + across * (number - 1.5) * thick * 0.92 + along * width * rng.uniform(0.6, 0.9)
        mask = np.zeros(image.shape[:2], np.uint8)
        end = tip - along * size * 1.4
        cv2.line(mask, _pixel(tip), _pixel(end), 1, max(2, round(thick)))
        distance = cv2.distanceTransform(mask, cv2.DIST_L2, 5) / max(thick / 2, 1)
        shade = (0.62 + 0.38 * np.sqrt(np.clip(distance, 0, 1)))[..., None]
        out = _over(out, skin * shade + rng.normal(0, 1.5, shade.shape), mask, 0.006 * size).astype(
            np.float32
        )
    return np.clip(out, 0, 255).astype(np.uint8)


def hair(image: Picture, face: Points, rng: np.random.Generator) -> Picture:
    """Strands that hang over the mouth."""
    size = _size(face)
    colour = np.array(((35, 25, 20), (90, 60, 35), (170, 140, 95))[rng.integers(3)], np.float32)
    out = image.astype(np.float32)
    for _ in range(260):
        top = face[27] + (rng.normal(0, 0.20) * size, -0.5 * size)
        bottom = face[8] + (rng.normal(0, 0.20) * size, 0.25 * size)
        bend = (top + bottom) / 2 + (rng.normal(0, 0.06) * size, 0)
        t = np.linspace(0, 1, 20)[:, None]
        curve = (1 - t) ** 2 * top + 2 * t * (1 - t) * bend + t**2 * bottom
        curve = curve[curve[:, 1] > face[30, 1] - rng.uniform(0, 0.1) * size]
        if len(curve) > 1:
            tone = (colour * rng.uniform(0.5, 1.5)).tolist()
            points = np.round(curve).astype(np.int32)
            cv2.polylines(out, [points], False, tone, max(1, round(0.012 * size)), cv2.LINE_AA)
    return np.clip(out, 0, 255).astype(np.uint8)


def cup(image: Picture, face: Points, rng: np.random.Generator) -> Picture:
    """A mug held before the mouth."""
    size = _size(face)
    left, right = face[48, 0] - 0.12 * size, face[54, 0] + 0.12 * size
    top, bottom = face[33, 1] + 0.02 * size, face[8, 1] + 0.3 * size
    mask = np.zeros(image.shape[:2], np.uint8)
    cv2.rectangle(mask, _pixel((left, top)), _pixel((right, bottom)), 1, -1)
    rim = ((right - left) / 2, 0.04 * size)
    cv2.ellipse(mask, _pixel(((left + right) / 2, top)), _pixel(rim), 0, 0, 360, 1, -1)
    columns = np.linspace(-1, 1, image.shape[1])
    at = (np.arange(image.shape[1]) - (left + right) / 2) / max((right - left) / 2, 1)
    colour = rng.uniform(40, 250, 3)
    tone = colour * (1.0 - 0.35 * np.clip(at + 0.3, -1, 1)[:, None] ** 2)
    glaze = np.broadcast_to(tone[None], (image.shape[0], len(columns), 3))
    return _over(image, glaze, mask, 0.004 * size)


def pixelated(image: Picture, face: Points, rng: np.random.Generator) -> Picture:
    """The lower face made unrecognisable by large squares."""
    block = max(2, round(rng.uniform(0.09, 0.14) * _size(face)))
    height, width = image.shape[:2]
    small = cv2.resize(
        image, (max(1, width // block), max(1, height // block)), interpolation=cv2.INTER_AREA
    )
    coarse = cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)
    return _over(image, coarse, _hull(image, np.concatenate([face[3:14], face[31:36]])), 0.5)


def skin_patch(image: Picture, face: Points, rng: np.random.Generator) -> Picture:
    """Another part of the picture where the mouth was."""
    size, mouth = _size(face), face[list(OUTER_LIPS)].mean(axis=0)
    for _ in range(20):
        away = rng.uniform(-1.2, 1.2, 2) * size
        if np.abs(away).max() > 0.45 * size:
            break
    shift = np.array([(1, 0, -away[0]), (0, 1, -away[1])], np.float32)
    moved = cv2.warpAffine(image, shift, image.shape[1::-1], borderMode=cv2.BORDER_REFLECT_101)
    mask = np.zeros(image.shape[:2], np.uint8)
    radii = (0.75 * float(mouth_width(face)), 0.22 * size)
    cv2.ellipse(mask, _pixel(mouth), _pixel(radii), 0, 0, 360, 1, -1)
    return _over(image, moved, mask, 0.02 * size)


def scarf(image: Picture, face: Points, rng: np.random.Generator) -> Picture:
    """A scarf up to the nose."""
    size = _size(face)
    top = face[33, 1] - 0.02 * size
    xs = np.linspace(face[0, 0] - 0.3 * size, face[16, 0] + 0.3 * size, 24)
    edge = top + 0.03 * size * np.sin(np.linspace(0, 7, 24) + rng.uniform(0, 6))
    outline = np.concatenate([np.stack([xs, edge], 1), [(xs[-1], 9e3), (xs[0], 9e3)]])
    mask = np.zeros(image.shape[:2], np.uint8)
    cv2.fillPoly(mask, [np.clip(np.round(outline), -9e3, 9e3).astype(np.int32)], 1)
    folds = rng.normal(0, 1, (1 + image.shape[0] // max(4, round(0.06 * size)), 8))
    folds = cv2.resize(folds, image.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    cloth = rng.uniform(30, 220, 3) + 22 * folds[..., None]
    return _over(image, cloth, mask, 0.01 * size)


def microphone(image: Picture, face: Points, rng: np.random.Generator) -> Picture:
    """A microphone's grille right before the mouth."""
    size, mouth = _size(face), face[list(OUTER_LIPS)].mean(axis=0)
    mask = np.zeros(image.shape[:2], np.uint8)
    cv2.circle(mask, _pixel(mouth + np.array((0.0, 0.04)) * size), round(0.24 * size), 1, -1)
    cv2.line(mask, _pixel(mouth), _pixel(mouth + np.array((0.3, 1.2)) * size), 1, round(0.2 * size))
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
    step = max(3.0, 0.03 * size)
    mesh = 35 * (np.sin(rows * 2 * np.pi / step) * np.sin(columns * 2 * np.pi / step))
    metal = rng.uniform(40, 110) + mesh[..., None] * np.ones(3, np.float32)
    return _over(image, metal, mask, 0.006 * size)


def turned(image: Picture, face: Points, degrees: float) -> Picture:
    """The head as a body of mean depth, turned about its upright axis.

    Args:
        image: `(H, W, 3)` uint8 RGB.
        face: `(68, 2)`, pixels.
        degrees: Above 0 towards the picture's right.
    Returns:
        `(640, 640, 3)`.
    """
    # 1. head and shoulders in crop units, with the depth of each pixel
    side = 3 * _TURNED_SIDE // 2
    affine = crop_affine(face)
    units = (np.mgrid[:side, :side].reshape(2, -1)[::-1].T + 0.5) / side * 1.7 - (0.35, 0.40)
    own = np.asarray(
        AVERAGE_FACE, np.float32
    )  # a frontal body: a face that looks away has less depth
    coarse = np.stack(np.meshgrid(np.linspace(-0.35, 1.35, 48), np.linspace(-0.4, 1.3, 48)), -1)
    depth = head_depth(own, coarse.reshape(-1, 2).astype(np.float32)).reshape(48, 48)
    depth = cv2.resize(depth, (side, side), interpolation=cv2.INTER_CUBIC).reshape(-1)
    source = warp_points(invert_affine(affine), units.astype(np.float32)).reshape(side, side, 2)
    colours = cv2.remap(
        image, source[..., 0] - 0.5, source[..., 1] - 0.5, cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    ).reshape(-1, 3)  # fmt: skip
    # 2. the head turns, the room stays: a blurred copy behind it
    angle, axis = np.radians(degrees), -0.25
    inside = ((units - (0.5, 0.45)) / (0.46, 0.62)) ** 2
    head = inside.sum(axis=1) < 1.0
    x = (units[head, 0] - 0.5) * np.cos(angle) + (depth[head] - axis) * np.sin(angle) + 0.5
    near = (depth[head] - axis) * np.cos(angle) - (units[head, 0] - 0.5) * np.sin(angle)
    columns = ((x + 0.35 + axis * 0.5 * np.sin(angle)) / 1.7 * _TURNED_SIDE).astype(int)
    rows = ((units[head, 1] + 0.40) / 1.7 * _TURNED_SIDE).astype(int)
    room = cv2.GaussianBlur(colours.reshape(side, side, 3), (0, 0), 30)
    out = cv2.resize(room, (_TURNED_SIDE, _TURNED_SIDE), interpolation=cv2.INTER_AREA)
    # 3. nearer points are drawn last; what no point reached is filled from its neighbours
    order = np.argsort(near)
    order = order[(columns[order] >= 0) & (columns[order] < _TURNED_SIDE)]
    order = order[rows[order] < _TURNED_SIDE]
    reached = np.zeros(out.shape[:2], np.uint8)
    out[rows[order], columns[order]] = colours[head][order]
    reached[rows[order], columns[order]] = 1
    closed = cv2.morphologyEx(reached, cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8))
    share = cv2.GaussianBlur(reached.astype(np.float32), (0, 0), 1.5)[..., None]
    near_by = cv2.GaussianBlur(out * reached[..., None].astype(np.float32), (0, 0), 1.5)
    holes = (closed > reached)[..., None]
    return np.where(holes, near_by / np.maximum(share, 1e-3), out).astype(np.uint8)


def paint(image: Picture, face: Points, rng: np.random.Generator) -> Picture:
    """As if painted in oil: every pixel has the colour of the calmest of four neighbourhoods (Kuwahara)."""
    radius = max(2, round(0.02 * _size(face)))
    side = 2 * radius + 1
    pixels = image.astype(np.float32)
    mean = cv2.blur(pixels, (side, side))
    spread = (cv2.blur(pixels**2, (side, side)) - mean**2).sum(axis=2)
    best = np.full(spread.shape, np.inf, np.float32)
    out = mean
    for down in (-radius, radius):
        for right in (-radius, radius):
            calm = np.roll(spread, (down, right), (0, 1))
            take = calm < best
            best = np.where(take, calm, best)
            out = np.where(take[..., None], np.roll(mean, (down, right), (0, 1)), out)
    canvas = cv2.GaussianBlur(rng.normal(0, 9, spread.shape), (0, 0), 0.8)
    return np.clip(out + canvas[..., None], 0, 255).astype(np.uint8)


def toon(image: Picture, face: Points, rng: np.random.Generator) -> Picture:
    """A photograph in a few flat tones with black outlines."""
    calm = image
    for _ in range(4):
        calm = np.asarray(cv2.bilateralFilter(calm, 9, 30, 7), np.uint8)
    levels = int(rng.integers(5, 8))
    flat = (np.floor(calm / 256.0 * levels) + 0.5) / levels * 255.0
    grey = cv2.medianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), 5)
    block = max(3, 2 * round(0.03 * _size(face)) + 1)
    lines = cv2.adaptiveThreshold(
        grey, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY, block, 6
    )
    return np.where(lines[..., None] > 0, flat, 20).astype(np.uint8)


def flat_cartoon(image: Picture, face: Points, rng: np.random.Generator) -> Picture:
    """A comic figure with this face's outline: areas of one colour each."""
    out = np.empty_like(image)
    out[:] = rng.integers(120, 250, 3)
    skin = ((250, 214, 180), (198, 140, 96), (255, 221, 85))[rng.integers(3)]
    size = _size(face)
    head = np.concatenate([face[:17], face[26:16:-1] - (0, 0.35 * size)])
    crown = cv2.convexHull((head - (0, 0.12 * size)).astype(np.float32))[:, 0]
    cv2.fillPoly(out, [_pixels(crown)], (70, 45, 30), cv2.LINE_AA)
    cv2.fillPoly(out, [_pixels(cv2.convexHull(head.astype(np.float32))[:, 0])], skin, cv2.LINE_AA)
    pen = max(1, round(0.02 * size))
    for eye in (LEFT_EYE, RIGHT_EYE):
        points = face[list(eye)]
        middle = points.mean(axis=0)
        wide = points + 0.5 * (points - middle)
        cv2.fillPoly(out, [_pixels(wide)], (255, 255, 255), cv2.LINE_AA)
        cv2.polylines(out, [_pixels(wide)], True, (20, 20, 20), pen, cv2.LINE_AA)
        cv2.circle(out, _pixel(middle), max(1, round(0.035 * size)), (20, 20, 20), -1, cv2.LINE_AA)
    for brow in (face[17:22], face[22:27]):
        cv2.polylines(out, [_pixels(brow)], False, (50, 30, 20), 2 * pen, cv2.LINE_AA)
    cv2.polylines(out, [_pixels(face[[30, 31, 33]])], False, (90, 50, 40), pen, cv2.LINE_AA)
    cv2.fillPoly(out, [_pixels(face[list(OUTER_LIPS)])], (200, 60, 70), cv2.LINE_AA)
    cv2.polylines(out, [_pixels(face[list(INNER_LIPS)])], True, (20, 20, 20), pen, cv2.LINE_AA)
    return out


def dark(image: Picture, face: Points, rng: np.random.Generator) -> Picture:
    """An eighth of the light, with a sensor's noise."""
    del face
    noise = rng.normal(0, 2.5, image.shape)
    return np.clip(image * 0.125 + noise, 0, 255).astype(np.uint8)


def backlit(image: Picture, face: Points, rng: np.random.Generator) -> Picture:
    """The face in its own shadow before a bright background."""
    mask = np.zeros(image.shape[:2], np.float32)
    middle, size = face.mean(axis=0), _size(face)
    cv2.ellipse(mask, _pixel(middle), _pixel((0.75 * size, 1.0 * size)), 0, 0, 360, 1.0, -1)
    cv2.rectangle(
        mask, _pixel((middle[0] - size, face[8, 1])), _pixel((middle[0] + size, 9e3)), 1.0, -1
    )
    mask = cv2.GaussianBlur(mask, (0, 0), 0.12 * size)[..., None]
    lit = 255 - (255 - image.astype(np.float32)) * 0.25
    shade = image * 0.28 + rng.normal(0, 2, image.shape)
    return np.clip(lit + mask * (shade - lit), 0, 255).astype(np.uint8)


def over_exposed(image: Picture, face: Points, rng: np.random.Generator) -> Picture:
    """One and a half stops too much."""
    del face, rng
    linear = (image / 255.0) ** 2.2 * 2.8
    return (np.clip(linear, 0, 1) ** (1 / 2.2) * 255).astype(np.uint8)


def tinted(image: Picture, face: Points, rng: np.random.Generator) -> Picture:
    """Coloured light, as on a stage."""
    del face
    gain = ((0.55, 0.65, 1.25), (1.25, 0.6, 0.55), (0.6, 1.1, 0.65))[rng.integers(3)]
    return np.clip(image * np.array(gain), 0, 255).astype(np.uint8)


def black_and_white(image: Picture, face: Points, rng: np.random.Generator) -> Picture:
    """An old print: no colour, film grain."""
    del face
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    grain = cv2.GaussianBlur(rng.normal(0, 12, grey.shape), (0, 0), 0.7)
    return np.repeat(np.clip(grey + grain, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def compressed(image: Picture, face: Points, rng: np.random.Generator) -> Picture:
    """JPEG of quality 8."""
    del face, rng
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 8])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.ascontiguousarray(decoded[..., ::-1]).astype(np.uint8)


COVERS: Final[dict[str, Edit]] = {
    edit.__name__: edit for edit in (surgical_mask, cloth_mask, hand, cup, pixelated, skin_patch)
}
UNSEEN_COVERS: Final[dict[str, Edit]] = {edit.__name__: edit for edit in (hair, scarf, microphone)}
DRAWINGS: Final[dict[str, Edit]] = {edit.__name__: edit for edit in (paint, toon, flat_cartoon)}
LIGHTS: Final[dict[str, Edit]] = {
    edit.__name__: edit
    for edit in (dark, backlit, over_exposed, tinted, black_and_white, compressed)
}


def _size(face: Points) -> float:
    """Longer side of the face, pixels."""
    return float(np.ptp(face, axis=0).max())


def _pixel(point: NDArray[np.floating] | tuple[float, float]) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))


def _pixels(points: NDArray[np.floating]) -> NDArray[np.int32]:
    return np.round(points).astype(np.int32)


def _hull(image: Picture, points: NDArray[np.floating]) -> NDArray[np.uint8]:
    """1 within the hull of points `(N, 2)`, 0 elsewhere `(H, W)`."""
    mask = np.zeros(image.shape[:2], np.uint8)
    hull = cv2.convexHull(points.astype(np.float32))[:, 0]
    cv2.fillConvexPoly(mask, _pixels(hull), 1)
    return mask


def _over(
    image: NDArray[np.number], cover: NDArray[np.number], mask: NDArray[np.uint8], sigma: float
) -> Picture:
    """`cover` where `mask` is 1, its edge softened by `sigma` pixels."""
    alpha = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), max(sigma, 0.3))[..., None]
    under = image.astype(np.float32)
    return np.clip(under + alpha * (cover - under), 0, 255).astype(np.uint8)


def _sample(image: Picture, at: NDArray[np.floating], radius: float) -> NDArray[np.float32]:
    """Median colour `(3,)` around a place."""
    x, y, r = *_pixel(at), max(1, round(radius))
    patch = image[max(0, y - r) : y + r, max(0, x - r) : x + r]
    return np.median(patch.reshape(-1, 3), axis=0).astype(np.float32)


def _pattern(shape: tuple[int, ...], size: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Cloth `(H, W, 3)`: stripes, checks or dots of two colours, with folds."""
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    step = rng.uniform(0.04, 0.15) * size
    waves = (np.sin(rows * 2 * np.pi / step), np.sin(columns * 2 * np.pi / step))
    kind = rng.integers(4)
    wave = (waves[0], waves[1], waves[0] * waves[1], np.zeros(shape, np.float32))[kind]
    first, second = rng.uniform(20, 240, (2, 3))
    folds = cv2.resize(rng.normal(0, 12, (6, 6)), shape[::-1], interpolation=cv2.INTER_CUBIC)
    cloth = np.where(wave[..., None] > 0.2, first, second) + folds[..., None]
    return (cloth + rng.normal(0, 2, (*shape, 1))).astype(np.float32)
