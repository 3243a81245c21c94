"""Stage 1: speech -> lips and jaw.

    python -m model.training.stage1_landmarks prepared=data/prepared output=runs/landmarks

Half of the windows are filmed sentences, half are other voices with the phone teacher's labels
(`model.training.builders.phone_teacher`, which writes `motion.npz`): recorded ones, the same altered, and
synthetic ones in many languages. In the last third filmed sentences become three in four. The face
that speaks is a frame of the clip or a photograph to which the motion is carried; its mouth may
stand open in any way, and what it shall do does not depend on that: what a resting mouth is, the
completer is taught first and by itself. One window in ten holds no speech and asks for a shut
mouth.

With `shards=FOLDER` (`talkface prepare`) half of the windows are other people's films, or all of
them where nothing else is prepared.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F

from model.data.held_out_speech import HeldOut, Sounds, load_held_out, load_sounds
from model.data.phones import CLOSURES
from model.evaluation.landmark_figures import measure, real_figures
from model.evaluation.speakers import network_alone
from model.face.landmarks import (
    CHIN,
    CONTENT,
    INNER_LIPS,
    LIPS,
    LOWER_INNER_LIP,
    MOUTH_CORNERS,
    UPPER_INNER_LIP,
)
from model.media.audio import MELS_PER_FRAME
from model.networks.landmark_completion import LandmarkCompleter, lip_opening
from model.training.concordance import concordance_loss, distribution_loss
from model.training.landmark_windows import Batch, Pauses, Window, WindowMix, Windows, collate
from model.training.launch import main
from model.training.resting_mouths import RestingMouths, teach_rest
from model.training.run_folder import RunFolder
from model.training.stage import Draw, Figures, LoopConfig, Stage

_UNIT: Final = 0.02  # crop units that one unit of loss stands for
_SAMPLED_VOICES: Final = 16  # other voices that every sample measures
_SAMPLED_TRACKS: Final = 32  # held-out tracks of shards
_NOISES: Final = 160  # recordings of rooms, made up where none are prepared


@dataclass(frozen=True)
class LandmarksConfig(LoopConfig):
    """Stage 1.

    Attributes:
        prepared: Folder with `grid.npz`, `speech.npz` and `motion.npz`.
        shards: Filmed speech beside that of `prepared`, which may then be absent.
        shards_share: Windows out of shards where there are both.
        frames: Length of a window.
        width: Token width of the completer.
        layers: Its transformer layers.
        speech_share: Windows with other voices.
        altered_share: Of these, altered ones, where they were made.
        synthetic_share: Of these, synthetic ones, where they were made.
        silence_share: Windows without any speech.
        closure_weight: Extra weight of frames in /b p m/.
        gap_weight: Of the inner-lip gap's own term.
        width_weight: Of the mouth width's: rounded lips are small motion, easily averaged away.
        velocity_weight: Of first differences over time.
        acceleration_weight: Of second differences.
        opening_weight: Of both opening terms.
        concordance_weight: Of one minus the concordance of opening, mouth width and chin: distances
            alone are least for the median, which moves too little.
        phone_weight: Of the auxiliary phone head.
        rest_layers: Hidden layers of the resting mouth's network.
        rest_steps: Steps in which it is taught by itself before everything else; it then stays as it
            is. 0 where there are only shards, whose shut mouths are not known.
        stretch_share: Windows spoken faster or slower than they were.
        dropout: Of the completer's residual branches.
        last_speech_share: Windows with other voices in the last third of the run.
        speakers_share: Filmed windows with other speakers than the first.
        distribution_weight: Of the distance between the openings' distributions.
        width_gain: Factor on what the exported lips do sideways, once the run is complete. Doubt makes
            motion smaller whatever the loss; by how much was read from the speakers who choose.
        opening_gain: The same of what the lips do up and down.
        jaw_gain: The same of the jaw.
    """

    output: Path = Path("runs/landmarks")
    prepared: Path = Path("data/prepared")
    shards: Path | None = None
    shards_share: float = 0.5
    max_steps: int = 6000
    batch_size: int = 24
    learning_rate: float = 8e-4
    warmup_steps: int = 60
    weight_decay: float = 0.05
    num_threads: int = 1
    save_every: int = 100
    sample_every: int = 150
    frames: int = 64
    width: int = 256
    layers: int = 4
    speech_share: float = 0.5
    altered_share: float = 0.2
    synthetic_share: float = 0.25
    silence_share: float = 0.1
    closure_weight: float = 7.0
    gap_weight: float = 0.5
    width_weight: float = 1.0
    velocity_weight: float = 1.0
    acceleration_weight: float = 0.2
    opening_weight: float = 0.5
    concordance_weight: float = 1.0
    phone_weight: float = 0.1
    rest_layers: int = 2
    rest_steps: int = 6000
    stretch_share: float = 0.4
    dropout: float = 0.15
    last_speech_share: float = 0.25
    speakers_share: float = 0.5
    distribution_weight: float = 1.0
    width_gain: float = 1.5
    opening_gain: float = 1.25
    jaw_gain: float = 1.25

    @property
    def mix(self) -> WindowMix:
        """What the windows of `prepared` are made of."""
        return WindowMix(
            **{field.name: getattr(self, field.name) for field in dataclasses.fields(WindowMix)}
        )


def content_weights() -> torch.Tensor:
    """Weight of each content point `(31, 1)`: jaw 0.5, chin and outer lips 1, inner lips 2."""
    values = [2.0 if i in INNER_LIPS else 1.0 if i in (*LIPS, *CHIN) else 0.5 for i in CONTENT]
    return torch.tensor(values)[:, None]


def completion_loss(
    completer: LandmarkCompleter, batch: Batch, config: LandmarksConfig
) -> tuple[torch.Tensor, Figures]:
    """L1 + velocity + acceleration + opening + gap + width + concordance + phones."""
    output = completer(batch.mel, batch.pose, batch.reference)

    # 1. weight of each frame: closures count more, unknown labels not at all
    closure = torch.isin(batch.phones, torch.tensor(CLOSURES, device=batch.phones.device))
    closure = closure.unflatten(1, (-1, MELS_PER_FRAME))
    weight = batch.valid * (1.0 + config.closure_weight * closure.float().mean(dim=-1))
    weight = weight / weight.mean().clamp_min(1e-6)
    points = content_weights().to(batch.content.device)

    # 2. where the points are, and how they move
    error = (output.content - batch.content) * points / _UNIT  # (B, T, 31, 2)
    per_frame = error.abs().mean(dim=(2, 3))
    velocity = error.diff(dim=1).abs().mean(dim=(2, 3))
    acceleration = error.diff(n=2, dim=1).abs().mean(dim=(2, 3))
    position = (per_frame * weight).mean()
    speed = (velocity * weight[:, 1:]).mean()
    jerk = (acceleration * weight[:, 1:-1]).mean()

    # 3. what is seen of a mouth: its opening, the gap between the lips, its width
    target = output.target.detach().clone()
    target[:, :, list(CONTENT)] = batch.content
    opening, wanted = lip_opening(output.target), lip_opening(target)
    # 0.1 of mouth width: about one unit of the position term
    true_opening = ((opening - wanted).abs() * weight).mean() * 10
    head = ((output.mouth_open - wanted).abs() * weight).mean() * 10
    upper, lower = list(UPPER_INNER_LIP), list(LOWER_INNER_LIP)
    gap = output.target[:, :, lower, 1] - output.target[:, :, upper, 1]
    real_gap = target[:, :, lower, 1] - target[:, :, upper, 1]
    gaps = (((gap - real_gap) / _UNIT).abs().mean(dim=-1) * weight).mean()

    left, right = MOUTH_CORNERS
    width = output.target[:, :, right] - output.target[:, :, left]
    real_width = target[:, :, right] - target[:, :, left]
    widths = (((width - real_width) / _UNIT).abs().sum(dim=-1) * weight).mean()

    # 4. as much motion as there is
    agreement = concordance_loss(output.target, target, batch.valid)

    spread = distribution_loss(output.target, target, batch.valid)

    # 5. auxiliary: which phone is heard; the mean over known ones, of which a small batch may hold none
    phones = F.cross_entropy(
        output.phone_logits.flatten(0, 1),
        batch.phones.flatten(),
        ignore_index=-100,
        reduction="sum",
    ) / (batch.phones != -100).sum().clamp_min(1)
    loss = (
        position
        + config.velocity_weight * speed
        + config.acceleration_weight * jerk
        + config.opening_weight * (true_opening + head)
        + config.gap_weight * gaps
        + config.width_weight * widths
        + config.concordance_weight * agreement
        + config.distribution_weight * spread
        + config.phone_weight * phones
    )
    with torch.no_grad():
        ratio = opening.std() / wanted.std()
        r = torch.corrcoef(torch.stack([opening.flatten(), wanted.flatten()]))[0, 1]
    return loss, {
        "position": position.detach(),
        "velocity": speed.detach(),
        "opening": true_opening.detach() / 10,
        "gap": gaps.detach(),
        "width": widths.detach(),
        "concordance": agreement.detach(),
        "distribution": spread.detach(),
        "phones": phones.detach(),
        "train_r": r,
        "train_articulation": ratio,
    }


class Material:
    """Where windows come from, and what is measured: prepared arrays, shards, or both."""

    def __init__(self, config: LandmarksConfig) -> None:
        self._shards_share = 0.0 if config.shards is None else 1.0
        self._prepared = config.prepared
        self._arrays = self._shards = None
        if config.shards is None or (config.prepared / "motion.npz").exists():
            self._arrays = Windows(config.prepared, config.mix)
            self._shards_share *= config.shards_share
        if config.shards is not None:
            # Late: they need OpenCV, which a machine that only trains on arrays has not.
            from model.data.speechless_sounds import noise_recordings
            from model.training.shard_windows import ShardWindows

            noise = noise_recordings(_NOISES) if self._arrays is None else self._arrays.noise
            pauses = Pauses(noise.astype(np.float32), config.silence_share)
            self._shards = ShardWindows(config.shards, config.frames, pauses)
            self.noise = pauses.noise
        elif self._arrays is not None:
            self.noise = self._arrays.noise

    @cached_property
    def _sounds(self) -> Sounds:
        return load_sounds(self._held_out)

    @cached_property
    def _held_out(self) -> HeldOut:
        # Read where it is measured: stage 3 draws windows only.
        return load_held_out(self._prepared)

    def describe(self) -> str:
        """What there is, in one line, and the real video's figures."""
        words = []
        if self._shards is not None:
            words.append(f"{len(self._shards.seen)} tracks of shards")
        if self._arrays is not None:
            arrays = self._arrays
            words.append(f"{len(arrays.mels)} clips")
            words.append(f"{sum(len(cutter.spans) for cutter in arrays.voices)} utterances")
            words.append(f"{len(arrays.portraits)} photographs")
            real = real_figures(self._held_out)
            words.append("real " + json.dumps({k: round(v, 4) for k, v in real.items()}))
        return ", ".join(words)

    def draw(self, rng: np.random.Generator, speech_share: float | None = None) -> Window:
        """One window; `speech_share` counts in place of the config's."""
        if self._arrays is None:
            assert self._shards is not None
            return self._shards.draw(rng)
        if self._shards is not None and rng.random() < self._shards_share:
            return self._shards.draw(rng)
        return self._arrays.draw(rng, speech_share)

    @property
    def mouths(self) -> RestingMouths | None:
        """Faces and their shut mouths; none where there are only shards."""
        return None if self._arrays is None else self._arrays.mouths

    def measure(self, completer: LandmarkCompleter) -> dict[str, float]:
        """Held-out figures, those of shards with `shards_` before their names."""
        speak = network_alone(completer)
        figures: dict[str, float] = {}
        if self._arrays is not None:
            figures |= measure(speak, self._held_out, self._sounds, voices=_SAMPLED_VOICES)
        if self._shards is not None:
            figures |= self._shards.measure(speak, _SAMPLED_TRACKS)
        return figures


