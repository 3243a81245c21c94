"""Synthetic speech in many languages and voices, with its exact phones.

    python -m model.training.builders.synthetic_voices output=data/prepared

espeak-ng, driven through its C library, tells for every phone the sample at which it begins, so no
aligner is needed. Its output is free to use. Every voice can read numbers and made-up words, so no
text of anybody's is needed either. Writes `synthetic.npz`, laid out as `speech.npz`; an utterance's
name is LANGUAGE+VARIANT-NUMBER.

espeak-ng's phones are IPA; `to_phones` maps them to those of the teacher by what the LIPS do, so
that French /y/ counts as /uw/.
"""

from __future__ import annotations

import ctypes
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly
from tqdm import tqdm

from model.data.phones import PHONES, SILENCE_PHONE
from model.data.voice_corpora import write_voices
from model.media.audio import HOP_LENGTH, SAMPLE_RATE, SAMPLES_PER_FRAME
from model.training.config import run_program

Waveform = NDArray[np.float32]

VARIANTS: Final = (
    *("m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "f1", "f2", "f3", "f4", "f5"),
    *("adam", "Alex", "Alicia", "Andrea", "Andy", "Annie", "antonio", "aunty", "belinda"),
    *("benjamin", "boris", "caleb", "croak", "david", "Denis", "Diogo", "ed", "edward", "Gene"),
    *("grandma", "grandpa", "gustave", "Henrique", "Hugo", "iven", "Jacky", "john", "kaukovalta"),
    *("klatt", "klatt2", "klatt3", "klatt4", "Lee", "linda", "marcelo", "Marco", "Mario", "max"),
    *("Michael", "michel", "miguel", "Mike", "Nguyen", "norbert", "pablo", "paul", "pedro"),
    *("quincy", "rob", "robert", "sandro", "shelby", "steph", "travis", "victor", "zac"),
    *("whisper", "whisperf"),
)
"""Voices of espeak-ng that sound like a person."""
LANGUAGES: Final = (
    *("af", "am", "ar", "az", "be", "bg", "bn", "bs", "ca", "cmn", "cs", "cy", "da", "de", "el"),
    *("en", "en-us", "en-gb-scotland", "eo", "es", "es-419", "et", "eu", "fa", "fi", "fr"),
    *("ga", "gu", "he", "hi", "hr", "hu", "hy", "id", "is", "it", "ja", "ka", "kk", "kn"),
    *("ko", "ku", "ky", "la", "lt", "lv", "mk", "ml", "mr", "ms", "mt", "my", "nb", "ne", "nl"),
    *("pa", "pl", "pt", "pt-br", "ro", "ru", "si", "sk", "sl", "sq", "sr", "sv", "sw", "ta"),
    *("te", "th", "tr", "tt", "uk", "ur", "uz", "vi", "yue"),
)

_RETRIEVE: Final = 2  # AUDIO_OUTPUT_SYNCHRONOUS: samples come to the callback
_PHONE_EVENTS_IN_IPA: Final = 3
_UTF8: Final = 1
_PHONE_EVENT: Final = 7
_RATE, _PITCH, _RANGE = 1, 3, 4
_LEAD_S: Final = 0.24  # silence before and after an utterance

_PHONE_OF: Final = {
    letter: phone
    for phone, letters in (
        *(("IY", "iɨ"), ("IH", "ɪɯᵻ"), ("UW", "uyʉ"), ("UH", "ʊʏøœɵ"), ("EH", "eɛ"), ("OW", "o")),
        *(("AO", "ɔɒ"), ("AA", "aɑɶ"), ("AE", "æ"), ("AH", "əɐʌɤɘ"), ("ER", "ɜɚɝɞ")),
        *(("B", "bɓ"), ("P", "p"), ("M", "mɱ"), ("F", "fɸ"), ("V", "vʋβ"), ("W", "wɥʍ")),
        *(("T", "tʈ"), ("D", "dɖɗɾɽ"), ("N", "nɳɲ"), ("NG", "ŋ"), ("S", "s"), ("Z", "z")),
        *(("SH", "ʃʂɕ"), ("ZH", "ʒʐʑ"), ("TH", "θ"), ("DH", "ð"), ("K", "kqc"), ("G", "gɡɢɟɠʁʀɣ")),
        *(("HH", "xχhħɦçʔʕ"), ("Y", "jʝ"), ("R", "ɹɻ"), ("L", "lɫʎɭrɬɮ")),
    )
    for letter in letters
}
"""Letters of IPA, and our phones with the same lips."""
_PAIRS: Final = {
    **dict.fromkeys(("aɪ", "ai"), "AY"),
    **dict.fromkeys(("aʊ", "au"), "AW"),
    **dict.fromkeys(("eɪ", "ei"), "EY"),
    **dict.fromkeys(("oʊ", "əʊ", "ou"), "OW"),
    **dict.fromkeys(("ɔɪ", "ɔø", "ɔʏ", "oi"), "OY"),
    **dict.fromkeys(("tʃ", "tɕ", "tʂ"), "CH"),
    **dict.fromkeys(("dʒ", "dʑ", "dʐ"), "JH"),
}
_SYLLABLES: Final = ("b", "p", "m", "f", "v", "w", "t", "d", "n", "s", "k", "l", "r", "g", "j", "")


def to_phones(ipa: str) -> list[str]:
    """One event's IPA -> our phones, in their order; nothing for marks of stress or language.

    espeak-ng gives one phone, a diphthong or an affricate, perhaps with diacritics.
    """
    if ipa.startswith("("):
        return []
    plain = "".join(x for x in unicodedata.normalize("NFD", ipa) if x in _PHONE_OF)
    phones, at = [], 0
    while at < len(plain):
        pair = _PAIRS.get(plain[at : at + 2])
        phones.append(pair or _PHONE_OF[plain[at]])
        at += 2 if pair else 1
    # an aspirated stop is one: the /h/ after it says nothing about the lips
    return [p for i, p in enumerate(phones) if not (p == "HH" and i)]


class _EventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_void_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    """`espeak_EVENT` of speak_lib.h."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position_ms", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    ]


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


Said = tuple[Waveform, NDArray[np.uint8]]
"""Waveform `(N,)`, float32 at 16 kHz, whole video frames; phones `(N / 160,)`, one each 10 ms."""


class Synthesizer:
    """espeak-ng in this process, of which only one may exist; OSError where the library is not installed."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libespeak-ng.so.1")
        self._rate_hz = self._library.espeak_Initialize(_RETRIEVE, 0, None, _PHONE_EVENTS_IN_IPA)
        self._sound: list[bytes] = []
        self._events: list[tuple[int, str]] = []
        self._callback = _Callback(self._receive)  # the library keeps no reference of its own
        self._library.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples: Any, count: int, events: Any) -> int:
        if count > 0:
            self._sound.append(ctypes.string_at(samples, 2 * count))
        at = 0
        while events[at].type != 0:
            if events[at].type == _PHONE_EVENT:
                ipa = bytes(events[at].id.string).decode("utf-8", "ignore")
                self._events.append((events[at].sample, ipa))
            at += 1
        return 0

    def __call__(
        self, text: str, voice: str, *, words_per_minute: int = 160, pitch: int = 50
    ) -> Said:
        """Speak a text in the language of a voice, LANGUAGE or LANGUAGE+VARIANT.

        80 to 400 words a minute; the pitch is 0 to 99, 50 is the voice's own.

        Raises:
            ValueError: There is no such voice, or it has nothing to say to this text.
        """
        self._sound.clear()
        self._events.clear()
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"no voice {voice!r} in espeak-ng")
        self._library.espeak_SetParameter(_RATE, words_per_minute, 0)
        self._library.espeak_SetParameter(_PITCH, pitch, 0)
        encoded = text.encode()
        self._library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, _UTF8, None, None)
        self._library.espeak_Synchronize()
        sound = np.frombuffer(b"".join(self._sound), np.int16).astype(np.float32) / 32768.0
        if not len(sound) or not self._events:
            raise ValueError(f"{voice}: no sound for {text!r}")
        return self._label(sound)

    def _label(self, sound: Waveform) -> Said:
        lead = round(_LEAD_S * SAMPLE_RATE / HOP_LENGTH)
        waveform = np.asarray(resample_poly(sound, 320, 441 * self._rate_hz // 22050), np.float32)
        padded = np.pad(waveform, 2 * [lead * HOP_LENGTH])
        padded = np.pad(padded, (0, -len(padded) % SAMPLES_PER_FRAME))
        phones = np.full(len(padded) // HOP_LENGTH, SILENCE_PHONE, np.uint8)
        starts = [sample for sample, _ in self._events] + [len(sound)]
        ticks_hz = self._rate_hz * HOP_LENGTH / SAMPLE_RATE  # samples of 10 ms
        for (start, ipa), end in zip(self._events, starts[1:], strict=True):
            spoken = to_phones(ipa)
            edges = np.linspace(start, end, len(spoken) + 1) / ticks_hz + lead
            for phone, low, high in zip(spoken, edges[:-1], edges[1:], strict=True):
                phones[round(low) : round(high)] = PHONES.index(phone)
        return padded, phones


def random_text(rng: np.random.Generator) -> str:
    """A few numbers and made-up words, with commas: text that every language can read."""
    words = []
    for _ in range(int(rng.integers(5, 9))):
        if rng.random() < 0.5:
            words.append(str(rng.integers(10 ** int(rng.integers(1, 5)))))
        else:
            syllables = [
                str(rng.choice(_SYLLABLES)) + str(rng.choice(list("aeiou")))
                for _ in range(int(rng.integers(1, 4)))
            ]
            words.append("".join(syllables) + str(rng.choice(["", "", "n", "m", "p", "s"])))
        if rng.random() < 0.2:
            words[-1] += ","
    return " ".join(words) + "."


def synthesize(count: int) -> Iterator[tuple[str, Waveform, NDArray[np.uint8]]]:
    """`count` utterances, but for those to which their voice has nothing to say: name, waveform, phones."""
    rng = np.random.default_rng(0)
    speak = Synthesizer()
    for number in tqdm(range(count), desc="synthetic voices", mininterval=5):
        voice = f"{LANGUAGES[number % len(LANGUAGES)]}+{rng.choice(VARIANTS)}"
        rate, pitch = int(rng.integers(110, 230)), int(rng.integers(20, 80))
        try:
            said = speak(random_text(rng), voice, words_per_minute=rate, pitch=pitch)
        except ValueError as error:
            tqdm.write(f"skipped {error}")
        else:
            yield f"{voice}-{number:04d}", *said


@dataclass(frozen=True)
class SyntheticVoicesConfig:
    """Synthetic voices: `count` utterances into the folder `output`."""

    output: Path = Path("data/prepared")
    count: int = 640


def main(config: SyntheticVoicesConfig) -> None:
    """Speak and write all utterances."""
    write_voices(config.output / "synthetic.npz", synthesize(config.count))


if __name__ == "__main__":
    run_program(SyntheticVoicesConfig, main, __doc__)
