"""Start the variant `large` from Stable Diffusion 1.5's weights.

    unet/   time embedding, convolutions, residual blocks, ─▶ TalkFormerUNet; M-Align, R-Align and
            self-attention, GEGLU, samplers                   the landmarks' tokens stay new
            first convolution                              ─▶ its part for z_t; the rest is zero
            text attention (attn2, norm2)                  ─▶ left out: no text here
    vae/                                                   ─▶ AutoencoderKL, as it is

The new parts begin without effect, so the network computes what Stable Diffusion's would with its
text attention silent. That one predicts the noise, ours v at another terminal SNR
(`schedule.py`): it is a beginning for stage 2, not a finished network.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import AutoencoderKL
from safetensors import SafetensorError, safe_open

from model.errors import CheckpointError
from model.networks.autoencoder import pixels_per_cell
from model.networks.unet import TalkFormerUNet
from model.networks.variants import VARIANTS

_WEIGHTS: Final = (
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
)
_STRUCTURE: Final[dict[str, Any]] = {
    "_class_name": "UNet2DConditionModel",
    "act_fn": "silu",
    "addition_embed_type": None,
    "center_input_sample": False,
    "class_embed_type": None,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "downsample_padding": 1,
    "dual_cross_attention": False,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "mid_block_scale_factor": 1,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "norm_eps": 1e-5,
    "num_attention_heads": None,
    "only_cross_attention": False,
    "out_channels": 4,
    "resnet_out_scale_factor": 1.0,
    "resnet_time_scale_shift": "default",
    "time_embedding_dim": None,
    "time_embedding_type": "positional",
    "transformer_layers_per_block": 1,
}
"""What our layout copies; entries that an old config.json lacks had these values."""
_SIZES: Final = (
    "block_out_channels", "layers_per_block", "attention_head_dim", "norm_num_groups",
    "in_channels", "down_block_types", "up_block_types",
)  # fmt: skip

_RES: Final = {
    "norm1": "norm_1",
    "conv1": "conv_1",
    "time_emb_proj": "time",
    "norm2": "norm_2",
    "conv2": "conv_2",
    "conv_shortcut": "skip",
}
_TALK: Final = {
    "norm": "norm_in",
    "proj_in": "proj_in",
    "proj_out": "proj_out",
    "transformer_blocks.0.norm1": "self_norm",
    "transformer_blocks.0.attn1.to_out.0": "self_out",
    "transformer_blocks.0.norm3": "gate_norm",
    "transformer_blocks.0.ff.net.2": "gate_out",
}
_OUTSIDE: Final = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_norm_out": "norm_out",
    "conv_out": "conv_out",
}
# Stable Diffusion's inputs -> where ours stand. The inpainting network has the mask before the masked latents.
_INPUTS: Final[dict[int, list[int]]] = {4: [0, 1, 2, 3], 9: [0, 1, 2, 3, 8, 4, 5, 6, 7]}


@dataclass(frozen=True)
class StableDiffusion:
    """What `load_stable_diffusion` made.

    Attributes:
        unet: Of the folder's sizes; its reference encoder is `large`'s.
        autoencoder: f8; its `sample_size` is the side of the crops in pixels.
        loaded: Names of the U-Net's tensors that come from the folder.
        new: Names of the others.
        unused: Names of the folder's tensors that have no place here.
    """

    unet: TalkFormerUNet
    autoencoder: AutoencoderKL
    loaded: tuple[str, ...]
    new: tuple[str, ...]
    unused: tuple[str, ...]

    def report(self) -> str:
        """What was loaded and what was not, in three lines."""
        state = self.unet.state_dict()
        millions = [sum(state[x].numel() for x in names) / 1e6 for names in (self.loaded, self.new)]
        kinds = sorted({name.rsplit(".", 2)[-2] for name in self.new})
        return (
            f"loaded: {len(self.loaded)} tensors, {millions[0]:.1f} M parameters\n"
            f"new: {len(self.new)} tensors, {millions[1]:.1f} M parameters: {', '.join(kinds)}\n"
            f"left out: {len(self.unused)} tensors of the text attention"
        )


def load_stable_diffusion(folder: Path, **changed: Any) -> StableDiffusion:
    """Build U-Net and autoencoder from a local Stable Diffusion 1.x folder of diffusers' format.

    Args:
        folder: With `unet/` and `vae/`, each a config.json and safetensors; 1.5, one of its
            descendants, or its inpainting network (whose mask and masked latents are used too).
        changed: Arguments of `TalkFormerUNet` that replace those of `large`, such as switches or
            the window; the widths are the folder's.
    Returns:
        Both networks in fp32, and what came from where.
    Raises:
        CheckpointError: The folder is not that, or incomplete.
    """
    config = _read_config(folder / "unet")
    unet = TalkFormerUNet(
        **{
            **VARIANTS["large"].unet,
            "channels": tuple(config["block_out_channels"]),
            "layers_per_scale": config["layers_per_block"],
            "talk_scales": len(config["block_out_channels"]) - 1,
            "heads": config["attention_head_dim"],
            "groups": config["norm_num_groups"],
            **changed,
        }
    )
    tensors = _Tensors(folder / "unet")
    state = unet.state_dict()
    loaded = ["conv_in.weight"]
    with torch.no_grad():
        for name, value in _translate(tensors, unet):
            if state[name].shape != value.shape:
                raise CheckpointError(
                    f"{tensors.path} gives {tuple(value.shape)} for {name}; expected "
                    f"{tuple(state[name].shape)}. Its config.json is of another network."
                )
            state[name].copy_(value)
            loaded.append(name)
        entering = state["conv_in.weight"].zero_()  # inputs it does not know begin unheard
        entering[:, _INPUTS[config["in_channels"]]] = tensors.take("conv_in.weight")
    return StableDiffusion(
        unet=unet.eval(),
        autoencoder=_load_autoencoder(folder / "vae", unet),
        loaded=tuple(loaded),
        new=tuple(name for name in state if name not in set(loaded)),
        unused=tensors.untouched(),
    )


class _Tensors:
    """The tensors of one safetensors file, read one by one; remembers which were taken."""

    def __init__(self, folder: Path) -> None:
        self.path = _weights_in(folder)
        try:
            self._file = safe_open(self.path, framework="pt")
        except (OSError, SafetensorError) as error:
            raise CheckpointError(
                f"{self.path} cannot be read ({error}); expected safetensors. Download it again."
            ) from error
        self._left = dict.fromkeys(self._file.keys())

    def take(self, name: str) -> torch.Tensor:
        """The tensor, in fp32."""
        if name not in self._left:
            raise CheckpointError(
                f"{self.path} has no {name}; expected a whole Stable Diffusion 1.x U-Net. "
                "Download it again."
            )
        del self._left[name]
        tensor: torch.Tensor = self._file.get_tensor(name)
        return tensor.float()

    def take_module(self, theirs: str, ours: str) -> Iterator[tuple[str, torch.Tensor]]:
        """Weight and bias of a module that has them here as there."""
        for part in ("weight", "bias"):
            yield f"{ours}.{part}", self.take(f"{theirs}.{part}")

    def untouched(self) -> tuple[str, ...]:
        """Names that nobody took."""
        return tuple(self._left)


def _translate(tensors: _Tensors, unet: TalkFormerUNet) -> Iterator[tuple[str, torch.Tensor]]:
    """Our names and values, all but the first convolution's weight."""
    yield "conv_in.bias", tensors.take("conv_in.bias")
    for theirs, ours in _OUTSIDE.items():
        yield from tensors.take_module(theirs, ours)
    last = len(unet.config.channels) - 1
    down, up = (len(x) // (last + 1) for x in (unet.down_res, unet.up_res))
    for scale in range(last + 1):
        block = f"down_blocks.{scale}"
        for layer in range(down):
            index = scale * down + layer
            yield from _res(tensors, f"{block}.resnets.{layer}", f"down_res.{index}", unet)
            if scale < last:
                yield from _talk(tensors, f"{block}.attentions.{layer}", f"down_talk.{index}", unet)
        if scale < last:
            yield from tensors.take_module(f"{block}.downsamplers.0.conv", f"downs.{scale}")
        block = f"up_blocks.{last - scale}"
        for layer in range(up):
            index = scale * up + layer
            yield from _res(tensors, f"{block}.resnets.{layer}", f"up_res.{index}", unet)
            if scale < last:
                yield from _talk(tensors, f"{block}.attentions.{layer}", f"up_talk.{index}", unet)
        if scale:
            yield from tensors.take_module(f"{block}.upsamplers.0.conv", f"ups.{scale - 1}")
    for layer in range(2):
        yield from _res(tensors, f"mid_block.resnets.{layer}", f"middle_res.{layer}", unet)
    yield from _talk(tensors, "mid_block.attentions.0", "middle_talk", unet)


def _res(
    tensors: _Tensors, theirs: str, ours: str, unet: TalkFormerUNet
) -> Iterator[tuple[str, torch.Tensor]]:
    widens = isinstance(unet.get_submodule(f"{ours}.skip"), torch.nn.Conv2d)
    for part, here in _RES.items():
        if here != "skip" or widens:
            yield from tensors.take_module(f"{theirs}.{part}", f"{ours}.{here}")


def _talk(
    tensors: _Tensors, theirs: str, ours: str, unet: TalkFormerUNet
) -> Iterator[tuple[str, torch.Tensor]]:
    for part, here in _TALK.items():
        for name, value in tensors.take_module(f"{theirs}.{part}", f"{ours}.{here}"):
            # a 1x1 convolution is a linear layer
            yield name, value.flatten(1) if value.ndim == 4 else value
    inside = f"{theirs}.transformer_blocks.0"
    qkv = [tensors.take(f"{inside}.attn1.to_{x}.weight") for x in "qkv"]
    yield f"{ours}.self_qkv.weight", torch.cat(qkv)
    for part in ("weight", "bias"):
        value, gate = tensors.take(f"{inside}.ff.net.0.proj.{part}").chunk(2)
        yield f"{ours}.gate_in.{part}", torch.cat([gate, value])


def _read_json(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} cannot be read ({type(error).__name__}); expected a Stable Diffusion 1.5 "
            "folder of diffusers' format, with unet/ and vae/."
        ) from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} holds {type(config).__name__}; expected a JSON object")
    return config


