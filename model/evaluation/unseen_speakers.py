"""Speech to lips and jaw on people, voices and films that nothing was trained on.

    python -m model.evaluation.unseen_speakers --source DATA --sets choosing
    python -m model.evaluation.unseen_speakers --source DATA --sets grid cremad addresses

Every choice is made on `choosing`; the other sets are read once, at the end. The face is the first
frame's, the style is the population's; a second column reads the amplitude from another clip of the
same person, never from the clip that is measured. Openings are compared at one offset a source:
none for GRID and CREMA-D; one for the weekly addresses, whose sound comes late, found by the sync
network on the real films alone and printed before any curve of ours exists.

Prints and writes `figures.json`, `figures.md` and `openings.png`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from model.data.phones import CLOSURES, LIP_TO_TEETH, ROUNDED, SPREAD
from model.data.unseen_films import CHOOSING, FINAL, UnseenFilm, read_films
from model.evaluation.metrics.landmarks import SHUT, at_phones, closure_rate, correlation
from model.evaluation.report import column_table, plot_openings, write_figures
from model.face.landmarks import CHIN, mouth_opening, mouth_width
from model.networks.landmark_completion import LandmarkCompleter
from model.networks.sync_network import SyncNetwork, load_sync_network
from model.pipelines.landmark_completion import complete_landmarks

Points = NDArray[np.float32]

_SHIPPED: Final = Path("model/weights/landmark_completer")
_LATE_SOUND: Final = ("addresses",)
"""Sets whose sound is known to come late against the lips."""
_MAX_OFFSET: Final = 8  # frames that are tried
_STILL: Final = 1e-4  # mouth widths; less motion is rounding
_DRAWS: Final = 4000  # of the bootstrap
_MOST_STRENGTH: Final = 2.0  # amplitude that is read from another clip at most

TITLES: Final = {
    "r": "opening, r of a clip, mean",
    "r_low": "the same, lower end of the 95 % interval over speakers",
    "r_high": "upper end",
    "r_pooled": "opening, r over all frames",
    "gain": "gain in r over the baseline",
    "gain_low": "the same, lower end of the 95 % interval over speakers",
    "gain_high": "upper end",
    "p50": "opening, median",
    "p95": "opening, 95th percentile",
    "p99": "opening, 99th percentile",
    "shut": "share of shut frames",
    "width": "motion of the mouth's width / real",
    "width_r": "mouth width, r within clips",
    "chin": "motion of the chin / real",
    "chin_r": "chin, r within clips",
    "closure": "closure on /b p m/",
    "rounded": "mouth width on /u w o/ against all speech / mouth width",
    "spread": "mouth width on /i e/ against all speech / mouth width",
    "pressed": "height of both lips on /b p m/ against all speech / mouth width",
    "teeth": "height of the lower lip on /f v/ against all speech (negative: raised)",
}


def fixed_offset(films: Sequence[UnseenFilm], network: SyncNetwork) -> int:
    """Frames by which the lips of real films come before their sound, negative for late lips: the median."""
    offsets = [
        network.sync_scores(film.sound.mel, film.faces, _MAX_OFFSET).offset_frames for film in films
    ]
    return -round(float(np.median(offsets)))


def shifted(film: UnseenFilm, said: Points, lead: int) -> tuple[Points, Points]:
    """Faces said and real, `(T - |lead|, 68, 2)` each, where real lips lead the sound by `lead` frames."""
    count = len(film.faces) - abs(lead)
    return said[max(0, lead) :][:count], film.faces[max(0, -lead) :][:count]


def _about_mean(curve: Points, scale: float) -> Points:
    return np.asarray((curve - curve.mean()) / scale, np.float32)


def _curves(faces: Points) -> dict[str, Points]:
    """Opening, and width and height of the chin about their means in mouth widths, `(T,)` each."""
    width = mouth_width(faces)
    scale = float(np.median(width))
    return {
        "opening": mouth_opening(faces),
        "width": _about_mean(width, scale),
        "chin": _about_mean(faces[:, list(CHIN), 1].mean(axis=1), scale),
        "lower_lip": _about_mean(faces[:, 57, 1] - faces[:, 33, 1], scale),
        "lips": _about_mean(faces[:, 57, 1] - faces[:, 51, 1], scale),
    }


def _flat(curves: Sequence[dict[str, Points]], key: str) -> Points:
    return np.concatenate([curve[key] for curve in curves])


def own_figures(
    curves: Sequence[dict[str, Points]], films: Sequence[UnseenFilm]
) -> dict[str, float]:
    """What can be said of curves by themselves; the real film's column holds these alone."""
    opening = _flat(curves, "opening")
    figures = {f"p{p}": float(np.percentile(opening, p)) for p in (50, 95, 99)}
    figures["shut"] = float((opening < SHUT).mean())
    known = [
        (c, film.phones) for c, film in zip(curves, films, strict=True) if film.phones is not None
    ]
    # Phones count where nothing was shifted: they are timed by the sound.
    if not known or any(len(c["opening"]) * 4 != len(phones) for c, phones in known):
        return figures
    phones = [labels for _, labels in known]
    figures["closure"] = closure_rate([c["opening"] for c, _ in known], phones)
    for name, key, group in (
        ("rounded", "width", ROUNDED),
        ("spread", "width", SPREAD),
        ("pressed", "lips", CLOSURES),
        ("teeth", "lower_lip", LIP_TO_TEETH),
    ):
        figures[name] = at_phones([c[key] for c, _ in known], phones, group)
    return figures


def per_clip(said: Sequence[dict[str, Points]], real: Sequence[dict[str, Points]]) -> Points:
    """Correlation of the openings of each clip `(K,)`."""
    return np.array(
        [np.corrcoef(s["opening"], t["opening"])[0, 1] for s, t in zip(said, real, strict=True)],
        np.float32,
    )


