"""Looks at finished frames: do the lips that were drawn say what is heard?

    frames of a few short windows ─▶ close-up ─▶ landmarks found anew ─┐
                                                                       ├─ sync network ─▶ agreement, offset
    sound of the same windows ─▶ log-mel ──────────────────────────────┘

One window of 1.6 s for each 10 s, where the voice is loudest: about 0.7 ms of one core a frame of the
video. What is measured is what people see, not what was planned. The figure sorts videos of this service;
it says *in step*, not *real*, and can be set beside no published one (model/networks/sync_weights/README.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.face.alignment import invert_affine
from model.face.mesh_follower import MeshFollower, close_up
from model.heap import give_back
from model.media.audio import FPS, MELS_PER_FRAME, SILENCE, log_mel
from model.networks.sync_network import SyncNetwork
from model.pipelines.outputs import RenderPlan
from model.pipelines.parallel import one_thread

WINDOW: Final = 40
"""Frames of 40 ms, 1.6 s."""
_EVERY: Final = 10 * FPS
"""One window in so many frames, ..."""
_MOST_WINDOWS: Final = 6
"""... and no more of a long video."""
_STEP: Final = 5
MAX_OFFSET: Final = 10
"""Frames of 40 ms that lips are looked for as early or late."""
_LEAST: Final = MAX_OFFSET + 20
"""Frames of 40 ms; a shorter video is not judged."""
_MOST_LOST: Final = 4
"""A window in which the face is missed more often tells nothing."""
_LEAST_VOICE: Final = 0.5
"""Standardised log-mel above silence, mean over a window: below it nobody speaks."""
_CLOSE_UP: Final = 1.6
"""Side of a close-up in sides of the crop: heads move."""


@dataclass(frozen=True)
class SyncScore:
    """How well drawn lips and sound agree.

    Attributes:
        agreement: Mean cosine of the network's vectors of lips and sound, -1 to 1; higher is better.
        offset_ms: By how much the lips are late (above 0) or early where they agree best.
        confidence: How much better that is than other offsets (form of LSE-C); near 0 for lips that do
            not move with the sound.
        watched_s: Seconds that were looked at.
    """

    agreement: float
    offset_ms: int
    confidence: float
    watched_s: float


class SyncWatch:
    """Watches the frames of one video as they are drawn.

    Args:
        network: Judges.
        plan: Of the video.
        waveform: Its sound `(N,)`, float32, 16 kHz.
        follower: Finds the landmarks of drawn faces.
    """

    def __init__(
        self,
        network: SyncNetwork,
        plan: RenderPlan,
        waveform: NDArray[np.float32],
        follower: MeshFollower,
    ) -> None:
        self._network, self._plan, self._follower = network, plan, follower
        mel = log_mel(waveform)
        num_heard = len(mel) // MELS_PER_FRAME
        # the video's frame that shows at each 25th of a second
        shown = np.floor(np.arange(num_heard) * (plan.fps / FPS) + 1e-3).astype(np.int64)
        self._shown = shown[shown < plan.num_frames]
        self._length = min(WINDOW, len(self._shown))
        starts = self._choose_windows(mel)
        # Of ten minutes of sound a few seconds are kept.
        self._heard = {n: self._sound_of(mel, n).copy() for n in starts}
        self._seen: dict[int, NDArray[np.float32] | None] = {}
        wanted = [self._shown[start : start + self._length] for start in starts]
        self._wanted = set(np.concatenate(wanted).tolist()) if wanted else set()
        self._close_ups: dict[int, NDArray[np.uint8]] = {}

    def watch(self, first: int, frames: NDArray[np.uint8]) -> None:
        """Keep close-ups of the frames that are wanted, until their window is complete.

        Args:
            first: Number of the first one; frames come in order.
            frames: `(n, H, W, 3)`, uint8 RGB, as they were drawn.
        """
        for number, frame in enumerate(frames, first):
            if number in self._wanted:
                self._close_ups[number] = close_up(frame, *self._place(number))
        last = first + len(frames) - 1
        for start in self._heard:
            if start not in self._seen and self._shown[start + self._length - 1] <= last:
                self._seen[start] = self._follow(start)
                # The next window may have begun already.
                later = [int(self._shown[n]) for n in self._heard if n not in self._seen]
                self._close_ups = {
                    number: x
                    for number, x in self._close_ups.items()
                    if later and number >= min(later)
                }

    def score(self) -> SyncScore | None:
        """What was seen; None where nobody speaks, or no face is found."""
        cosines, distances, num_frames = [], [], 0
        for start, faces in self._seen.items():
            if faces is None:
                continue
            heard = self._heard[start]
            with one_thread():
                cosines.append(self._network.matching(heard, faces))
                distances.append(self._network.sync_scores(heard, faces, MAX_OFFSET).distances)
            num_frames += self._length
        if not cosines:
            return None
        # one offset for all windows: a video has one clock
        mean = np.mean(distances, axis=0)
        best = int(mean.argmin())
        return SyncScore(
            agreement=round(float(np.mean(cosines)), 3),
            offset_ms=(best - MAX_OFFSET) * 1000 // FPS,
            confidence=round(float(np.median(mean) - mean[best]), 3),
            watched_s=num_frames / FPS,
        )

    def _sound_of(self, mel: NDArray[np.float32], start: int) -> NDArray[np.float32]:
        return mel[MELS_PER_FRAME * start : MELS_PER_FRAME * (start + self._length)]

    def _choose_windows(self, mel: NDArray[np.float32]) -> list[int]:
        """First frames of the windows, 25 a second: the loudest of each stretch in which a mouth is drawn."""
        loud = (mel - SILENCE).reshape(-1, MELS_PER_FRAME, mel.shape[1])
        loud = loud.mean(axis=(1, 2))[: len(self._shown)]
        last = len(loud) - self._length
        if self._length < _LEAST:
            return []
        drawn = self._drawn()[self._shown]
        stretches = max(1, min(_MOST_WINDOWS, len(loud) // _EVERY))
        chosen = []
        for stretch in np.array_split(np.arange(0, last + 1, _STEP), stretches):
            possible = [int(n) for n in stretch if drawn[n : n + self._length].all()]
            best = max(
                possible, key=lambda n: float(loud[n : n + self._length].mean()), default=None
            )
            if best is not None and loud[best : best + self._length].mean() >= _LEAST_VOICE:
                chosen.append(best)
        return chosen

    def _drawn(self) -> NDArray[np.bool_]:
        """Frames of the video whose mouth is the wanted one."""
        footage = self._plan.footage
        if footage is None:
            return np.ones(self._plan.num_frames, np.bool_)
        return np.asarray(~footage.hidden & (footage.share >= 1.0), np.bool_)

    def _place(self, number: int) -> tuple[tuple[float, float], float]:
        """Centre and side of a frame's close-up, pixels of the finished frame."""
        affine = self._plan.crop_affine
        to_pixels = invert_affine(affine if affine.ndim == 2 else affine[number])
        centre = to_pixels @ np.array((0.5, 0.5, 1.0))
        side_px = _CLOSE_UP * float(np.hypot(to_pixels[0, 0], to_pixels[1, 0]))
        mat = self._plan.mat
        left, top = (0, 0) if mat is None else (mat.left, mat.top)
        return (float(centre[0]) + left, float(centre[1]) + top), side_px

    def _follow(self, start: int) -> NDArray[np.float32] | None:
        """The face in a window `(T, 68, 2)`, pixels of the picture; None where it is not found."""
        self._follower.begin()
        faces: list[NDArray[np.float32] | None] = []
        for number in self._shown[start : start + self._length].tolist():
            picture = self._close_ups.get(number)
            found = None if picture is None else self._follower(picture)
            if found is not None:
                # Close-ups of films follow the head; what the network looks at is taken in the face's
                # own frame anyway.
                faces.append(found)
            else:
                faces.append(faces[-1] if faces else None)
        good = [face for face in faces if face is not None]
        lost = self._length - len({id(face) for face in good})
        # Each beginning of the mesh has threads of its own, which leave their memory behind.
        give_back()
        if not good or lost > _MOST_LOST:
            return None
        return np.stack([good[0] if face is None else face for face in faces])
