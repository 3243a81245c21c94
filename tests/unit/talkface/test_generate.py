from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import soundfile
from PIL import Image
from typer.testing import CliRunner

from model.media.probe import probe
from talkface.__main__ import app
from tests.films import ffmpeg, film


@pytest.fixture(scope="module")
def portrait(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("media") / "portrait.png"
    Image.fromarray(skimage.data.astronaut()[0:200, 120:320]).save(path)
    return path


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("media") / "voice.wav"
    soundfile.write(path, 0.2 * np.sin(np.arange(12_800) / 20), 16_000)
    return path


def home_of(file: Path) -> Path:
    """Where the keys lie with which a test's file is signed: beside its folder."""
    return file.parent.with_name(f"{file.parent.name}-home")


def generate(
    portrait: Path | None, voice: Path | None, output: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("TALKFACE_")}
    command = [sys.executable, "-m", "talkface", "generate"]
    command += ["--output", str(output)]
    command += [] if voice is None else ["--audio", str(voice)]
    command += [] if portrait is None else ["--image", str(portrait)]
    return subprocess.run(
        [*command, *arguments],
        env={
            **inherited,
            "TALKFACE_RENDERER": "test-card",
            # Whose keys sign: those of the user who runs the tests stay out of it.
            "XDG_DATA_HOME": str(home_of(output)),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=120.0,
    )


def test_a_portrait_listens_in_a_loop(portrait: Path, tmp_path: Path) -> None:
    output = tmp_path / "film.mp4"

    ended = generate(
        portrait,
        None,
        output,
        "--seconds",
        "1",
        "--loop",
        "--motion",
        "0.5",
        "--no-blink",
        "--json",
    )

    assert ended.returncode == 0, ended.stderr
    chosen = json.loads(ended.stdout)["input"]["options"]
    assert (chosen["motion"], chosen["blink"], chosen["loop"]) == (0.5, False, True)
    info = probe(output)
    assert (info.num_frames, info.audio_codec) == (25, None)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], ("audio", "seconds")),
        (["--seconds", "1", "--audio-offset-ms", "40"], ("audio_offset_ms", "seconds")),
        (["--seconds", "1", "--motion", "wild"], ("motion", "still, subtle, natural")),
    ],
)
def test_a_wrong_choice_is_told(
    portrait: Path, tmp_path: Path, arguments: list[str], told: tuple[str, ...]
) -> None:
    ended = generate(portrait, None, tmp_path / "film.mp4", *arguments)

    assert ended.returncode == 15, ended.stderr
    assert all(word in ended.stderr for word in told)


def test_a_video_moves_by_itself(voice: Path, tmp_path: Path) -> None:
    clip = film(tmp_path / "clip.mp4")

    ended = generate(
        None, voice, tmp_path / "film.mp4", "--video", str(clip), "--motion", "natural"
    )

    assert ended.returncode == 15, ended.stderr
    assert "`motion`" in ended.stderr and "`video`" in ended.stderr


def test_a_film_and_a_summary(portrait: Path, voice: Path, tmp_path: Path) -> None:
    output = tmp_path / "film.mp4"

    ended = generate(portrait, voice, output, "--json", "--seed", "7", "--fps", "30")

    assert ended.returncode == 0, ended.stderr
    summary = json.loads(ended.stdout)
    info = probe(output)
    assert (summary["num_frames"], summary["fps"]) == (info.num_frames, info.fps) == (24, 30.0)
    assert (summary["width"], summary["height"]) == (info.width, info.height) == (200, 200)
    assert summary["bytes"] == output.stat().st_size
    assert summary["input"]["options"]["seed"] == 7
    assert summary["renderer"]["model_name"] == "test-card"
    assert {"validating", "loading", "generating", "encoding", "total"} <= set(summary["timings_s"])
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


def test_a_voice_from_standard_input(portrait: Path, voice: Path, tmp_path: Path) -> None:
    output = tmp_path / "film.mp4"
    command = [sys.executable, "-m", "talkface", "generate", "--image", portrait, "--audio", "-"]

    ended = subprocess.run(
        [*command, "--output", output, "--fps", "10"],
        env={**os.environ, "TALKFACE_RENDERER": "test-card"},
        input=voice.read_bytes(),
        capture_output=True,
        timeout=120.0,
    )

    assert ended.returncode == 0, ended.stderr
    assert probe(output).audio_codec == "aac"


