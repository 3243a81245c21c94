from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.data.split import language_held_out, voice_held_out
from model.data.voice_corpora import Cutter, load_corpora
from model.training.landmark_windows import WindowMix, Windows, in_time, stretch


@pytest.fixture
def with_synthetic(prepared: Path, tmp_path: Path) -> Path:
    """The prepared folder, with synthetic voices whose log-mels are all 7."""
    for name in ("grid", "speech"):
        (tmp_path / f"{name}.npz").symlink_to(prepared / f"{name}.npz")
    count, length = 10, 400
    names = [
        f"{language}+m1-0000"
        for language in ["de", "fr", "ar", "it", "es", "fi", "tr", "vi", "pl", "mt"]
    ]
    np.savez(
        tmp_path / "synthetic.npz",
        names=np.array(names),
        lengths=np.full(count, length),
        log_mel=np.full((count * length, 80), 7.0, np.float16),
        phones=np.full(count * length, 3, np.uint8),
    )
    motion = dict(np.load(prepared / "motion.npz"))
    motion["synthetic_offsets"] = np.zeros((count * length // 4, 31, 2), np.float32)
    motion["synthetic_valid"] = np.ones(count * length // 4, np.bool_)
    np.savez(tmp_path / "motion.npz", **motion)
    return tmp_path


def test_what_is_held_out_is_not_trained_on(with_synthetic: Path) -> None:
    seen = load_corpora(with_synthetic, held_out=False)
    unseen = load_corpora(with_synthetic, held_out=True)
    assert set(seen) == set(unseen) == {"speech", "synthetic"}
    for name, rule in (("speech", voice_held_out), ("synthetic", language_held_out)):
        assert seen[name].names and not any(map(rule, seen[name].names))
        assert all(map(rule, unseen[name].names))
    assert len(seen["speech"].names) + len(unseen["speech"].names) == 12


def test_pieces_stay_within_their_utterance(prepared: Path) -> None:
    corpus = load_corpora(prepared, held_out=False)["speech"]
    cutter, rng = Cutter(corpus, 60), np.random.default_rng(0)
    for frames in (20, 60):
        for _ in range(50):
            piece = cutter.draw(rng, frames)
            assert piece.stop - piece.start == frames
            assert any(s <= 4 * piece.start and 4 * piece.stop <= e for s, e in corpus.spans)


def test_synthetic_voices_are_heard_as_often_as_asked(with_synthetic: Path) -> None:
    mix = WindowMix(
        frames=32, speech_share=1.0, silence_share=0.0, synthetic_share=0.4, stretch_share=1.0
    )
    windows, rng = Windows(with_synthetic, mix), np.random.default_rng(0)
    heard = [bool((windows.draw(rng).mel == 7.0).all()) for _ in range(120)]
    assert 0.25 < np.mean(heard) < 0.55


@pytest.mark.parametrize("length", [26, 32, 40])
def test_sound_and_face_stay_in_step_when_stretched(length: int) -> None:
    there = np.arange(length, dtype=np.float32)
    face = stretch(there, 32)
    mel, phones = in_time(
        np.repeat((np.arange(4 * length) / 4)[:, None], 80, 1).astype(np.float16),
        (np.arange(4 * length) // 4).astype(np.uint8),
        32,
    )
    assert face.shape == (32,) and mel.shape == (128, 80) and phones.shape == (128,)
    np.testing.assert_allclose(mel[::4, 0][:-1], face[:-1], atol=0.05)
    np.testing.assert_allclose(phones[::4], np.floor(face + 1e-4), atol=1)
