"""The talking-face pipeline: one picture and one voice become frames.

    plan = prepare(image, waveform)      detect ─▶ crop ─▶ landmarks of every frame; nothing is drawn yet
    render(plan, start, stop)            batches: denoise ─▶ decode ─▶ restore detail ─▶ composite
    pipeline(image, waveform)            both, in memory

Presets without steps leave the diffusion out: the portrait engine draws.
"""

# Not `from __future__ import annotations`: diffusers reads the constructor's annotations as classes.

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self
from weakref import WeakKeyDictionary

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiffusionPipeline
from diffusers.utils import logging
from numpy.typing import NDArray

from model.checkpoints import INNER_MOUTHS, verify_checkpoint, write_manifest
from model.errors import AudioTooShortError, CheckpointError, SamplingError, ShapeError
from model.face.alignment import (
    crop_affine,
    crop_image,
    invert_affine,
    lower_face_mask,
    source_pixels,
    warp_points,
)
from model.face.average_face import AVERAGE_FACE
from model.face.compositing import Compositor, DetailRestorer, match_colour
from model.face.detection import FaceDetector, MediaPipeFaceDetector, select_face
from model.face.inner_mouth import InnerMouthBank
from model.face.portrait_engine import PortraitEngine
from model.media.audio import FPS, SAMPLE_RATE
from model.networks.attention import attention_backend, select_backend
from model.networks.landmark_completion import LandmarkCompleter
from model.networks.reference_encoder import ReferenceEncoder
from model.networks.unet import TalkFormerUNet
from model.pipelines.denoising import CropSampler, Networks
from model.pipelines.landmark_completion import complete_landmarks
from model.pipelines.outputs import RenderPlan, TalkingFaceOutput
from model.pipelines.parallel import map_ahead, one_thread
from model.pipelines.placement import choose_device, choose_dtype, dtype_name
from model.pipelines.presets import PRESETS, Init

MIN_SECONDS: Final = 0.2
"""Shortest sound that is animated."""
_BATCH_SIZE: Final = {"cpu": 8, "cuda": 32}
_PREVIEW_PX: Final = (256, 512)
"""Least and greatest side of the portrait engine's own frames."""
_DETAIL_PX: Final = 384
"""Greatest side at which detail is restored."""
_DETAIL_FROM: Final = 1.25
"""A face larger than the network's crop by this factor has detail to restore."""

OnStage = Callable[[str], None]


@dataclass
class _Job:
    """What all frames of a plan share.

    Attributes:
        compositor: Pastes.
        engine: Draws, where no network does.
        sampler: Draws with the networks.
        restore: Adds detail, if there is any.
    """

    compositor: Compositor
    engine: PortraitEngine | None = None
    sampler: CropSampler | None = None
    restore: DetailRestorer | None = None


