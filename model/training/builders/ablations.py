"""The paper's ablations, one command each: stage 2 from scratch, stage 3, a checkpoint to evaluate.

    python -m model.training.builders.ablations name=no_r_align seed=1
    talkface evaluate --weights runs/ablations/paper/full/seed0/checkpoint --weights ...

    full           both stages
    no_end_to_end  stage 3 with the landmarks detached: both parts train, side by side
    no_m_align     both stages without M-Align
    no_r_align     both stages without R-Align

Every run has the same budget and, for one seed, the same draws. `inputs=paper` gives the denoiser
nothing beside z_t, masked latents and mask but its cross-attentions, as the paper has it; with
`inputs=all` it also sees our landmark maps, reference latents and warped latents (docs/adr/0006).
arXiv 2408.05416; results in docs/ablations.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from model.checkpoints import INNER_MOUTHS, SHIPPED
from model.training import stage2_diffusion, stage3_end_to_end
from model.training.builders.export import pack
from model.training.config import run_program
from model.training.launch import launch
from model.training.stage2_diffusion import DiffusionConfig
from model.training.stage3_end_to_end import EndToEndConfig

SWITCHES: Final[dict[str, dict[str, bool]]] = {
    "full": {},
    "no_end_to_end": {"end_to_end": False},
    "no_m_align": {"m_align": False},
    "no_r_align": {"r_align": False},
}
_PAPER_INPUTS: Final = {"maps": False, "reference_latents": False, "warped_latents": False}


@dataclass(frozen=True)
class AblationConfig:
    """One ablation.

    Attributes:
        name: What is switched off.
        inputs: What the denoiser sees beside the paper's inputs.
        seed: Of both stages.
        output: Runs go to `output/inputs/name/seed<seed>`.
        prepared: Folder with the arrays of stages 1 and 2.
        shards: Clips of stage 3.
        autoencoder: Trained before and shared by all, as detail and the completer's start are.
        stage2_steps: Budget of stage 2, batches of 32.
        stage3_steps: Budget of stage 3, batches of 16 windows with two drawn frames.
        num_threads: torch threads on a CPU; 0 leaves torch's choice.
    """

    name: Literal["full", "no_end_to_end", "no_m_align", "no_r_align"] = "full"
    inputs: Literal["paper", "all"] = "paper"
    seed: int = 0
    output: Path = Path("runs/ablations")
    prepared: Path = Path("data/prepared")
    shards: Path = Path("data/shards/grid")
    autoencoder: Path = SHIPPED / "autoencoder"
    landmark_completer: Path = SHIPPED / "landmark_completer"
    detail: Path = SHIPPED / "detail"
    stage2_steps: int = 800
    stage3_steps: int = 100
    num_threads: int = 1


def stages(config: AblationConfig) -> tuple[DiffusionConfig, EndToEndConfig]:
    """Both stages' settings; without end-to-end training stage 2 is the full model's."""
    switches = SWITCHES[config.name]
    first = "full" if "end_to_end" in switches else config.name
    folder = config.output / config.inputs
    shared: dict[str, Any] = {k: getattr(config, k) for k in ("prepared", "seed", "num_threads")}
    stage2 = DiffusionConfig(
        output=folder / first / f"seed{config.seed}" / "stage2",
        autoencoder=config.autoencoder,
        max_steps=config.stage2_steps,
        sample_every=config.stage2_steps,
        **shared,
    )
    inner: dict[str, Any] = {key: on for key, on in switches.items() if key != "end_to_end"}
    if config.inputs == "paper":
        inner |= _PAPER_INPUTS
    stage3 = EndToEndConfig(
        output=folder / config.name / f"seed{config.seed}" / "stage3",
        weights=stage2.output.parent / "start",
        shards=config.shards,
        max_steps=config.stage3_steps,
        **shared,
        end_to_end=switches.get("end_to_end", True),
        every_timestep=False,  # as docs/ablations.md was measured
    )
    return replace(stage2, **inner), stage3


def ablate(config: AblationConfig) -> Path:
    """Train what is not trained yet; returns the checkpoint to evaluate."""
    stage2, stage3 = stages(config)
    start = stage3.weights
    if not (start / "manifest.json").is_file():
        launch(stage2_diffusion.build, stage2)
        parts = {name: stage2.output / "export" / name for name in ("unet", "reference_encoder")}
        given = ("autoencoder", "landmark_completer", "detail")
        parts |= {name: getattr(config, name) for name in given}
        # By the folder: without end-to-end training the start is the full model's.
        name = f"{config.inputs}-{start.parent.parent.name}-seed{config.seed}"
        pack(parts, SHIPPED / INNER_MOUTHS, start, model_name=name, version="0")
    launch(stage3_end_to_end.build, stage3)
    return stage3.output / "checkpoint"


if __name__ == "__main__":
    run_program(AblationConfig, lambda config: print(ablate(config)), __doc__)
