"""Frames of a plan, batch by batch.

    scene ─▶ source's own pixels, carried to the target ──────────────────┐
    networks ─▶ crop ─▶ its inner mouth, or its whole lower face ─────────┴─▶ composite ─▶ head's motion

Presets without steps leave the networks out: the portrait engine draws inner mouths, too.
"""

from __future__ import annotations

from typing import Final

import numpy as np
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
from model.pipelines.dubbed_parts import fade_in
from model.pipelines.outputs import RenderPlan
from model.pipelines.scenes import Batch, Picture, Source, make_scene

_WORTH: Final = 1.25
"""A face larger by this factor than what is drawn has detail to add."""


class PlanDrawer:
    """What the frames of a plan share, and how one batch is drawn; safe to call from several threads.

    Args:
        plan: What to draw.
        networks: What draws.
        inner_mouths: Needed by presets without steps.
        model_name: For messages.
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
            n: source.engine.move(plan.target_landmarks[n])
            for n, source in shown.items()
            if n in drawn or n in wanted
        }
        carried = {n: moved[n].draw(self._inner) for n in drawn}
        crops = self._draw_crops(drawn, moved, carried)
        frames = []
        for n in wanted:
            source = shown.get(n)
            if source is None:
                assert batch.pictures is not None  # only footage hides faces
                frames.append(batch.pictures[n - batch.first])
                continue
            frame = self._composite(n, source, moved[n], carried.get(n), crops.get(n))
            if plan.footage is not None:
                frame = fade_in(source.picture, frame, float(plan.footage.share[n]))
            frames.append(self._turn_head(frame, n))
        return np.stack(frames if plan.mat is None else [plan.mat.lay(frame) for frame in frames])

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

    def _turn_head(self, frame: Picture, number: int) -> Picture:
        """The finished still picture, moved as one."""
        path = self._plan.head
        if self._head is None or path is None:
            return frame
        return self._head.move(frame, int(path.source_index[number]))

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

    def _composite(
        self,
        number: int,
        source: Source,
        moved: MovedFace,
        carried: Picture | None,
        crop: NDArray[np.float32] | None,
    ) -> Picture:
        """A frame: the source's own pixels with the drawn inner mouth, or with the drawn lower face."""
        size, compositor = source.engine.size, source.compositor
        if carried is None or crop is None or self.crops is None:
            mouth = moved.draw_mouth(self._inner)
            return compositor.paste_mouth(mouth, moved.mouth, size, moved.fields[-1])
        target = self._plan.target_landmarks[number]
        if self._plan.region == "lower_face":
            larger = self._plan.restore_detail and size > _WORTH * len(crop)
            return compositor.paste(add_detail(crop, carried, target) if larger else crop)
        blended = blend_mouth(
            carried[moved.mouth],
            moved.mouth,
            size,
            crop,
            target,
            source.landmarks,
            self.crops.affine(target),
            source.engine.brightest_tooth,
            source.engine.own_teeth,
            source.engine.look,
        )
        return compositor.paste_mouth(blended, moved.mouth, size, moved.fields[-1])
