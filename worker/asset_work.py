"""Finds the faces of what callers keep: what the inspector's desk does (`worker.asset_desk`).

    input.png, or every frame of input.mkv ─▶ detector ─▶ faces.npz, and the faces as they are told

faces.npz has what the detector was asked on the road that a job takes, so that the job asks nobody.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.errors import InputError
from model.face.detection import DetectedFace, FaceDetector, select_face
from model.face.remembered_faces import FaceRecorder
from model.face.suitability import check_suitable
from model.face.tracking import track_face
from model.media.frames import VideoFrames
from worker.asset_desk import Change, Prepare
from worker.contract.artifacts import ArtifactExistsError, ArtifactStore
from worker.contract.assets import Asset, AssetKind, AssetState, FoundFace
from worker.contract.intake.file_names import FACES, ORIGINAL, PORTRAIT, VIDEO
from worker.judging import MOST_FACES, Portrait, found_face, list_faces, refused
from worker.render_request import read_rgb

Picture = NDArray[np.uint8]


class SharedDetector:
    """A detector for several threads, one picture at a time.

    Args:
        detector: Who looks.
    """

    def __init__(self, detector: FaceDetector) -> None:
        self._detector = detector
        self._lock = threading.Lock()

    def __call__(self, image: Picture) -> list[DetectedFace]:
        """See `FaceDetector`."""
        with self._lock:
            return self._detector(image)


def inspecting(store: ArtifactStore, detector: FaceDetector) -> Prepare:
    """What the inspector does for a portrait or a film.

    Args:
        store: Where the files are.
        detector: Finds faces; may be asked in any thread.
    """

    def inspect(asset: Asset, look_up: Callable[[], None]) -> Change:
        def watched(image: Picture) -> list[DetectedFace]:
            look_up()
            return detector(image)

        recorder = FaceRecorder(watched)
        with contextlib.ExitStack() as stack:

            def path_of(name: str) -> Path:
                return stack.enter_context(store.local_copy(f"{asset.prefix}/{name}"))

            if asset.video is not None:
                film = VideoFrames(path_of(VIDEO), asset.video.fps)
                faces = _faces_of_film(recorder, film)
            else:
                faces = list_faces(recorder, _portrait(asset, path_of))
                if asset.kind is AssetKind.AVATAR and not faces:
                    select_face(())  # which says what is wrong
        with store.scratch() as folder:
            recorder.faces.save(folder / FACES)
            # Whoever was here before and died found the same faces.
            with contextlib.suppress(ArtifactExistsError):
                store.put(f"{asset.prefix}/{FACES}", folder / FACES)
        changes = {"state": AssetState.READY, "faces": faces, "has_faces_file": True}
        return lambda one: one.model_copy(update=changes)

    return inspect


def _portrait(asset: Asset, path_of: Callable[[str], Path]) -> Portrait:
    image = read_rgb(path_of(PORTRAIT))
    if asset.image is None or not asset.image.has_original:
        return Portrait(image)
    original = path_of(ORIGINAL)
    return Portrait(image, lambda: read_rgb(original))


def _faces_of_film(recorder: FaceRecorder, film: VideoFrames) -> tuple[FoundFace, ...]:
    """Look at every frame as a job does; the faces of the first frame that shows any.

    Raises:
        InputError: No frame shows a face, or the face is too small.
    """
    track = track_face(film.read(0, film.num_frames), recorder)
    first = int(np.flatnonzero(track.found)[0])
    frame = next(iter(film.read(first, first + 1)))
    told: list[FoundFace] = []
    for index, face in enumerate(recorder(frame)[:MOST_FACES]):
        one = found_face(index, face, film.width, film.height)
        try:
            # Of this one frame; a job judges the frames that show the person best.
            check_suitable(frame, face.landmarks, "video")
        except InputError as error:
            one = refused(one, error)
        told.append(one)
    return tuple(told)