class LandmarksStage(Stage[Batch]):
    """The landmark completer, its loss and its held-out figures."""

    def __init__(self, config: LandmarksConfig, device: str) -> None:
        self.config, self.material = config, Material(config)
        self.completer = LandmarkCompleter(
            width=config.width,
            layers=config.layers,
            dropout=config.dropout,
            rest_layers=config.rest_layers,
        )
        self.completer.to(device)
        mouths = self.material.mouths
        if mouths is not None and config.rest_steps:
            # What was taught is in a resumed run's state already.
            if RunFolder(config.output).load_state() is None:
                left = teach_rest(self.completer, mouths, config.rest_steps, config.seed)
                print(f"resting mouth: loss {left:.3f}", flush=True)
            self.completer.rest_head.requires_grad_(False)
        super().__init__({"landmark_completer": self.completer})
        size = sum(p.numel() for p in self.completer.parameters())
        print(f"{size / 1e6:.2f} M parameters; {self.material.describe()}", flush=True)

    def draw(self, draw: Draw) -> Batch:
        """Windows, fewer of them with other voices towards the end."""
        config = self.config
        late = 3 * draw.step > 2 * config.max_steps
        share = config.last_speech_share if late else config.speech_share
        windows = [self.material.draw(draw.rng, share) for _ in range(config.batch_size)]
        return collate(windows, self.material.noise, draw)

    def loss(self, batch: Batch, step: int) -> tuple[torch.Tensor, Figures]:
        """See `completion_loss`."""
        return completion_loss(self.completer, batch, self.config)

    def sample(self, folder: Path, step: int) -> dict[str, float]:
        """How held-out sentences are said."""
        figures = self.material.measure(self.completer)
        text = json.dumps({key: round(value, 4) for key, value in figures.items()})
        (folder / f"{step:06d}.json").write_text(text + "\n")
        print(f"\nstep {step}: {text}", flush=True)
        return figures

    def finish(self, export: Path) -> None:
        """Give the exported completer the range that real mouths have."""
        folder = export / "landmark_completer"
        completer = LandmarkCompleter.from_pretrained(folder)
        config = self.config
        completer.scale_motion(config.width_gain, config.opening_gain, config.jaw_gain)
        completer.save_pretrained(folder)


CONFIG, build = LandmarksConfig, LandmarksStage


if __name__ == "__main__":
    main(CONFIG, build, __doc__)
