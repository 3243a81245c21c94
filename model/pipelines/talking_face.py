"""The talking-face pipeline: one picture and one voice become frames.

    plan = prepare(image, waveform, options)    detect ─▶ crop ─▶ landmarks of every frame; nothing is drawn yet
    plan = prepare_video(video, waveform, options)    the same for footage: dubbing; see model.pipelines.dubbing
    render(plan, start, stop)    batches: denoise ─▶ decode ─▶ restore detail ─▶ composite
    pipeline(image, waveform, options)    prepare and render, in memory

Presets without steps leave the diffusion out: the portrait engine draws.
"""

# Not `from __future__ import annotations`: diffusers reads the constructor's annotations as classes.

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final, Self
from weakref import WeakKeyDictionary

import numpy as np
import torch
from diffusers import DDIMScheduler, DiffusionPipeline
from diffusers.utils import logging
from numpy.typing import NDArray

from model.checkpoints import INNER_MOUTHS, OPTIONAL_PARTS, verify_checkpoint, write_manifest
from model.errors import CheckpointError
from model.face.alignment import invert_affine
from model.face.average_face import AVERAGE_FACE
from model.face.detection import FaceDetector, MediaPipeFaceDetector
from model.face.inner_mouth import InnerMouthBank
from model.media.audio import FPS, SAMPLE_RATE
from model.media.frames import FrameSource
from model.networks.attention import attention_backend
from model.networks.autoencoder import Autoencoder
from model.networks.detail import DetailNetwork
from model.networks.head_flow import HeadFlow
from model.networks.landmark_completion import LandmarkCompleter
from model.networks.reference_encoder import ReferenceEncoder
from model.networks.unet import TalkFormerUNet
from model.pipelines.denoising import Networks
from model.pipelines.drawing import PlanDrawer
from model.pipelines.dubbing import follow_footage
from model.pipelines.framing import frame_photograph
from model.pipelines.head_paths import driver_path, voice_path
from model.pipelines.options import RenderOptions
from model.pipelines.outputs import HeadPath, Reference, RenderPlan, TalkingFaceOutput
from model.pipelines.parallel import map_ahead, num_workers, one_thread
from model.pipelines.placement import dtype_name, set_up
from model.pipelines.planning import Planner, check_inputs, find_reference
from model.pipelines.scenes import plan_batches

_BATCH_SIZE: Final = {"cpu": 8, "cuda": 32}
OnStage = Callable[[str], None]