def interval(values: Points, speakers: Sequence[str]) -> tuple[float, float]:
    """95 % interval of the mean over clips `(K,)`, whole speakers drawn with replacement."""
    names = sorted(set(speakers))
    rows = [np.flatnonzero(np.asarray(speakers) == name) for name in names]
    rng = np.random.default_rng(0)
    means = [
        values[np.concatenate([rows[k] for k in rng.integers(len(rows), size=len(rows))])].mean()
        for _ in range(_DRAWS)
    ]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def compared(
    said: Sequence[dict[str, Points]],
    real: Sequence[dict[str, Points]],
    films: Sequence[UnseenFilm],
    baseline: Points | None,
) -> dict[str, float]:
    """All figures of one system beside the real films."""
    speakers = [film.speaker for film in films]
    r = per_clip(said, real)
    figures = {"r": float(r.mean())}
    figures["r_low"], figures["r_high"] = interval(r, speakers)
    figures["r_pooled"] = correlation([c["opening"] for c in said], [c["opening"] for c in real])
    if baseline is not None:
        figures["gain"] = float((r - baseline).mean())
        figures["gain_low"], figures["gain_high"] = interval(r - baseline, speakers)
    for key in ("width", "chin"):
        mine, true = _flat(said, key), _flat(real, key)
        if true.std() > _STILL and mine.std() > _STILL:  # what never moves has neither
            figures[key] = float(mine.std() / true.std())
            figures[f"{key}_r"] = float(np.corrcoef(mine, true)[0, 1])
    return figures | own_figures(said, films)


def strengths_of_others(films: Sequence[UnseenFilm], said: Sequence[Points]) -> list[float]:
    """Amplitude of each film's speaker against ours, read from the speaker's other films; 1 without any."""
    spreads = [
        (float(mouth_opening(face).std()), float(mouth_opening(film.faces).std()))
        for film, face in zip(films, said, strict=True)
    ]
    strengths = []
    for k, film in enumerate(films):
        others = [
            spreads[j] for j, other in enumerate(films) if j != k and other.speaker == film.speaker
        ]
        ours, real = np.array(others).sum(axis=0) if others else (1.0, 1.0)
        strengths.append(float(np.clip(real / max(ours, 1e-6), 1 / _MOST_STRENGTH, _MOST_STRENGTH)))
    return strengths


Say = Callable[[UnseenFilm, float], Points]


def served(completer: LandmarkCompleter) -> Say:
    """The completer as the service uses it, at an amplitude."""

    def say(film: UnseenFilm, strength: float) -> Points:
        assert film.sound.waveform is not None
        target = complete_landmarks(
            completer, film.sound.waveform, film.faces[0], lip_strength=strength
        )
        return target[: len(film.faces)]

    return say


def measure_set(
    films: Sequence[UnseenFilm], lead: int, say: Say, baseline: Say | None
) -> tuple[dict[str, dict[str, float]], list[Points]]:
    """Columns of one set, and what was said."""
    said = [say(film, 1.0) for film in films]
    real = [_curves(shifted(film, face, lead)[1]) for film, face in zip(films, said, strict=True)]

    def curves(faces: Sequence[Points]) -> list[dict[str, Points]]:
        return [
            _curves(shifted(film, face, lead)[0]) for film, face in zip(films, faces, strict=True)
        ]

    columns, before = {}, None
    if baseline is not None:
        old = curves([baseline(film, 1.0) for film in films])
        before = per_clip(old, real)
        columns["baseline"] = compared(old, real, films, None)
    columns["population's style"] = compared(curves(said), real, films, before)
    strengths = strengths_of_others(films, said)
    if any(strength != 1.0 for strength in strengths):
        styled = [say(film, strength) for film, strength in zip(films, strengths, strict=True)]
        columns["amplitude of another clip"] = compared(curves(styled), real, films, before)
    columns["real film"] = own_figures(real, films)
    return columns, said


def main() -> None:
    """Command-line door."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", type=Path, required=True, help="folder of the films")
    parser.add_argument("--sets", nargs="+", choices=(CHOOSING, *FINAL), default=[CHOOSING])
    parser.add_argument("--completer", type=Path, default=_SHIPPED)
    parser.add_argument("--baseline", type=Path, help="an older completer, for the paired gain")
    parser.add_argument("--output", type=Path, default=Path("out/unseen"))
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    def load(folder: Path) -> Say:
        return served(LandmarkCompleter.from_pretrained(folder).float().eval())

    say = load(arguments.completer)
    baseline = None if arguments.baseline is None else load(arguments.baseline)
    films = {name: read_films(arguments.source, name) for name in arguments.sets}
    # The offsets are fixed, and said, before there is any curve of ours.
    network = load_sync_network()
    leads = {
        name: fixed_offset(films[name], network) if name in _LATE_SOUND else 0 for name in films
    }
    for name, lead in leads.items():
        print(f"{name}: lips lead the sound by {lead} frames", flush=True)

    tables, openings, text = {}, [], ""
    for name, members in films.items():
        columns, said = measure_set(members, leads[name], say, baseline)
        tables[name] = columns
        people = len({film.speaker for film in members})
        text += f"### {name}: {len(members)} clips of {people} speakers, offset {leads[name]} frames\n\n"
        text += column_table(columns, TITLES) + "\n\n"
        for film, face in list(zip(members, said, strict=True))[:4]:
            ours, real = shifted(film, face, leads[name])
            openings.append((film.name, {"ours": mouth_opening(ours), "real": mouth_opening(real)}))
    write_figures(arguments.output, tables, text)
    plot_openings(openings, arguments.output / "openings.png")
    print(text)


if __name__ == "__main__":
    main()
