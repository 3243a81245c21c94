from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from model.data.clips import find_clips, find_portraits, find_voices, read_clip
from model.data.layouts import find_sources
from model.data.split import clip_held_out, portrait_held_out
from model.data.subjects import portrait_identities
from model.errors import InputError
from model.evaluation.evaluate import evaluate, spread
from model.evaluation.observation import Judges, load_judges
from model.evaluation.options import Checkpoint, EvaluationOptions, Protocol
from model.evaluation.protocols.steadiness import FIRST_FRAMES, PHOTOGRAPHS
from model.evaluation.protocols.video import DETECTED, PREDICTED, REAL, STATIC
from model.evaluation.results import compare
from model.face.detection import MediaPipeFaceDetector
from model.media.audio import SAMPLE_RATE
from model.media.video_writer import VideoWriter
from model.pipelines.options import RenderOptions
from model.pipelines.talking_face import load_pipeline

ROOT = Path(__file__).resolve().parents[3]
SECONDS = 1.4  # the sync network wants 20 frames
HELD_OUT = [name for name in (f"clip{i}.mp4" for i in range(200)) if clip_held_out(name)][:2]


@pytest.fixture(scope="module")
def judges() -> Judges:
    return load_judges(MediaPipeFaceDetector())


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two filmed sentences, played by the portrait engine, and one that training may see."""
    folder = tmp_path_factory.mktemp("films")
    with Image.open(ROOT / "examples" / "portrait.jpg") as file:
        picture = np.asarray(file.convert("RGB").resize((256, 256)), np.uint8)
    sound, rate = soundfile.read(ROOT / "examples" / "speech.wav", dtype="float32")
    times = np.arange(int(SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    pipeline = load_pipeline(device="cpu")
    for name, start_s in ((HELD_OUT[0], 0.2), (HELD_OUT[1], 1.8)):
        spoken = np.interp(times + start_s, np.arange(len(sound)) / rate, sound).astype(np.float32)
        track = folder / "sound.wav"
        soundfile.write(track, spoken, SAMPLE_RATE)
        frames = pipeline(picture, spoken, RenderOptions(preset="preview", lip_strength=1.3)).frames
        with VideoWriter(folder / name, width=256, height=256, fps=25, sound=track) as writer:
            for frame in frames:
                writer.write(frame)
        track.unlink()
    (folder / "seen.mp4").write_bytes((folder / HELD_OUT[0]).read_bytes())
    return folder


def options(output: Path, *protocols: Protocol, clips: Path | None = None) -> EvaluationOptions:
    return EvaluationOptions(
        checkpoints=(Checkpoint("ours", None),),
        output=output,
        clips=clips,
        limit=2,
        seconds=SECONDS,
        preset="preview",
        protocols=protocols,
        device="cpu",
    )


def test_a_clip_is_read_with_its_sound_and_face(films: Path, judges: Judges) -> None:
    source = find_clips("folder", films, every=True)[0]
    clip, frames = read_clip(source, judges.detector, 30)
    assert clip.num_frames == frames.num_frames == 30
    assert clip.found.all() and clip.landmarks.shape == (30, 68, 2)
    assert clip.waveform.shape == (30 * 640,) and np.abs(clip.waveform).max() > 0.05
    assert clip.log_mel.shape == (120, 80)
    assert [f.shape for f in frames.read(28, 30)] == [(256, 256, 3)] * 2


def test_clips_that_training_may_see_are_left_out(films: Path, tmp_path: Path) -> None:
    assert [source.name for source in find_clips("grid", films, every=False)] == sorted(HELD_OUT)
    assert len(find_sources("grid", films)) == 3
    (tmp_path / "seen.mp4").write_bytes(b"")
    with pytest.raises(InputError, match="--every-clip"):
        find_clips("grid", tmp_path, every=False)


def test_portraits_and_voices_of_the_examples() -> None:
    assert [path.name for path in find_portraits(ROOT / "examples")] == ["portrait.jpg"]
    assert [path.name for path in find_voices(ROOT / "examples")] == ["speech.wav"]


@pytest.mark.long
def test_videos_are_measured_beside_real_and_frozen_ones(
    films: Path, judges: Judges, tmp_path: Path
) -> None:
    report = evaluate(options(tmp_path, "reenactment", "dubbing", clips=films), judges)

    rows = report["reenactment"]
    ours = rows[f"ours, {PREDICTED}"]
    assert list(rows) == [REAL, STATIC, f"ours, {PREDICTED}", f"ours, {DETECTED}"]
    assert rows[REAL]["lmd"] == 0 and rows[REAL]["opening_r"] == pytest.approx(1)
    assert ours["opening_r"] > 0.8 and ours["best_lag"] == 0
    assert ours["lmd"] < rows[STATIC]["lmd"]
    assert ours["psnr_mask"] > rows[STATIC]["psnr_mask"]
    for title in (REAL, f"ours, {PREDICTED}"):
        assert rows[title]["lse_c"] > rows[STATIC]["lse_c"]

    dubbed = report["dubbing"]
    assert dubbed["ours"]["prefers_new"] == 1.0
    assert dubbed[REAL]["prefers_new"] == 0.0
    assert dubbed["ours"]["outside_equal"] == 1.0
    assert dubbed["ours"]["swap_share"] > 0.5 and dubbed[REAL]["swap_share"] > 0.5

    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "contact_sheet.png", "evaluation.json", "evaluation.md", "openings.png", "scatter.png",
    ]  # fmt: skip
    assert json.loads((tmp_path / "evaluation.json").read_text()) == json.loads(json.dumps(report))
    text = (tmp_path / "evaluation.md").read_text()
    assert "## Comparison" in text and "skipped: FID" in text
    sheet = np.asarray(Image.open(tmp_path / "contact_sheet.png"))
    assert sheet.shape == (8 * 160, 7 * 160, 3) and sheet.std() > 20


def test_silence_leak_and_photographs(films: Path, judges: Judges, tmp_path: Path) -> None:
    given = replace(options(tmp_path, "references", "portraits", clips=films), limit=1, seconds=1.0)
    report = evaluate(given, judges)
    references = report["references"]["ours"]
    assert references["silence_open_mean"] < 0.06 and references["silence_open_std"] < 0.02
    assert references["leak_r"] > 0.8
    photographs = report["portraits"]["ours"]
    assert photographs["opening_r"] > 0.8
    assert photographs["silence_mean"] < 0.04
    assert photographs["outside_equal"] == 1.0 and photographs["outside_psnr"] > 38
    assert (tmp_path / "portraits.png").exists()


def test_real_motion_and_steadiness_reach_the_report(
    films: Path, judges: Judges, tmp_path: Path
) -> None:
    figures = tmp_path / "figures.json"
    figures.write_text(json.dumps({"as served": {"r": 0.93, "closure": 0.5}}))
    given = replace(
        options(tmp_path / "out", "motion", "steadiness", clips=films),
        limit=1, motion_limit=2, landmark_figures=figures,
    )  # fmt: skip
    report = evaluate(given, judges)
    assert report["motion"]["ours"]["opening_r"] > 0.8
    assert report["motion"][REAL]["pictures"] == 1
    assert any(
        line.startswith("motion: 2 photographs were asked for") for line in report["skipped"]
    )
    steady = report["steadiness"]
    assert list(steady) == [REAL, f"ours, {PHOTOGRAPHS}", f"ours, {FIRST_FRAMES}"]
    assert all(
        steady[f"ours, {kind}"]["constant_change"] == 0 for kind in (PHOTOGRAPHS, FIRST_FRAMES)
    )
    assert "reenactment" not in report

    verdicts = {row["name"]: row["held"] for row in report["acceptance"]["ours"]}
    held = report["motion"]["ours"]["opening_r"] >= 0.85
    assert verdicts["photographs, real motion: opening, r"] is held
    assert verdicts["landmarks: opening, r at lag 0, clips"] is True
    assert verdicts["landmarks: closure on /b p m/, clips"] is False
    assert verdicts["drawn leak: correlation"] is None
    assert verdicts["weights in total"] is True
    text = (tmp_path / "out" / "evaluation.md").read_text()
    assert "| landmarks: closure on /b p m/, clips | ≥ 0.85 | 0.500 | **no** |" in text
    assert (tmp_path / "out" / "motion.png").exists()


def test_what_cannot_be_measured_is_said(judges: Judges, tmp_path: Path) -> None:
    report = evaluate(options(tmp_path, "reenactment"), judges)
    assert any("--clips" in line for line in report["skipped"])
    assert "reenactment" not in report


def test_a_limit_spreads_over_what_there_is() -> None:
    assert spread(range(10), 3) == [0, 3, 6]
    assert spread(range(2), 3) == [0, 1]


def test_a_broken_film_is_skipped_and_named(films: Path, judges: Judges, tmp_path: Path) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    (folder / HELD_OUT[1]).write_bytes((films / HELD_OUT[0]).read_bytes())
    (folder / HELD_OUT[0]).write_bytes(b"not a film")
    given = replace(options(tmp_path / "out", "dubbing", clips=folder), seconds=1.0)
    report = evaluate(given, judges)
    assert report["settings"]["clips"] == [Path(HELD_OUT[1]).stem]
    assert any(line.startswith(HELD_OUT[0]) for line in report["skipped"])
    assert any(line.startswith("dubbing: needs two") for line in report["skipped"])


def runs(figures: dict[str, float]) -> dict[str, dict[str, float]]:
    return {
        REAL: {"lse_c": 0.9},
        STATIC: {"lmd": 0.06},
        **{f"full ({i + 1}), {PREDICTED}": {"lmd": 0.02 + 0.01 * i} for i in range(2)},
        f"full ({2}), {DETECTED}": {"lmd": 0.01},
        f"full too, {PREDICTED}": figures,
    }


def test_runs_of_one_name_are_one_row_with_its_spread(tmp_path: Path) -> None:
    checkpoints = tuple(Checkpoint(name, None) for name in ("full", "full", "full too"))
    given = EvaluationOptions(checkpoints=checkpoints, output=tmp_path)
    rows = compare(given, runs({"lmd": 0.05}))
    assert list(rows) == [REAL, STATIC, "full", "full too"]
    assert rows["full"]["LMD (predicted landmarks)"] == "0.025 ± 0.007"
    assert rows["full"]["LMD (detected)"] == "0.010"
    assert rows["full too"]["LMD (predicted landmarks)"] == "0.050"
    assert rows[REAL]["LSE-C"] == "0.900"


def test_photographs_are_those_that_training_leaves_out(tmp_path: Path) -> None:
    portraits = tmp_path / "portraits"
    portraits.mkdir()
    rows = [f"{source}_{n}.jpg,{source},{n}" for source in ("one_front", "two") for n in range(99)]
    (portraits / "index.csv").write_text("\n".join(["file,source,identity", *rows]))
    seen = {n for n, who in portrait_identities(tmp_path).items() if not portrait_held_out(who)}
    found = {path.name for path in find_portraits(portraits)}
    assert found and not found & seen
    assert len(found) + len(seen) == len(rows)
