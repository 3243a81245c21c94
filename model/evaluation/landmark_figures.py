"""Measure a landmark completer on sentences, voices and faces that training has not seen.

    python -m model.evaluation.landmark_figures --prepared data/prepared --source DATA

Prints JSON and a Markdown table, writes `figures.json`, `figures.md` and `openings.png` (predicted
against real opening). The network alone, the network as it is served (`--source`: smoothing and
pauses need the recordings) and the real video stand side by side. Needs `grid.npz`, `speech.npz`
and `motion.npz` (docs/training.md).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from model.data.held_out_speech import HeldOut, Sound, Sounds, load_held_out, load_sounds
from model.data.phones import LIP_TO_TEETH, ROUNDED
from model.evaluation.metrics.landmarks import (
    MAX_LAG,
    articulation,
    at_phones,
    best_lag,
    closure_rate,
    correlation,
    jitter,
    motion_ratio,
    same_mouth,
    still_passages,
)
from model.evaluation.report import column_table, plot_openings, write_figures
from model.evaluation.speakers import Speaker, as_served, network_alone
from model.face.landmarks import CONTENT, LIPS, mouth_opening, mouth_width
from model.media.audio import HOP_LENGTH, MELS_PER_FRAME, N_MELS, SAMPLE_RATE, SILENCE, log_mel
from model.networks.landmark_completion import LandmarkCompleter

Points = NDArray[np.float32]

_SHIPPED: Final = Path("model/weights/landmark_completer")
_TRAINED: Final = Path("runs/landmarks/export/landmark_completer")


def measure(
    speak: Speaker, data: HeldOut, sounds: Sounds, voices: int | None = None
) -> dict[str, float]:
    """All figures of one system, as in the module's table; of the other voices only `voices`, if given."""
    figures: dict[str, float] = {}

    # 1. the filmed speaker: first frame as the reference, own voice
    real = list(mouth_opening(data.faces))
    spoken = [speak(sound, face[0]) for sound, face in zip(sounds.clips, data.faces, strict=True)]
    said = [mouth_opening(face) for face in spoken]
    figures["r"] = correlation(said, real)
    each = [np.corrcoef(s, t)[0, 1] for s, t in zip(said, real, strict=True)]
    figures["r_per_clip"] = float(np.mean(each))
    lag, figures["r_best_lag"] = best_lag(said, real)
    figures["best_lag"] = float(lag)
    figures["articulation"] = articulation(said, real) / data.gain
    figures["closure"] = closure_rate(said, list(data.phones))
    figures |= form_figures(spoken, data, data.gain)

    # 2. other voices on other faces
    count = len(data.voices) if voices is None else voices
    said = [
        mouth_opening(speak(sound, data.portraits[i % len(data.portraits)]))
        for i, sound in enumerate(sounds.voices[:count])
    ]
    figures["voices_closure"] = closure_rate(said, data.voice_phones[:count])
    figures["voices_r_teacher"] = correlation(said, data.voice_openings[:count])
    figures["voices_articulation"] = articulation(said, data.voice_openings[:count])

    # 3. digital silence; the reference shut, open, and portraits as they are (many smile)
    samples = 3 * SAMPLE_RATE
    nothing = np.full((samples // HOP_LENGTH, N_MELS), SILENCE, np.float32)
    silence = Sound(nothing, np.zeros(samples, np.float32))
    closed = [face[mouth_opening(face).argmin()] for face in data.faces]
    yawning = [face[mouth_opening(face).argmax()] for face in data.faces]
    kinds = {"shut": closed, "open": yawning, "portraits": list(data.portraits)}
    for name, references in kinds.items():
        quiet = [mouth_opening(speak(silence, face)) for face in references[:24]]
        figures[f"silence_{name}_mean"] = float(np.mean(quiet))
        figures[f"silence_{name}_std"] = float(np.mean([q.std() for q in quiet]))

    # 4. leak: the same words from an open and from a shut reference
    shut, wide = (
        [speak(s, f)[:, list(CONTENT)] for s, f in zip(sounds.clips[:24], faces, strict=False)]
        for faces in (closed, yawning)
    )
    widths = [float(mouth_width(face)) for face in closed[:24]]
    figures["leak_r"], figures["leak_difference"] = same_mouth(shut, wide, widths)
    return figures


def language_figures(speak: Speaker, data: HeldOut) -> dict[str, float]:
    """Synthetic voices in languages that training has not heard, on held-out photographs."""
    if not data.synthetic:
        return {}
    said = [
        mouth_opening(speak(Sound(mel), data.portraits[i % len(data.portraits)]))
        for i, mel in enumerate(data.synthetic)
    ]
    return {"synthetic_closure": closure_rate(said, data.synthetic_phones)}


def form_figures(faces: Sequence[Points], data: HeldOut, gain: float = 1.0) -> dict[str, float]:
    """What is beyond the opening: width, chin, rounded lips, the lip at the teeth, rest.

    Args:
        faces: Landmarks `(T, 68, 2)` of each filmed sentence, predicted or real.
        data: Its real video.
        gain: By which the motion is larger than the speaker's own: the population's amplitude.
    """
    widths = [float(np.median(mouth_width(face))) for face in data.faces]
    curves = {
        name: [
            [curve(face) / width for face, width in zip(said, widths, strict=True)]
            for said in (faces, data.faces)
        ]
        for name, curve in _CURVES.items()
    }
    phones = list(data.phones)
    still = [still_passages(opening) for opening in mouth_opening(data.faces)]
    return {
        "width_ratio": motion_ratio(*curves["width"]) / gain,
        "width_r": _own_correlation(*curves["width"]),
        "chin_ratio": motion_ratio(*curves["chin"]) / gain,
        "chin_r": _own_correlation(*curves["chin"]),
        "rounded_width": at_phones(curves["width"][0], phones, ROUNDED),
        "teeth_lip": at_phones(curves["lower_lip"][0], phones, LIP_TO_TEETH),
        "jitter": jitter([face[:, list(LIPS)] for face in faces], still, widths),
    }


_CURVES: Final[dict[str, Callable[[Points], Points]]] = {
    "width": mouth_width,
    "chin": lambda face: face[:, 8, 1] - face[:, 33, 1],
    "lower_lip": lambda face: face[:, 66, 1] - face[:, 33, 1],
}
"""Of a face `(T, 68, 2)` over time; heights are below the nose."""


def _own_correlation(predicted: Sequence[Points], real: Sequence[Points]) -> float:
    """Pearson's r of motion about each clip's own mean."""
    return correlation([c - c.mean() for c in predicted], [c - c.mean() for c in real])


def sound_figures(speak: Speaker, data: HeldOut, sounds: Sounds) -> dict[str, float]:
    """Whispered, sung, telephoned and accompanied sentences; music and breath without speech."""
    # Late: what alters voices decodes films too, which a machine that only trains need not.
    from model.data.speechless_sounds import SPEECHLESS, speechless
    from model.data.voice_alteration import DIFFICULT

    figures: dict[str, float] = {}
    real = list(mouth_opening(data.faces))
    for name, alter in DIFFICULT.items():
        rng = np.random.default_rng(0)
        said = []
        for sound, face in zip(sounds.clips, data.faces, strict=True):
            assert sound.waveform is not None
            waveform = alter(sound.waveform, rng)
            said.append(mouth_opening(speak(Sound(log_mel(waveform), waveform), face[0])))
        figures[f"{name}_r"] = correlation(said, real)
        figures[f"{name}_articulation"] = articulation(said, real) / data.gain
    for name in SPEECHLESS:
        gaps = [
            mouth_opening(speak(Sound(log_mel(waveform), waveform), data.portraits[i]))
            for i, waveform in enumerate(speechless(name, 24))
        ]
        figures[f"{name}_mean"] = float(np.mean(gaps))
        figures[f"{name}_std"] = float(np.mean([gap.std() for gap in gaps]))
    return figures


def real_figures(data: HeldOut) -> dict[str, float]:
    """The same figures of the real video (of the teacher's labels where there is no video)."""
    real = list(mouth_opening(data.faces))
    quiet = [
        o[(p == 0).reshape(-1, MELS_PER_FRAME).all(axis=1)]
        for o, p in zip(real, data.phones, strict=True)
    ]
    return {
        **dict.fromkeys(("r", "r_per_clip", "r_best_lag", "articulation"), 1.0),
        "best_lag": 0.0,
        "closure": closure_rate(real, list(data.phones)),
        "voices_closure": closure_rate(data.voice_openings, data.voice_phones),
        **dict.fromkeys(("voices_r_teacher", "voices_articulation"), 1.0),
        **form_figures(list(data.faces), data),
        "silence_shut_mean": float(np.median(np.concatenate(quiet))),
        "silence_shut_std": float(np.mean([q.std() for q in quiet if len(q) > 1])),
    }


_ROWS: Final = {
    "r": "opening, r at lag 0",
    "r_per_clip": "the same, mean over clips",
    "r_best_lag": f"r at the best lag within ±{MAX_LAG} frames",
    "best_lag": "best lag, frames (positive: late)",
    "articulation": "articulation ratio, the speaker in the population's amplitude",
    "closure": "closure on /b p m/",
    "width_ratio": "motion of the mouth's width / real, likewise",
    "width_r": "mouth width, r at lag 0, within clips",
    "chin_ratio": "motion of the chin / real, likewise",
    "chin_r": "chin, r at lag 0, within clips",
    "rounded_width": "mouth width on /u w o/ against all speech / mouth width",
    "teeth_lip": "height of the lower lip on /f v/ against all speech (negative: raised)",
    "jitter": "jitter of the lips in still passages / mouth width",
    "voices_closure": "closure on /b p m/, other voices and faces",
    "voices_r_teacher": "opening, r with the teacher's labels, other voices and faces",
    "voices_articulation": "articulation against the teacher's labels",
    "synthetic_closure": "closure on /b p m/, synthetic voices in unseen languages",
    "whispered_r": "whispered sentences: opening, r",
    "whispered_articulation": "whispered sentences: articulation ratio",
    "sung_r": "sung sentences: opening, r",
    "sung_articulation": "sung sentences: articulation ratio",
    "telephone_r": "sentences by telephone: opening, r",
    "telephone_articulation": "sentences by telephone: articulation ratio",
    "with_music_r": "sentences with music 5 dB below: opening, r",
    "with_music_articulation": "sentences with music 5 dB below: articulation ratio",
    "music_mean": "music alone, mean gap / mouth width",
    "music_std": "music alone, standard deviation",
    "breath_mean": "breath alone, mean gap",
    "breath_std": "breath alone, standard deviation",
    "silence_shut_mean": "silence, mean gap / mouth width, shut reference",
    "silence_shut_std": "silence, standard deviation, shut reference",
    "silence_open_mean": "silence, mean gap, open reference",
    "silence_open_std": "silence, standard deviation, open reference",
    "silence_portraits_mean": "silence, mean gap, photographs",
    "silence_portraits_std": "silence, standard deviation, photographs",
    "leak_r": "leak: landmark correlation, open against shut reference",
    "leak_difference": "leak: mean distance / mouth width",
}


def main() -> None:
    """Command-line door."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--completer", type=Path, default=_SHIPPED if _SHIPPED.exists() else _TRAINED
    )
    parser.add_argument("--prepared", type=Path, default=Path("data/prepared"))
    parser.add_argument("--source", type=Path, help="the prepared recordings' folder")
    parser.add_argument("--output", type=Path, default=Path("out/landmarks"))
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    completer = LandmarkCompleter.from_pretrained(arguments.completer).float().eval()
    data = load_held_out(arguments.prepared)
    sounds = load_sounds(data, arguments.source)
    speakers = {"network": network_alone(completer)}
    if arguments.source is not None:
        speakers["as served"] = as_served(completer)
    columns = {name: measure(speak, data, sounds) for name, speak in speakers.items()}
    # only log-mels of synthetic voices are kept
    columns["network"] |= language_figures(speakers["network"], data)
    if arguments.source is not None:
        for name, speak in speakers.items():
            columns[name] |= sound_figures(speak, data, sounds)
    columns["real video"] = real_figures(data)
    text = (
        column_table(columns, _ROWS) + f"\n\n{len(data.mels)} sentences of the filmed speaker, "
        f"{len(data.voices)} other voices and {len(data.portraits)} photographs, none of them "
        "trained on. Under other voices the last column is the phone teacher's labels.\n"
    )
    write_figures(arguments.output, columns, text)
    panels = []  # predicted and real opening of six held-out sentences
    for name, sound, face in list(zip(data.names, sounds.clips, data.faces, strict=True))[:6]:
        said = {title: mouth_opening(speak(sound, face[0])) for title, speak in speakers.items()}
        panels.append((name, {"real video": mouth_opening(face), **said}))
    plot_openings(panels, arguments.output / "openings.png")
    print(json.dumps(columns, indent=2))
    print(text)


if __name__ == "__main__":
    main()
