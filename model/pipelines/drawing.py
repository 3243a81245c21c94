"""Frames of a plan, batch by batch.

    scene ─▶ source's own pixels, carried to the target ──────────────────┐
    networks ─▶ crop ─▶ its inner mouth, or its whole lower face ─────────┴─▶ composite ─▶ head's motion

Presets without steps leave the networks out: the portrait engine draws inner mouths, too.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from model.checkpoints import INNER_MOUTHS
from model.errors import CheckpointError
from model.face.alignment import invert_affine, warp_points
from model.face.compositing import add_detail
from model.face.head_motion import MovedPicture
from model.face.inner_mouth import InnerMouthBank
from model.face.mouth_blend import blend_mouth, drawn_share
from model.face.mouth_fill import Inner
from model.face.portrait_engine import MovedFace
from model.pipelines.crop_drawing import CarriedFaces, CropDrawer
from model.pipelines.denoising import Networks
from model.pipelines.device_frames import DeviceFrames, FramePart
from model.pipelines.dubbed_parts import fade_in
from model.pipelines.outputs import RenderPlan
from model.pipelines.scenes import Batch, Picture, Source, StillScene, make_scene

Mouth: TypeAlias = NDArray[np.uint8] | NDArray[np.float32]

_WORTH: Final = 1.25
"""A face larger by this factor than what is drawn has detail to add."""


class PlanDrawer:
    """What the frames of a plan share, and how one batch is drawn; safe to call from several threads.

    Args:
        plan: What to draw.
        networks: What draws.
        inner_mouths: Needed by presets without steps.
        model_name: For messages.
        on_device: Whether a photograph's frames are finished where the networks are; None = on CUDA.
    Attributes:
        scene: What is drawn into.
        crops: The networks at work; None for presets without steps.
    Raises:
        CheckpointError: The preset needs inner mouths, and there are none.
    """

    def __init__(
        self,
        plan: RenderPlan,
        networks: Networks,
        inner_mouths: InnerMouthBank | None,
        model_name: str,
        *,
        on_device: bool | None = None,
    ) -> None:
        if not plan.num_inference_steps and inner_mouths is None:
            raise CheckpointError(
                f"The checkpoint has no {INNER_MOUTHS}/, which preset {plan.preset!r} draws "
                "from. Pack it again with `python -m model.training.builders.export`."
            )
        self._plan = plan
        self.scene = make_scene(plan, inner_mouths)
        self._inner: Inner = "flat" if inner_mouths is None else "bank"
        self.crops: CropDrawer | None = None
        if plan.num_inference_steps:
            self.crops = CropDrawer(plan, networks, model_name)
        self._head: MovedPicture | None = None
        if plan.head is not None:
            face = warp_points(invert_affine(plan.affine(0)), plan.reference_landmarks)
            self._head = MovedPicture(plan.image, face, plan.head.motion, plan.fps)
        self.device_frames: DeviceFrames | None = None
        if networks.device.type == "cuda" if on_device is None else on_device:
            self.device_frames = self.make_device_frames(networks.device)

    def make_device_frames(self, device: torch.device) -> DeviceFrames | None:
        """For a photograph whose mouth alone is drawn; what is rarer stays with NumPy."""
        if not isinstance(self.scene, StillScene) or self._plan.region == "lower_face":
            return None
        compositor = self.scene.photograph.compositor
        if not DeviceFrames.fits(compositor, self._head):
            return None
        return DeviceFrames(compositor, self._head, device)

    def draw(self, batch: Batch) -> Picture:
        """The wanted frames of one batch `(n, H, W, 3)` uint8."""
        plan = self._plan
        all_numbers = range(plan.num_frames)[batch.first : batch.first + batch.size]
        wanted = all_numbers[batch.wanted]
        # The networks see whole batches, so that a part of a video equals the same part of the whole.
        numbers = wanted if self.crops is None else all_numbers
        sources = {n: self.scene.source(batch, n) for n in numbers}
        shown = {n: source for n, source in sources.items() if source is not None}
        drawn = {n: source for n, source in shown.items() if self._is_drawn(n, source)}
        moved = {
            n: source.engine.move(plan.target_landmarks[n], self._seen(n, source))
            for n, source in shown.items()
            if n in drawn or n in wanted
        }
        carried = {n: moved[n].draw(self._inner) for n in drawn}
        crops = self._draw_crops(drawn, moved, carried)
        mouths = {
            n: self._mouth(n, shown[n], moved[n], carried.get(n), crops.get(n))
            for n in wanted
            if n in shown and (n not in crops or plan.region == "mouth")
        }
        if self.device_frames is not None:
            finished = self._finish_on_device(self.device_frames, moved, mouths)
            return finished if plan.mat is None else np.stack([plan.mat.lay(x) for x in finished])
        frames = []
        for n in wanted:
            source = shown.get(n)
            if source is None:
                assert batch.pictures is not None  # only footage hides faces
                frames.append(batch.pictures[n - batch.first])
            elif n in mouths:
                frames.append(self._finish(n, source, _paste(source, moved[n], mouths[n])))
            else:
                face = self._lower_face(n, source, carried[n], crops[n])
                frames.append(self._finish(n, source, source.compositor.paste(face)))
        return np.stack(frames if plan.mat is None else [plan.mat.lay(frame) for frame in frames])

    def _seen(self, number: int, source: Source) -> tuple[slice, slice] | None:
        """What of a carried face is looked at beside its mouth; None = all."""
        if self.crops is None or self._plan.region == "lower_face":
            return None
        return self.crops.seen(self._plan.target_landmarks[number], source.engine.size)

    def _is_drawn(self, number: int, source: Source) -> bool:
        """Whether frame `number` shows anything of the networks': a mouth that stays as it is does not."""
        if self.crops is None:
            return False
        if self._plan.region == "lower_face":
            return True
        return drawn_share(self._plan.target_landmarks[number], source.landmarks) > 0

    def movable(self, index: int) -> NDArray[np.bool_]:
        """Where frame `index` may differ from its source `(H, W)`."""
        mask = self.scene.movable(index)
        if self._head is not None:
            mask[self._head.region] = True
        return mask if self._plan.mat is None else self._plan.mat.around(mask)

    def _finish(self, number: int, source: Source, frame: Picture) -> Picture:
        """A composited frame: faded in where a part of a film begins, or a still picture moved as one."""
        plan = self._plan
        if plan.footage is not None:
            frame = fade_in(source.picture, frame, float(plan.footage.share[number]))
        if self._head is None or plan.head is None:
            return frame
        return self._head.move(frame, int(plan.head.source_index[number]))

    def _finish_on_device(
        self, device_frames: DeviceFrames, moved: dict[int, MovedFace], mouths: dict[int, Mouth]
    ) -> Picture:
        """The frames of `mouths`, drawn there and fetched together `(n, H, W, 3)`."""
        path = self._plan.head
        frames = [
            FramePart(
                mouth,
                moved[n].mouth,
                moved[n].engine.size,
                moved[n].fields[-1],
                0 if path is None else int(path.source_index[n]),
            )
            for n, mouth in mouths.items()
        ]
        return device_frames.draw(frames)

    def _draw_crops(
        self,
        sources: dict[int, Source],
        moved: dict[int, MovedFace],
        carried: dict[int, Picture],
    ) -> dict[int, NDArray[np.float32]]:
        """The networks' crops by frame."""
        if self.crops is None or not sources:
            return {}
        faces = CarriedFaces(
            targets=[self._plan.target_landmarks[n] for n in sources],
            flat=[moved[n].draw(self.crops.inner) for n in sources],
            filled=[carried[n] for n in sources],
            shown=[source.engine.crop for source in sources.values()],
            own=[source.landmarks for source in sources.values()],
            affines=[self.crops.affine(self._plan.target_landmarks[n]) for n in sources],
        )
        return dict(zip(sources, self.crops.draw(faces), strict=True))

    def _mouth(
        self,
        number: int,
        source: Source,
        moved: MovedFace,
        carried: Picture | None,
        crop: NDArray[np.float32] | None,
    ) -> Mouth:
        """The carried face's pixels around the mouth, with the networks' inner mouth where they drew one."""
        if carried is None or crop is None or self.crops is None:
            return moved.draw_mouth(self._inner)
        target = self._plan.target_landmarks[number]
        return blend_mouth(
            carried[moved.mouth],
            moved.mouth,
            source.engine.size,
            crop,
            target,
            source.landmarks,
            self.crops.affine(target),
            source.engine.brightest_tooth,
            source.engine.own_teeth,
            source.engine.look,
        )

    def _lower_face(
        self, number: int, source: Source, carried: Picture, crop: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """The networks' lower face, as fine as the source."""
        if not self._plan.restore_detail or source.engine.size <= _WORTH * len(crop):
            return crop
        return add_detail(crop, carried, self._plan.target_landmarks[number])


def _paste(source: Source, moved: MovedFace, mouth: Mouth) -> Picture:
    """A frame: the source's own pixels, carried, with a mouth."""
    return source.compositor.paste_mouth(mouth, moved.mouth, source.engine.size, moved.fields[-1])
