"""`make fake-gpu`: the drawing networks and the pictures around them as CUDA tensors in fp16, without a GPU.

torch's fake tensors have a shape, a dtype and a device, and no values. So what fails on a GPU fails here as well: a
tensor of the CPU among those of the GPU, dtypes that do not fit, a value that is waited for in the middle of a batch.
It wants torch's CUDA build; a driver may be absent. A line is printed for each thing that went through.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from functools import partial
from itertools import product
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily

from model.face.average_face import AVERAGE_FACE
from model.networks.attention import attention
from model.networks.autoencoder import build_autoencoder
from model.networks.detail import SCALE, DetailNetwork
from model.networks.reference_encoder import ReferenceEncoder
from model.networks.schedule import build_scheduler
from model.networks.unet import build_unet
from model.networks.variants import VARIANTS
from model.pipelines import denoising
from model.pipelines.denoising import CropSampler, Networks
from model.pipelines.detail import run_on_device
from model.pipelines.device_frames import DeviceFrames, FramePart
from model.pipelines.drawing import PlanDrawer
from model.pipelines.outputs import RenderPlan
from tests.gpu_plans import example_plan, load_example_pipeline

Network = TypeVar("Network", bound=nn.Module)
FRAMES = 4


def on_gpu(network: Network) -> Network:
    """An evaluated network whose parameters are fp16 on "cuda", in place."""
    for module in network.modules():
        for values in (module._parameters, module._buffers):
            for name, value in list(values.items()):
                if value is None:
                    continue
                dtype = torch.float16 if value.is_floating_point() else value.dtype
                moved = value.detach().to("cuda", dtype)
                is_weight = isinstance(value, nn.Parameter)
                values[name] = nn.Parameter(moved, requires_grad=False) if is_weight else moved  # type: ignore[assignment]
    return network.eval()


def build(crop: str, shipped: Networks) -> Networks:
    """The networks that ship (they draw mouths), or such as draw faces; no weights are read."""
    if crop == shipped.crop:
        networks = (shipped.autoencoder, shipped.unet, shipped.reference_encoder, shipped.detail)
        autoencoder, unet, encoder, detail = (
            None if x is None else on_gpu(type(x).from_config(x.config)) for x in networks
        )
        return Networks(autoencoder, unet, encoder, outside(build_scheduler)(), detail)
    return Networks(
        on_gpu(build_autoencoder()),
        on_gpu(build_unet("tiny", crop, reference_places=True)),
        on_gpu(ReferenceEncoder(VARIANTS["tiny"].channels)),
        outside(build_scheduler)(),
        on_gpu(DetailNetwork()),
    )


def expect(name: str, found: torch.Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Print, or raise."""
    assert found.device.type == "cuda", f"{name}: on {found.device}"
    assert tuple(found.shape) == shape, f"{name}: {tuple(found.shape)}, expected {shape}"
    assert found.dtype == dtype, f"{name}: {found.dtype}, expected {dtype}"
    print(f"  {name}: {shape}, {dtype}")


def outside(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of schedulers, whose tables are the CPU's and real."""

    def call(*arguments: Any) -> Any:
        with unset_fake_temporarily():
            return function(*arguments)

    return call


def copy_scheduler(mode: FakeTensorMode, scheduler: Any) -> Any:
    """A batch's own scheduler, its tables fake like all that they are multiplied with."""
    copied = outside(copy.deepcopy)(scheduler)
    for name, value in vars(copied).items():
        if isinstance(value, torch.Tensor):
            setattr(copied, name, mode.from_tensor(value))
    return copied


def check_that_faults_are_seen() -> None:
    """A check that cannot fail would be none."""
    for fault in (
        lambda: torch.ones(2, device="cuda") + torch.from_numpy(np.ones(2, np.float32)),
        lambda: torch.ones(2, device="cuda").sum().item(),
        lambda: nn.Linear(2, 2).to("cpu")(torch.ones(2, 2, device="cuda")),
    ):
        try:
            fault()
        except Exception:  # noqa: BLE001  each has its own class
            continue
        raise AssertionError("fake tensors let a fault through")


def check_attention() -> None:
    """Keys and values of one reference, expanded over the batch."""
    query = torch.ones(FRAMES, 64, 96, device="cuda", dtype=torch.float16)
    key = torch.ones(1, 80, 96, device="cuda", dtype=torch.float16).expand(FRAMES, -1, -1)
    expect("attention, keys expanded", attention(query, key, key, 3), (FRAMES, 64, 96), query.dtype)


def check_diffusion(crop: str, shipped: Networks) -> None:
    """Every sampler and start, one reference and three; a face's crop with footage's backgrounds too."""
    networks = build(crop, shipped)
    side = networks.crop_px
    faces = np.repeat(AVERAGE_FACE[None], FRAMES, axis=0)
    pictures = np.zeros((FRAMES, side, side, 3), np.uint8)
    for scheduler, init, references in product(denoising._CLASSES, ("noise", "warp"), (1, 3)):
        sampler = CropSampler(
            networks,
            pictures[:references],
            faces[:references],
            steps=2,
            scheduler=scheduler,
            init=init,  # type: ignore[arg-type]
            strength=0.6,
            seed=0,
        )
        background = None
        if crop == "face":
            background = sampler.background(pictures, faces, pictures)
        drawn = sampler.draw(faces, pictures, background)
        name = f"{crop}: {scheduler} from {init}, {references} references"
        expect(name, drawn, (FRAMES, 3, side, side), torch.float32)
    if networks.detail is not None:
        fine = np.zeros((FRAMES, SCALE * side, SCALE * side, 3), np.uint8)
        detailed = run_on_device(networks.detail, pictures.astype(np.float32), fine)
        expect(f"{crop}: detail", detailed, (FRAMES, 3, SCALE * side, SCALE * side), torch.float32)


def check_frames(frames: DeviceFrames, parts: list[FramePart], plan: RenderPlan) -> None:
    """Carried, pasted, moved."""
    shape = (len(parts), plan.height, plan.width, 3)
    expect("frames finished", frames.draw_part(parts), shape, torch.uint8)


def main() -> int:
    """Run all of it."""
    if torch.version.cuda is None:
        print(f"torch {torch.__version__} is a CPU build: `make fake-gpu` installs the other one")
        return 2
    pipeline = load_example_pipeline("cpu")
    plan = example_plan(pipeline, "preview", 0.4, 256)
    drawer = PlanDrawer(plan, pipeline.networks, pipeline.inner_mouths, "", on_device=False)
    engine = drawer.scene.photograph.engine  # type: ignore[attr-defined]
    moved = [engine.move(target) for target in plan.target_landmarks[:FRAMES]]
    parts = [
        FramePart(x.draw_mouth("bank"), x.mouth, engine.size, x.fields[-1], number)
        for number, x in enumerate(moved)
    ]
    print(f"torch {torch.__version__}, CUDA {torch.version.cuda}, fake tensors")
    for name in ("make_scheduler", "set_steps"):
        setattr(denoising, name, outside(getattr(denoising, name)))
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        denoising.copy = SimpleNamespace(deepcopy=partial(copy_scheduler, mode))  # type: ignore[assignment]
        check_that_faults_are_seen()
        check_attention()
        for crop in ("mouth", "face"):
            check_diffusion(crop, pipeline.networks)
        frames = drawer.make_device_frames(torch.device("cuda"))
        assert frames is not None
        check_frames(frames, parts, plan)
    print("all went through")
    return 0


if __name__ == "__main__":
    sys.exit(main())