class TalkingFacePipeline(DiffusionPipeline):
    """Portrait + voice -> frames.

    Beside its components a pipeline has `inner_mouths` (saved and loaded with it) and `detector`
    (made when first needed).

    Args:
        autoencoder: D(E(.)).
        unet: The denoiser.
        reference_encoder: Features of the photograph for R-Align.
        landmark_completer: Speech to landmarks; stays on the CPU in fp32.
        scheduler: Holds the noise schedule; presets choose the sampler over it.
    """

    model_cpu_offload_seq = "reference_encoder->unet->autoencoder"

    def __init__(
        self,
        autoencoder: AutoencoderKL,
        unet: TalkFormerUNet,
        reference_encoder: ReferenceEncoder,
        landmark_completer: LandmarkCompleter,
        scheduler: DDIMScheduler,
    ) -> None:
        super().__init__()
        self.register_modules(
            autoencoder=autoencoder,
            unet=unet,
            reference_encoder=reference_encoder,
            landmark_completer=landmark_completer,
            scheduler=scheduler,
        )
        for network in (autoencoder, unet, reference_encoder, landmark_completer):
            network.eval().requires_grad_(False)
        self.model_name = "unnamed"
        self.version = "0"
        self.weights_sha256: str | None = None
        self.inner_mouths: InnerMouthBank | None = None
        self.detector: FaceDetector | None = None
        self._jobs: WeakKeyDictionary[RenderPlan, _Job] = WeakKeyDictionary()

    # --- where and how ------------------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where the drawing networks are."""
        return self._networks.device

    @property
    def dtype(self) -> torch.dtype:
        """Arithmetic of the drawing networks."""
        return self._networks.dtype

    @property
    def torch_dtype_name(self) -> str:
        """The same as "fp16", "bf16" or "fp32"."""
        return dtype_name(self.dtype)

    @property
    def attention_backend(self) -> str:
        """Which attention draws: "xformers", "sdpa" or "eager"."""
        return attention_backend()

    @property
    def _networks(self) -> Networks:
        return Networks(self.autoencoder, self.unet, self.reference_encoder, self.scheduler)

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move the drawing networks, as `torch.nn.Module.to` does; the completer stays where it is."""
        kwargs.pop("silence_dtype_warnings", None)
        device, dtype, *_ = torch._C._nn._parse_to(*args, **kwargs)
        for network in (self.autoencoder, self.unet, self.reference_encoder):
            # Not ModelMixin.to: it warns of parts that want fp32, and ours name none.
            torch.nn.Module.to(network, device, dtype)
            torch.nn.Module.to(network, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._jobs.clear()  # they hold tensors of the old place
        return self

    # --- save and load ------------------------------------------------------------------------------------------------

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Write a checkpoint that `from_pretrained` and `load_pipeline` read, with manifest."""
        super().save_pretrained(save_directory, **kwargs)
        if self.inner_mouths is not None:
            self.inner_mouths.save(Path(save_directory) / INNER_MOUTHS)
        write_manifest(Path(save_directory), model_name=self.model_name, version=self.version)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, **kwargs: Any
    ) -> "TalkingFacePipeline":
        """Read a checkpoint folder without checking it, in fp32 unless told otherwise; see `load_pipeline`."""
        kwargs = {"low_cpu_mem_usage": False, **kwargs}
        pipeline: TalkingFacePipeline = super().from_pretrained(
            str(pretrained_model_name_or_path), **kwargs
        )
        bank = Path(pretrained_model_name_or_path) / INNER_MOUTHS
        if bank.is_dir():
            pipeline.inner_mouths = InnerMouthBank.load(bank)
        return pipeline

    # --- the three steps ----------------------------------------------------------------------------------------------

    def prepare(
        self,
        image: NDArray[np.uint8],
        waveform: NDArray[np.float32],
        *,
        preset: str = "balanced",
        seed: int = 0,
        num_inference_steps: int | None = None,
        fps: float = FPS,
        face_index: int = 0,
        lip_strength: float = 1.0,
        init: Init | None = None,
        restore_detail: bool | None = None,
        on_stage: OnStage | None = None,
    ) -> RenderPlan:
        """Decide every frame; quick against drawing them.

        Args:
            image: `(H, W, 3)`, uint8 RGB.
            waveform: `(N,)`, float32, 16 kHz mono.
            preset: A key of `PRESETS`.
            seed: Of the noise; 0 to 2**32 - 1.
            num_inference_steps: Steps a frame, or None for the preset's. A preset without diffusion
                takes none in any case.
            fps: Frames per second of the video.
            face_index: Which face speaks, 0 = the largest.
            lip_strength: Scale of the lip motion.
            init: Start of the sampler, or None for the preset's.
            restore_detail: Whether the photograph's detail is added, or None for the preset's choice.
            on_stage: Told "detecting" and "landmarks" as they begin.
        Raises:
            InputError: The picture or the sound cannot be animated; its subclass says why.
            ShapeError: An array has another shape or dtype.
            ValueError: There is no such preset.
        """
        # 1. what can be said before any work
        if preset not in PRESETS:
            raise ValueError(f"preset is {preset!r}; expected one of {', '.join(PRESETS)}")
        _check_inputs(image, waveform)
        chosen = PRESETS[preset]

        # 2. the face
        _tell(on_stage, "detecting")
        if self.detector is None:
            self.detector = MediaPipeFaceDetector()
        face = select_face(self.detector(image), face_index)
        affine = crop_affine(face.landmarks)
        reference = warp_points(affine, face.landmarks)

        # 3. its motion
        _tell(on_stage, "landmarks")
        with one_thread():
            targets = complete_landmarks(
                self.landmark_completer, waveform, reference, fps=fps, lip_strength=lip_strength
            )
        steps = chosen.num_inference_steps
        if steps and num_inference_steps is not None:
            steps = num_inference_steps
        return RenderPlan(
            image=image,
            crop_affine=affine,
            reference_landmarks=reference,
            target_landmarks=targets,
            face_bbox_xyxy=face.bbox_xyxy,
            fps=fps,
            preset=preset,
            num_inference_steps=steps,
            init=init or chosen.init,
            seed=seed,
            restore_detail=chosen.restore_detail if restore_detail is None else restore_detail,
            batch_size=_BATCH_SIZE.get(self.device.type, 8),
        )

    def render(
        self, plan: RenderPlan, start: int = 0, stop: int | None = None
    ) -> Iterator[NDArray[np.uint8]]:
        """Draw frames `start` to `stop`.

        Batches begin at multiples of `plan.batch_size` whatever the range, so that a part equals the
        same part of the whole.

        Args:
            plan: From `prepare`.
            start: First frame.
            stop: Behind the last frame; None = to the end.
        Yields:
            `(n, H, W, 3)` uint8 RGB, n up to `plan.batch_size`.
        Raises:
            SamplingError: The networks gave non-finite values, in fp32 too.
        """
        stop = plan.num_frames if stop is None else min(stop, plan.num_frames)
        if start >= stop:
            return
        size = plan.batch_size
        job = self._job(plan)

        def draw(first: int) -> NDArray[np.uint8]:
            wanted = slice(max(start - first, 0), min(stop - first, size))
            return self._draw(plan, job, plan.target_landmarks[first : first + size], wanted)

        workers = torch.get_num_threads() if self.device.type == "cpu" else 1
        yield from map_ahead(draw, range(start // size * size, stop, size), workers)

    def soft_mask(self, plan: RenderPlan) -> NDArray[np.bool_]:
        """Where frames of `plan` may differ from its picture, `(H, W)`; everywhere else they are bit-identical."""
        mask: NDArray[np.bool_] = self._job(plan).compositor.alpha > 0
        return mask

    def __call__(
        self, image: NDArray[np.uint8], waveform: NDArray[np.float32], **options: Any
    ) -> TalkingFaceOutput:
        """The whole video in memory.

        Args:
            image: `(H, W, 3)`, uint8 RGB.
            waveform: `(N,)`, float32, 16 kHz mono.
            options: See `prepare`.
        """
        plan = self.prepare(image, waveform, **options)
        return TalkingFaceOutput(frames=np.concatenate(list(self.render(plan))), fps=plan.fps)

    def warm_up(self) -> None:
        """Pay first-call costs: detector, mel filters, kernels. Draws a few frames of a grey face."""
        image = np.full((192, 192, 3), 128, np.uint8)
        if self.detector is None:
            self.detector = MediaPipeFaceDetector()
        self.detector(image)
        waveform = np.zeros(SAMPLE_RATE // 5, np.float32)
        with one_thread():
            targets = complete_landmarks(self.landmark_completer, waveform, AVERAGE_FACE)
        affine = invert_affine(np.array([(160, 0, 16), (0, 160, 16)], np.float32))
        plan = RenderPlan(
            image=image,
            crop_affine=affine,
            reference_landmarks=AVERAGE_FACE,
            target_landmarks=targets,
            face_bbox_xyxy=(48.0, 48.0, 144.0, 144.0),
            fps=FPS,
            preset="balanced",
            num_inference_steps=2,
            init="noise",
            seed=0,
            restore_detail=True,
            batch_size=_BATCH_SIZE.get(self.device.type, 8),
        )
        for _ in self.render(plan):
            pass

    # --- drawing ------------------------------------------------------------------------------------------------------

    def _job(self, plan: RenderPlan) -> _Job:
        """What the frames of `plan` share, computed when it is first asked for."""
        job = self._jobs.get(plan)
        if job is None:
            with one_thread():
                job = self._jobs[plan] = self._begin(plan)
        return job

    def _draw(
        self, plan: RenderPlan, job: _Job, targets: NDArray[np.float32], wanted: slice
    ) -> NDArray[np.uint8]:
        """The `wanted` frames of one batch; called from several threads."""
        if job.engine is not None:
            frames = [job.compositor.paste(job.engine.render(x)) for x in targets[wanted]]
            return np.stack(frames)

        crops, warped = self._sample(plan, job, _pad(targets, plan.batch_size))
        frames = []
        for crop, warp, target in zip(crops[wanted], warped[wanted], targets[wanted], strict=True):
            coloured = match_colour(crop, warp, target)
            sharp = coloured if job.restore is None else job.restore(coloured, target)
            frames.append(job.compositor.paste(sharp))
        return np.stack(frames)

    def _begin(self, plan: RenderPlan) -> _Job:
        """Compute what the frames of `plan` share."""
        landmarks = np.concatenate([plan.reference_landmarks[None], plan.target_landmarks])
        if not plan.num_inference_steps:
            native = round(source_pixels(plan.crop_affine))
            size = int(np.clip(native, *_PREVIEW_PX))
            if self.inner_mouths is None:
                raise CheckpointError(
                    f"The checkpoint has no {INNER_MOUTHS}/, which preset {plan.preset!r} draws "
                    "from. Pack it again with `python -m model.training.export`."
                )
            engine = self._engine(plan, size, self.inner_mouths)
            generated = lower_face_mask(plan.reference_landmarks, size)
            compositor = Compositor(plan.image, plan.crop_affine, landmarks, generated)
            return _Job(compositor, engine=engine)

        sampler = self._sampler(plan, self._networks)
        crop_px = self._networks.crop_px
        native_px = source_pixels(plan.crop_affine)
        compositor = Compositor(plan.image, plan.crop_affine, landmarks, sampler.generated)
        restore = None
        if plan.restore_detail and native_px > _DETAIL_FROM * crop_px:
            size = int(min(round(native_px), _DETAIL_PX))
            restore = DetailRestorer(self._engine(plan, size, None), crop_px)
        return _Job(compositor, sampler=sampler, restore=restore)

    def _engine(self, plan: RenderPlan, size: int, bank: InnerMouthBank | None) -> PortraitEngine:
        crop = crop_image(plan.image, plan.crop_affine, size)
        return PortraitEngine(crop, plan.reference_landmarks, bank)

    def _sampler(self, plan: RenderPlan, networks: Networks) -> CropSampler:
        preset = PRESETS[plan.preset]
        return CropSampler(
            networks,
            crop_image(plan.image, plan.crop_affine, networks.crop_px),
            plan.reference_landmarks,
            steps=plan.num_inference_steps,
            scheduler=preset.scheduler,
            init=plan.init,
            strength=preset.init_strength,
            seed=plan.seed,
        )

    def _sample(
        self, plan: RenderPlan, job: _Job, targets: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Crops of a full batch, all finite, and the portrait engine's of the same faces."""
        assert job.sampler is not None
        warped = job.sampler.warp(targets)
        crops = job.sampler.sample(targets, warped)
        if np.isfinite(crops).all():
            return crops, warped
        if self.dtype != torch.float32:
            crops = self._sampler(plan, self._networks.in_fp32()).sample(targets, warped)
        if not np.isfinite(crops).all():
            raise SamplingError(
                f"{self.model_name} drew non-finite values at {plan.num_inference_steps} steps, in "
                f"fp32 too; expected pixel values. The weights are unusable: check them with "
                "`talkface doctor`."
            )
        return crops, warped


def load_pipeline(
    path: Path | None = None, *, device: str = "auto", dtype: str = "auto"
) -> TalkingFacePipeline:
    """Load a checkpoint, checked, placed and ready.

    Args:
        path: Checkpoint folder; None = the one that ships.
        device: "auto", "cpu", "cuda" or "cuda:N".
        dtype: "auto", "fp32", "bf16" or "fp16"; see `placement.choose_dtype`.
    Raises:
        CheckpointError: The checkpoint is absent, incomplete or altered.
    """
    manifest = verify_checkpoint(path)
    shows_progress = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with one_thread():
            pipeline = TalkingFacePipeline.from_pretrained(manifest.folder)
    except (OSError, ValueError, RuntimeError, AttributeError) as error:
        raise CheckpointError(
            f"{manifest.folder} could not be loaded ({type(error).__name__}: {error}); expected a "
            "checkpoint of this version of talkface. Restore model/weights from the repository."
        ) from error
    finally:
        if shows_progress:
            logging.enable_progress_bar()
    pipeline.model_name = manifest.model_name
    pipeline.version = manifest.version
    pipeline.weights_sha256 = manifest.weights_sha256
    place = choose_device(device)
    select_backend(place)
    with one_thread():
        return pipeline.to(place, choose_dtype(dtype, place))


def _check_inputs(image: NDArray[np.uint8], waveform: NDArray[np.float32]) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ShapeError(
            f"image has shape {image.shape} and dtype {image.dtype}; expected (H, W, 3) uint8"
        )
    if waveform.ndim != 1 or waveform.dtype != np.float32:
        raise ShapeError(
            f"waveform has shape {waveform.shape} and dtype {waveform.dtype}; expected (N,) float32"
        )
    seconds = len(waveform) / SAMPLE_RATE
    if seconds < MIN_SECONDS:
        raise AudioTooShortError(
            f"The sound is {seconds:.2f} s long; expected at least {MIN_SECONDS} s. "
            "Send a longer recording."
        )


def _pad(targets: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """A batch of exactly `size`: the last frame repeated, so that all batches cost and round alike."""
    missing = size - len(targets)
    return np.concatenate([targets, np.repeat(targets[-1:], missing, axis=0)])


def _tell(on_stage: OnStage | None, stage: str) -> None:
    if on_stage is not None:
        on_stage(stage)