def _read_config(folder: Path) -> Mapping[str, Any]:
    """The U-Net's sizes, when its structure is Stable Diffusion 1.x's."""
    config = _read_json(folder)
    found = {key: config.get(key, value) for key, value in _STRUCTURE.items()}
    missing = [key for key in _SIZES if key not in config]
    if missing:
        raise CheckpointError(
            f"{folder / 'config.json'} has no {', '.join(missing)}; expected the U-Net of Stable "
            "Diffusion 1.5."
        )
    stages = len(config["block_out_channels"])
    wanted = {
        **_STRUCTURE,
        "down_block_types": ["CrossAttnDownBlock2D"] * (stages - 1) + ["DownBlock2D"],
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * (stages - 1),
    }
    found |= {key: config[key] for key in ("down_block_types", "up_block_types")}
    other = [
        f"{key} {found[key]!r} (not {wanted[key]!r})" for key in wanted if found[key] != wanted[key]
    ]
    if not isinstance(config["attention_head_dim"], int):
        other.append(f"attention_head_dim {config['attention_head_dim']!r} (not one number)")
    if config["in_channels"] not in _INPUTS:
        other.append(
            f"in_channels {config['in_channels']!r} (not {' or '.join(map(str, _INPUTS))})"
        )
    if other:
        raise CheckpointError(
            f"{folder / 'config.json'} has {'; '.join(other)}; expected the U-Net of Stable "
            "Diffusion 1.5 or one of its descendants (2.x and XL are laid out differently)."
        )
    return config


