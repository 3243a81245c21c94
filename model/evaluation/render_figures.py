"""Figures of rendered frames: does the drawn mouth do what the landmarks say, and is everything else left alone?

    python -m model.evaluation.render_figures --image examples/portrait.jpg --audio examples/speech.wav

Renders the recording, digital silence and (with `--other`) another voice, finds landmarks in the drawn frames again and
prints JSON:

    opening_r             correlation at lag 0 of the drawn mouth opening (re-detected) with the predicted landmarks'
    best_lag_frames       lag within +-4 that correlates best; 0 is in step
    opening_slope         drawn over predicted opening, least squares
    sharpness             Laplacian variance in the mouth's box, drawn over photograph
    silence_gap           mean re-detected lip gap in silence over mouth width
    other_voice_r         correlation of the predicted openings for the two voices
    other_voice_diff      mean absolute difference of the drawn openings for the two voices, in mouth widths
    outside_equal         every pixel outside the soft mask equals the picture's
    outside_psnr_db       the same after H.264, mean over frames
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.evaluation.landmark_metrics import best_lag, correlation
from model.face.alignment import warp_points
from model.face.detection import MediaPipeFaceDetector
from model.face.landmarks import OUTER_LIPS, mouth_opening
from model.media.audio import SAMPLE_RATE
from model.media.video import VideoWriter, read_frames
from model.pipelines.outputs import RenderPlan
from model.pipelines.talking_face import TalkingFacePipeline, load_pipeline


def load_picture(path: Path) -> NDArray[np.uint8]:
    """An RGB picture with even sides."""
    image = np.asarray(Image.open(path).convert("RGB"), np.uint8)
    return np.ascontiguousarray(image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2])


def load_sound(path: Path) -> NDArray[np.float32]:
    """Any sound that libsndfile reads, as 16 kHz mono."""
    import librosa

    waveform, _ = librosa.load(path, sr=SAMPLE_RATE, mono=True)
    return np.asarray(waveform, np.float32)


def detect_openings(
    detector: MediaPipeFaceDetector, frames: Sequence[NDArray[np.uint8]], plan: RenderPlan
) -> NDArray[np.float32]:
    """Mouth opening that the detector finds in each frame; NaN where it finds no face. `(T,)`."""
    wanted = warp_points(
        plan.crop_affine, np.array([plan.face_bbox_xyxy], np.float32).reshape(2, 2)
    ).mean(axis=0)
    openings = []
    for frame in frames:
        faces = [face.landmarks for face in detector(frame)]
        faces.sort(
            key=lambda points: float(
                np.linalg.norm(warp_points(plan.crop_affine, points).mean(axis=0) - wanted)
            )
        )
        openings.append(float(mouth_opening(faces[0])) if faces else float("nan"))
    return np.array(openings, np.float32)


def mouth_laplacian(frame: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> float:
    """Variance of the Laplacian in the box of the outer lips; landmarks in pixels."""
    lips = landmarks[list(OUTER_LIPS)]
    x0, y0 = np.maximum(lips.min(axis=0).astype(int), 0)
    x1, y1 = lips.max(axis=0).astype(int) + 1
    grey = cv2.cvtColor(frame[y0:y1, x0:x1], cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_64F).var())


def figures(
    pipeline: TalkingFacePipeline,
    image: NDArray[np.uint8],
    waveform: NDArray[np.float32],
    other: NDArray[np.float32] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Render and measure; see the module's docstring for the keys."""
    detector = MediaPipeFaceDetector()
    plan = pipeline.prepare(image, waveform, **options)
    frames = [frame for batch in pipeline.render(plan) for frame in batch]
    drawn = detect_openings(detector, frames, plan)
    predicted = mouth_opening(plan.target_landmarks)
    valid = np.isfinite(drawn)
    own = detector(image)[0].landmarks
    result: dict[str, Any] = {
        "frames": len(frames),
        "faces_found": float(valid.mean()),
        "opening_r": correlation([drawn], [predicted]),
        "best_lag_frames": best_lag([drawn], [predicted])[0],
        "opening_slope": float(np.polyfit(predicted[valid], drawn[valid], 1)[0]),
        "opening_range_predicted": [float(predicted.min()), float(predicted.max())],
        "opening_range_drawn": [float(np.nanmin(drawn)), float(np.nanmax(drawn))],
        "sharpness": float(np.mean([mouth_laplacian(f, own) for f in frames]))
        / mouth_laplacian(image, own),
    }

    silence = np.zeros(2 * SAMPLE_RATE, np.float32)
    quiet = pipeline.prepare(image, silence, **options)
    still = detect_openings(
        detector, [frame for batch in pipeline.render(quiet) for frame in batch], quiet
    )
    result["silence_gap"] = float(np.nanmean(still))
    result["silence_std"] = float(np.nanstd(still))

    if other is not None:
        second = pipeline.prepare(image, other, **options)
        length = min(plan.num_frames, second.num_frames)
        drawn_other = detect_openings(
            detector,
            [frame for batch in pipeline.render(second, 0, length) for frame in batch],
            second,
        )
        openings = mouth_opening(second.target_landmarks[:length])
        result["other_voice_r"] = float(np.corrcoef(predicted[:length], openings)[0, 1])
        result["other_voice_diff"] = float(
            np.nanmean(np.abs(drawn[:length] - drawn_other[:length]))
        )

    changed = np.zeros(image.shape[:2], bool)
    for frame in frames:
        changed |= (frame != image).any(axis=2)
    outside = ~pipeline.soft_mask(plan)
    result["outside_equal"] = not bool((changed & outside).any())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "check.mp4"
        with VideoWriter(path, width=plan.width, height=plan.height, fps=plan.fps) as writer:
            for frame in frames:
                writer.write(frame)
        errors = [
            float(((decoded.astype(np.float32) - image) ** 2)[outside].mean())
            for decoded in read_frames(path)
        ]
    result["outside_psnr_db"] = float(np.mean(10 * np.log10(255**2 / np.maximum(errors, 1e-9))))
    return result


def main() -> None:
    """Command-line door."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--image", type=Path, action="append", required=True, help="may be given more than once"
    )
    parser.add_argument("--audio", type=Path, required=True)
    parser.add_argument("--other", type=Path, default=None, help="another voice")
    parser.add_argument("--preset", default="balanced")
    parser.add_argument("--init", default=None)
    parser.add_argument("--weights", type=Path, default=None)
    arguments = parser.parse_args()
    pipeline = load_pipeline(arguments.weights)
    other = load_sound(arguments.other) if arguments.other else None
    for image in arguments.image:
        row = figures(
            pipeline,
            load_picture(image),
            load_sound(arguments.audio),
            other,
            preset=arguments.preset,
            init=arguments.init,
        )
        print(json.dumps({"image": image.name, "preset": arguments.preset, **row}), flush=True)


if __name__ == "__main__":
    main()