class TalkingFacePipeline(DiffusionPipeline):
    """Portrait + voice -> frames.

    Beside its components it has `inner_mouths` (saved with it) and a `detector` (made when needed).

    Args:
        autoencoder: D(E(.)).
        unet: The denoiser.
        reference_encoder: Features of the photograph for R-Align.
        landmark_completer: Speech to landmarks; stays on the CPU in fp32.
        scheduler: Holds the noise schedule; presets choose the sampler over it.
        detail: Brings drawn crops to twice their size; None = the warp's detail alone.
        head_flow: Moves heads by their voice; stays on the CPU in fp32. None = heads are still.
    """

    model_cpu_offload_seq = "reference_encoder->unet->autoencoder->detail"
    _optional_components: ClassVar[list[str]] = [*OPTIONAL_PARTS]

    def __init__(
        self,
        autoencoder: Autoencoder,
        unet: TalkFormerUNet,
        reference_encoder: ReferenceEncoder,
        landmark_completer: LandmarkCompleter,
        scheduler: DDIMScheduler,
        detail: DetailNetwork | None = None,
        head_flow: HeadFlow | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(
            autoencoder=autoencoder,
            unet=unet,
            reference_encoder=reference_encoder,
            landmark_completer=landmark_completer,
            scheduler=scheduler,
            detail=detail,
            head_flow=head_flow,
        )
        drawing = (autoencoder, unet, reference_encoder, detail)
        for network in (*drawing, landmark_completer, head_flow):
            if network is not None:
                network.eval().requires_grad_(False)
        self.model_name = "unnamed"
        self.version = "0"
        self.weights_sha256: str | None = None
        self.inner_mouths: InnerMouthBank | None = None
        self.detector: FaceDetector | None = None
        self.batch_size: int | None = None  # frames at once; None = as suits the device
        self._jobs: WeakKeyDictionary[RenderPlan, PlanDrawer] = WeakKeyDictionary()

    # --- where and how ------------------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where the drawing networks are."""
        return self.networks.device

    @property
    def dtype(self) -> torch.dtype:
        """Arithmetic of the drawing networks."""
        return self.networks.dtype

    @property
    def torch_dtype_name(self) -> str:
        """The same as "fp16", "bf16" or "fp32"."""
        return dtype_name(self.dtype)

    @property
    def attention_backend(self) -> str:
        """Which attention draws: "xformers", "sdpa" or "eager"."""
        return attention_backend()

    @property
    def networks(self) -> Networks:
        """What draws."""
        return Networks(
            self.autoencoder, self.unet, self.reference_encoder, self.scheduler, self.detail
        )

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move the drawing networks, as `torch.nn.Module.to` does; the completer stays where it is."""
        kwargs.pop("silence_dtype_warnings", None)
        device, dtype, *_ = torch._C._nn._parse_to(*args, **kwargs)
        drawing = (self.autoencoder, self.unet, self.reference_encoder, self.detail)
        for network in [network for network in drawing if network is not None]:
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
        path = str(pretrained_model_name_or_path)
        pipeline: TalkingFacePipeline = super().from_pretrained(path, **kwargs)
        bank = Path(path) / INNER_MOUTHS
        if bank.is_dir():
            pipeline.inner_mouths = InnerMouthBank.load(bank)
        return pipeline

    # --- the three steps ----------------------------------------------------------------------------------------------

    def prepare(
        self,
        image: NDArray[np.uint8],
        waveform: NDArray[np.float32],
        options: RenderOptions = RenderOptions(),
        *,
        references: Sequence[NDArray[np.uint8]] = (),
        driving: FrameSource | None = None,
        on_stage: OnStage | None = None,
    ) -> RenderPlan:
        """Decide every frame; quick against drawing them.

        Args:
            image: `(H, W, 3)`, uint8 RGB.
            waveform: `(N,)`, float32, 16 kHz mono.
            options: The caller's choices.
            references: Further pictures of the person, `(H, W, 3)` uint8 RGB; the largest face counts.
            driving: Video of a head that the photograph's follows from its own first frame on, forwards,
                backwards and so on. None = the head moves and blinks as the options say; where they say
                nothing, all but the mouth is the photograph bit for bit.
            on_stage: Called with "detecting" and "landmarks" as they begin.
        Raises:
            InputError: The picture or the sound cannot be animated; its subclass says why.
            ShapeError: An array has another shape or dtype.
            ValueError: The options move a head that a driver moves.
        """
        # 1. what can be said before any work
        check_inputs([image, *references], waveform)
        if driving is not None and (options.motion is not None or options.loop):
            found = f"motion is {options.motion!r} and loop {options.loop}"
            raise ValueError(f"{found}; expected None and False beside a driving video")
        fps = FPS if options.fps is None else options.fps

        # 2. the face, and what moves its head
        _tell(on_stage, "detecting")
        detector = self._detector()
        shown = frame_photograph(detector, image, options)
        more = [find_reference(detector, x, check=options.check_face)[0] for x in references]
        find_path: Callable[[], HeadPath | None]
        if driving is None:
            find_path = partial(voice_path, self.head_flow, waveform, fps, options)
        else:
            find_path = partial(driver_path, driving, detector, waveform, fps, options)

        # 3. its mouth, and beside it what the head does, which needs nothing of the mouth
        _tell(on_stage, "landmarks")
        planner = self._planner  # asked before threads are few
        with one_thread(), ThreadPoolExecutor(1, thread_name_prefix="head") as aside:
            path = aside.submit(find_path)
            where = (shown.bbox_xyxy, fps, options)
            plan = planner.plan(waveform, [shown.reference, *more], None, *where, mat=shown.mat)
            return replace(plan, head=path.result())

    def prepare_video(
        self,
        video: FrameSource,
        waveform: NDArray[np.float32],
        options: RenderOptions = RenderOptions(),
        *,
        references: Sequence[NDArray[np.uint8]] = (),
        on_stage: OnStage | None = None,
    ) -> RenderPlan:
        """Decide every frame of a dubbed video: its own pose and background, a new mouth.

        A longer video than the sound is cut. Frames without the face are no error: the last good pose
        is held and `held_frames` names them; where it is gone for over 0.2 s nothing is drawn.

        Args:
            video: The footage.
            waveform: `(N,)`, float32, 16 kHz mono.
            options: The caller's choices; the face they name is followed from where it first shows.
            references: Pictures that the mouth is drawn from, `(H, W, 3)` uint8 RGB each; none = the
                footage's sharpest frame of a usual mouth and pose.
            on_stage: Called with "detecting" and "landmarks" as they begin.
        Raises:
            InputError: Footage, reference or sound cannot be used; its subclass says why.
            ShapeError: An array has another shape or dtype.
        """
        # 1. what can be said before any work
        check_inputs(references, waveform)
        fps = video.fps if options.fps is None else options.fps

        # 2. the face through the footage, and the pictures that its mouth is drawn from
        _tell(on_stage, "detecting")
        detector = self._detector()
        check = options.check_face
        given = [find_reference(detector, picture, check=check)[0] for picture in references]
        followed = follow_footage(
            video, detector, num_samples=len(waveform), fps=fps, options=options
        )
        faces = given or [followed.reference]
        if check:
            followed.check_suitable()

        # 3. its mouth
        _tell(on_stage, "landmarks")
        return self._planner.plan(
            waveform,
            faces,
            followed,
            followed.bbox_xyxy,
            fps,
            options,
            shown_too=() if given else followed.more_references,
            mat=followed.mat,
        )

    def render(
        self, plan: RenderPlan, start: int = 0, stop: int | None = None
    ) -> Iterator[NDArray[np.uint8]]:
        """Draw frames `start` to `stop`.

        Batches begin at the same frames whatever the range, so that a part equals the
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
        job = self._job(plan)
        yield from map_ahead(job.draw, plan_batches(plan, start, stop), num_workers(self.device))

    def soft_mask(self, plan: RenderPlan, index: int = 0) -> NDArray[np.bool_]:
        """Where frame `index` may differ from its source, `(H, W)`; everywhere else they are bit-identical.

        The source is the plan's picture, and the same for all frames, or the footage's frame.
        """
        return self._job(plan).movable(index)

    def __call__(
        self,
        image: NDArray[np.uint8],
        waveform: NDArray[np.float32],
        options: RenderOptions = RenderOptions(),
        *,
        references: Sequence[NDArray[np.uint8]] = (),
        driving: FrameSource | None = None,
        on_stage: OnStage | None = None,
    ) -> TalkingFaceOutput:
        """The whole video in memory; the arguments are those of `prepare`."""
        plan = self.prepare(
            image, waveform, options, references=references, driving=driving, on_stage=on_stage
        )
        return TalkingFaceOutput(frames=np.concatenate(list(self.render(plan))), fps=plan.fps)

    def warm_up(self) -> None:
        """Pay first-call costs: detector, mel filters, kernels. Draws a few frames of a grey face."""
        image = np.full((192, 192, 3), 128, np.uint8)
        self._detector()(image)
        affine = invert_affine(np.array([(160, 0, 16), (0, 160, 16)], np.float32))
        plan = self._planner.plan(
            np.zeros(SAMPLE_RATE // 5, np.float32),
            [Reference(image, affine, AVERAGE_FACE)],
            None,
            (48.0, 48.0, 144.0, 144.0),
            FPS,
            RenderOptions(num_inference_steps=2, init="noise", restore_detail=True),
        )
        list(self.render(plan))

    # --- parts of the steps -------------------------------------------------------------------------------------------

    @property
    def _planner(self) -> Planner:
        size = self.batch_size or _BATCH_SIZE.get(self.device.type, 8)
        return Planner(self.landmark_completer, size, torch.get_num_threads())

    def _detector(self) -> FaceDetector:
        if self.detector is None:
            self.detector = MediaPipeFaceDetector()
        return self.detector

    def _job(self, plan: RenderPlan) -> PlanDrawer:
        """What the frames of `plan` share, computed when it is first asked for."""
        job = self._jobs.get(plan)
        if job is None:
            with one_thread():
                job = self._jobs[plan] = PlanDrawer(
                    plan, self.networks, self.inner_mouths, self.model_name
                )
        return job


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
    with one_thread():
        return pipeline.to(*set_up(device, dtype))


def _tell(on_stage: OnStage | None, stage: str) -> None:
    if on_stage is not None:
        on_stage(stage)