def test_a_batch_is_made_by_one_model_and_goes_on(
    portrait: Path, voice: Path, tmp_path: Path
) -> None:
    source, films = tmp_path / "batch.jsonl", tmp_path / "films"
    good = {"image": str(portrait), "audio": str(voice), "output": "a/good.mp4", "fps": 10}
    silent = {"image": str(portrait), "seconds": 1, "output": "silent.mp4"}
    wrong = {"image": str(portrait), "audio": str(portrait), "output": "wrong.mp4"}
    source.write_text("".join(json.dumps(row) + "\n" for row in (good, wrong, silent)))

    ended = generate(None, None, films, str(source), "--json")
    again = generate(None, None, films, str(source), "--json")

    assert ended.returncode == again.returncode == 10, ended.stderr
    first, second, third = json.loads(ended.stdout)
    assert (first["fps"], probe(films / "a" / "good.mp4").fps) == (10.0, 10.0)
    assert second["error"]["code"] == "unsupported_media_type"
    assert "line 2" in ended.stderr
    assert third["num_frames"] == 25
    assert [row.get("was_there", False) for row in json.loads(again.stdout)] == [True, False, True]


def test_an_existing_film_is_replaced(portrait: Path, voice: Path, tmp_path: Path) -> None:
    output = tmp_path / "film.mp4"
    output.write_bytes(b"an older film")

    ended = generate(portrait, voice, output)

    assert ended.returncode == 0, ended.stderr
    assert probe(output).num_frames == 20
    assert str(output) in ended.stdout
    # No terminal, no bar: a log file stays readable.
    assert ended.stderr == ""


def test_a_large_picture_shrinks_to_the_side_asked_for(
    portrait: Path, voice: Path, tmp_path: Path
) -> None:
    ended = generate(portrait, voice, tmp_path / "film.mp4", "--max-side", "120")

    assert ended.returncode == 0, ended.stderr
    assert probe(tmp_path / "film.mp4").width == 120


def test_a_video_is_dubbed(portrait: Path, voice: Path, tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    video = film(tmp_path / "films" / "film.mp4", seconds=0.4)
    output = tmp_path / "films" / "dubbed.mp4"

    ended = generate(None, voice, output, "--video", str(video), "--image", str(portrait), "--json")

    assert ended.returncode == 0, ended.stderr
    summary = json.loads(ended.stdout)
    told = {"source_frames": 10, "held_frames": [], "looped": True, "audio_offset_ms": None}
    assert summary["video"] == told
    assert summary["input"]["video"]["width"] == summary["width"] == probe(output).width == 160
    assert summary["input"]["image"] is None
    assert [reference["width"] for reference in summary["input"]["references"]] == [200]
    assert sorted(path.name for path in output.parent.iterdir()) == ["dubbed.mp4", "film.mp4"]


def test_a_portrait_takes_a_driving_video_and_more_pictures(
    portrait: Path, voice: Path, tmp_path: Path
) -> None:
    driving = film(tmp_path / "driving.mp4", seconds=0.4)

    ended = generate(
        portrait,
        voice,
        tmp_path / "film.mp4",
        *("--image", str(portrait), "--driving-video", str(driving), "--json"),
    )

    assert ended.returncode == 0, ended.stderr
    summary = json.loads(ended.stdout)
    told = {"source_frames": 10, "held_frames": [], "looped": True, "audio_offset_ms": None}
    assert summary["video"] == told
    assert summary["input"]["driving_video"]["num_frames"] == 10
    assert len(summary["input"]["references"]) == 1
    assert summary["num_frames"] == 20


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "a video to dub"),
        (["--driving-video", "film.mp4"], "a video to dub"),
        (["--video", "film.mp4", "--driving-video", "film.mp4"], "Send one of them"),
        (["--video", "film.mp4", *["--image", "portrait.png"] * 5], "at most 4"),
        (["--image", "portrait.png"] * 6, "at most 5"),
    ],
)
def test_files_that_do_not_go_together_are_told(
    portrait: Path, voice: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    paths = {"film.mp4": film(tmp_path / "film.mp4", seconds=0.2), "portrait.png": portrait}

    ended = generate(
        None, voice, tmp_path / "out.mp4", *(str(paths.get(word, word)) for word in arguments)
    )

    assert ended.returncode == 15
    assert words in ended.stderr
    assert not (tmp_path / "out.mp4").exists()


def test_a_picture_that_is_none_has_its_own_exit_status(voice: Path, tmp_path: Path) -> None:
    output = tmp_path / "film.mp4"
    output.write_bytes(b"an older film")

    ended = generate(voice, voice, output, "--json")

    assert ended.returncode == 10
    assert json.loads(ended.stdout)["error"]["code"] == "unsupported_media_type"
    assert "[unsupported_media_type]" in ended.stderr
    assert output.read_bytes() == b"an older film"
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--fps", "99"], 15, "fps"),
        (["--preset", "turbo"], 15, "preset"),
        (["--seed", "-1"], 15, "seed"),
        (["--fps", "fast"], 2, "fps"),
        (["--image", "absent.png"], 2, "absent.png"),
    ],
)
def test_wrong_options_are_told(
    portrait: Path, voice: Path, tmp_path: Path, arguments: list[str], status: int, words: str
) -> None:
    ended = generate(portrait, voice, tmp_path / "film.mp4", *arguments, COLUMNS="300")

    assert ended.returncode == status, ended.stderr
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_told(
    portrait: Path, voice: Path, tmp_path: Path
) -> None:
    ended = generate(portrait, voice, tmp_path / "absent" / "film.mp4")

    assert ended.returncode == 15
    assert "Cannot write" in ended.stderr


