"""When each phone of a known text is spoken: PocketSphinx, forced to the text.

Its acoustic model is a few megabytes that come with its package, so nothing is downloaded.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.data.phones import PHONES, UNKNOWN_PHONE

_PEAK: Final = 0.7  # of full scale: quiet recordings are lifted to what the model was trained on

GRID_GRAMMAR: Final = """#JSGF V1.0;
grammar grid;
public <sentence> = <command> <colour> <preposition> <letter> <digit> <adverb>;
<command> = bin | lay | place | set;
<colour> = blue | green | red | white;
<preposition> = at | by | in | with;
<letter> = a | b | c | d | e | f | g | h | i | j | k | l | m | n | o | p | q | r | s | t | u | v | x | y | z;
<digit> = zero | one | two | three | four | five | six | seven | eight | nine;
<adverb> = again | now | please | soon;
"""
"""Every sentence of the GRID corpus, for clips whose text is not known."""


def align_phones(waveform: NDArray[np.float32], text: str, count: int) -> NDArray[np.uint8]:
    """Label `count` 10 ms frames of `(N,)`, float32, 16 kHz, with the phones of what is said.

    The text is lower case, all its words in CMUdict. Indices into `PHONES`, `(count,)`; `UNKNOWN_PHONE`
    everywhere where the text does not fit.
    """
    import pocketsphinx

    labels = np.full(count, UNKNOWN_PHONE, np.uint8)
    decoder = pocketsphinx.Decoder(lm=None, bestpath=False, loglevel="FATAL")
    decoder.set_align_text(text)
    _decode(decoder, waveform)
    if decoder.hyp() is None:
        return labels
    decoder.set_alignment()  # the second pass divides the words into phones
    _decode(decoder, waveform)
    for word in decoder.get_alignment():
        for phone in word:
            if phone.name in PHONES:
                end = phone.start + phone.duration
                labels[phone.start : end] = PHONES.index(phone.name)
    return labels


def recognise(waveform: NDArray[np.float32], grammar: str) -> str:
    """What is said in `waveform` `(N,)`, by a JSGF grammar; empty where nothing fits."""
    import pocketsphinx

    decoder = pocketsphinx.Decoder(lm=None, loglevel="FATAL")
    decoder.add_jsgf_string("grammar", grammar)
    decoder.activate_search("grammar")
    _decode(decoder, waveform)
    hypothesis = decoder.hyp()
    return "" if hypothesis is None else str(hypothesis.hypstr)


def _decode(decoder: object, waveform: NDArray[np.float32]) -> None:
    level = _PEAK / max(float(np.abs(waveform).max()), 1e-6)
    samples = (waveform * level * 32767).astype("<i2").tobytes()
    decoder.start_utt()  # type: ignore[attr-defined]
    decoder.process_raw(samples, full_utt=True)  # type: ignore[attr-defined]
    decoder.end_utt()  # type: ignore[attr-defined]