def _weights_in(folder: Path) -> Path:
    for name in _WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise CheckpointError(
        f"{folder} has no weights; expected {' or '.join(_WEIGHTS)}. Pickled weights (.bin) are "
        "not read: download the safetensors."
    )


def _load_autoencoder(folder: Path, unet: TalkFormerUNet) -> AutoencoderKL:
    config = _read_json(folder)
    channels = int(unet.config.latent_channels)
    found = (config.get("_class_name"), config.get("latent_channels", channels))
    if found != ("AutoencoderKL", channels):
        raise CheckpointError(
            f"{folder / 'config.json'} is of {found[0]} with {found[1]} latent channels; expected "
            f"AutoencoderKL with the U-Net's {channels}."
        )
    half = _weights_in(folder).name == _WEIGHTS[1]
    try:
        autoencoder, found_keys = AutoencoderKL.from_pretrained(
            folder,
            variant="fp16" if half else None,
            torch_dtype=torch.float32,
            use_safetensors=True,
            low_cpu_mem_usage=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder} could not be loaded ({type(error).__name__}: {error}); expected Stable "
            "Diffusion's autoencoder. Download it again."
        ) from error
    if found_keys["missing_keys"]:
        raise CheckpointError(
            f"{folder} has no {found_keys['missing_keys'][0]}; expected Stable Diffusion's whole "
            "autoencoder. Download it again."
        )
    side = int(unet.config.latent_size) * pixels_per_cell(autoencoder)
    autoencoder.register_to_config(sample_size=side)
    return autoencoder.eval()