def test_broken_weights_are_told_by_name(portrait: Path, voice: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()

    ended = generate(
        portrait,
        voice,
        tmp_path / "film.mp4",
        *("--weights", str(weights), "--json"),
        TALKFACE_RENDERER="pipeline",
    )

    assert ended.returncode == 50, ended.stderr
    error = json.loads(ended.stdout)["error"]
    assert error["code"] == "model_error"
    assert str(weights) in error["detail"]


def test_what_was_generated_is_ours_and_a_copy_is_not(
    portrait: Path, voice: Path, tmp_path: Path
) -> None:
    output, copy, changed = (tmp_path / name for name in ("film.mp4", "copy.mp4", "changed.mp4"))

    ended = generate(portrait, voice, output, "--json", "--consent", "--label", "off")

    assert ended.returncode == 0, ended.stderr
    summary = json.loads(ended.stdout)
    assert (summary["label"], summary["input"]["consent"]) == ("off", "stated")
    found = verify(output, "--json")
    assert (found.returncode, json.loads(found.stdout)["verdict"]) == (0, "ours")
    assert json.loads(found.stdout)["manifest"] == summary["credentials"]["manifest"]
    # The keys are the user's, and nobody else's to read.
    (key,) = home_of(output).glob("talkface/content-credentials/ca.key")
    assert key.stat().st_mode & 0o077 == 0

    ffmpeg("-i", output, "-c", "copy", copy)
    data = bytearray(output.read_bytes())
    data[-50] ^= 1
    changed.write_bytes(data)
    assert [verify(path).returncode for path in (copy, changed)] == [82, 81]
    stranger = verify(output, XDG_DATA_HOME=str(tmp_path / "elsewhere"))
    assert stranger.returncode == 80
    assert "the signer is unknown here" in stranger.stdout


def test_signing_can_be_left_to_others(portrait: Path, voice: Path, tmp_path: Path) -> None:
    output = tmp_path / "film.mp4"

    ended = generate(portrait, voice, output, "--json", TALKFACE_CONTENT_CREDENTIALS="false")

    assert json.loads(ended.stdout)["credentials"] is None
    assert verify(output).returncode == 82
    assert not home_of(output).exists()


def verify(file: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("TALKFACE_")}
    return subprocess.run(
        [sys.executable, "-m", "talkface", "verify", str(file), *arguments],
        env={**inherited, "XDG_DATA_HOME": str(home_of(file)), **environment},
        cwd=file.parent,
        capture_output=True,
        text=True,
        timeout=120.0,
    )


def test_a_film_goes_to_standard_output_while_it_is_drawn(
    portrait: Path, voice: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "talkface", "generate", "--output", "-"]
    command += ["--image", str(portrait), "--audio", str(voice)]
    environment = {**os.environ, "TALKFACE_RENDERER": "test-card", "TMPDIR": str(tmp_path)}

    ended = subprocess.run(command, env=environment, capture_output=True, timeout=120.0)

    assert ended.returncode == 0, ended.stderr.decode()
    film_path = tmp_path / "film.mp4"
    film_path.write_bytes(ended.stdout)
    assert [film_path] == list(tmp_path.iterdir()), "nothing else is left"
    assert ended.stdout[4:8] == b"ftyp" and ended.stdout.count(b"moof") == 3
    told = probe(film_path)
    assert (told.width, told.height, told.audio_channels) == (200, 200, 1)
    assert b"20 frames" in ended.stderr


@pytest.mark.parametrize(
    ("output", "arguments", "told"),
    [
        ("-", ("--json",), "leave --json out"),
        ("-", ("--play",), "leave --play out"),
        ("film.mp4", ("--play",), "neither is on the PATH"),
    ],
)
def test_what_cannot_be_watched_is_told_before_any_work(
    portrait: Path,
    voice: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    output: str,
    arguments: tuple[str, ...],
    told: str,
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.chdir(tmp_path)
    chosen = ["generate", "--output", output, "--image", str(portrait), "--audio", str(voice)]

    ended = CliRunner().invoke(app, [*chosen, *arguments])

    assert ended.exit_code == 15
    assert told in ended.stderr


def test_a_player_sees_the_film_and_the_file_is_made(
    portrait: Path, voice: Path, tmp_path: Path
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    seen = tmp_path / "seen.mp4"
    # No window here: a player of its name that keeps what it is given.
    (programs / "mpv").write_text(f"#!/bin/sh\nexec cat > {seen}\n")
    (programs / "mpv").chmod(0o755)
    output = tmp_path / "film.mp4"

    ended = generate(portrait, voice, output, "--play", PATH=f"{programs}:{os.environ['PATH']}")

    assert ended.returncode == 0, ended.stderr
    assert probe(output).width == probe(seen).width == 200
    assert seen.read_bytes().count(b"moof") == 3
