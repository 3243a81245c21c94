"""Films to be marked: photographs of unseen people that speak GRID's sentences, and dubbed films; lossless.

    python -m model.evaluation.watermark_films --source DATA --output out/watermark_films

final      held-out photographs, some at several sizes, and eight dubs of the two films of `films/`
choosing   photographs of others; parameters are chosen on these, figures are read on the ones above

Photographs of 225 px are enlarged, as people's own often were. A file that is there is not made again.
"""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.data.clips import ClipFrames, find_large_portraits, find_portraits, read_portrait
from model.data.sound import fit_sound, read_sound_in_step
from model.data.unseen_films import film_files
from model.media.ffmpeg import ffmpeg_path
from model.media.video_reader import read_frames
from model.pipelines.options import RenderOptions
from model.pipelines.talking_face import TalkingFacePipeline, load_pipeline

Frames = NDArray[np.uint8]

_NUM_FRAMES: Final = 75  # 3 s
_FPS: Final = 25.0
_CHOOSING_SIDES: Final = (512, 640, 768, 512, 960, 640)
_SMALL_SIDES: Final = (512, 640, 512, 768)
_LARGE_SIDES: Final = (512, 640, 768, 640, 512, 960, 640, 768, 512, 1280)
_FILM_SIDES: Final = (1280, 854, 1280, 640)


def photographs(source: Path) -> Iterator[tuple[str, Path, int]]:
    """Set, photograph and longest side in pixels of every film that is made of a photograph."""
    large = find_large_portraits(source)
    small = _small(find_portraits(source / "portraits"))
    unseen = tuple(f"{path.stem.split('_')[-1]}_" for path in small)
    seen = find_portraits(source / "portraits", held_out=False)
    large_seen = sorted((source / "portraits_hd").glob("*.jpg"))
    kinds = (
        [path for path in seen if path.name.startswith("frl")][::7],
        [path for path in large_seen if not path.name.startswith(unseen)][::5],
        _small(seen)[::11],
    )
    for number in range(12):
        side = _CHOOSING_SIDES[number % len(_CHOOSING_SIDES)]
        yield "choosing", kinds[number % len(kinds)][number], side
    for number, path in enumerate(small):
        yield "final", path, _SMALL_SIDES[number % len(_SMALL_SIDES)]
        side = _LARGE_SIDES[number % len(_LARGE_SIDES)]
        yield "final", large[number % len(large)], side


def _small(paths: Sequence[Path]) -> list[Path]:
    return [path for path in paths if not path.name.startswith("frl")]


def resized(picture: Frames, side_px: int) -> Frames:
    """A picture `(H, W, 3)` whose longest side is `side_px`, both sides even."""
    scale = side_px / max(picture.shape[:2])
    height, width = (round(side * scale) // 2 * 2 for side in picture.shape[:2])
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, (width, height), interpolation=way), np.uint8)


def write_lossless(path: Path, frames: Sequence[Frames]) -> None:
    """Frames `(H, W, 3)` uint8 RGB as they are."""
    height, width = frames[0].shape[:2]
    partial = path.with_suffix(".part.mkv")
    command = [ffmpeg_path(), "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"]
    command += ["-video_size", f"{width}x{height}", "-framerate", repr(_FPS), "-i", "pipe:0"]
    command += ["-c:v", "libx264rgb", "-qp", "0", "-preset", "ultrafast", f"file:{partial}"]
    subprocess.run(command, input=np.stack(frames).tobytes(), check=True)
    partial.rename(path)


def dub(
    pipeline: TalkingFacePipeline, film: Path, part: int, voice: NDArray[np.float32]
) -> list[Frames]:
    """Three seconds of a film under another voice; `part` (0 to 3) says which and how large."""
    begin = part % 2 * 30
    frames = islice(read_frames(film, fps=_FPS), begin, begin + _NUM_FRAMES)
    shown = ClipFrames(np.stack([resized(frame, _FILM_SIDES[part]) for frame in frames]))
    plan = pipeline.prepare_video(shown, voice, RenderOptions(preset="preview"))
    return [frame for batch in pipeline.render(plan) for frame in batch]


def speak(
    pipeline: TalkingFacePipeline, picture: Frames, voice: NDArray[np.float32], seed: int
) -> list[Frames]:
    """A photograph that says something, its head moving as a speaker's does."""
    options = RenderOptions(preset="preview", motion="natural", seed=seed)
    plan = pipeline.prepare(picture, voice, options)
    return [frame for batch in pipeline.render(plan) for frame in batch]


def main() -> None:
    """Command-line door."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", type=Path, required=True, help="folder of the sets")
    parser.add_argument("--output", type=Path, default=Path("out/watermark_films"))
    arguments = parser.parse_args()
    pipeline = load_pipeline()
    voices = film_files(arguments.source, "grid")

    def voice(number: int) -> NDArray[np.float32]:
        return fit_sound(read_sound_in_step(voices[number % len(voices)]), _NUM_FRAMES)

    for which in ("choosing", "final"):
        (arguments.output / which).mkdir(parents=True, exist_ok=True)
    for number, film in enumerate(sorted((arguments.source / "films").glob("*.mp4"))):
        for part in range(len(_FILM_SIDES)):
            path = arguments.output / "final" / f"film_{number}_{part}.mkv"
            if not path.exists():
                write_lossless(path, dub(pipeline, film, part, voice(40 + 10 * number + part)))
                print(path, flush=True)
    for number, (which, photograph, side) in enumerate(photographs(arguments.source)):
        path = arguments.output / which / f"photo_{number:03d}_{side}.mkv"
        if not path.exists():
            picture = resized(read_portrait(photograph, side), side)
            write_lossless(path, speak(pipeline, picture, voice(number), number))
            print(path, flush=True)


if __name__ == "__main__":
    main()
