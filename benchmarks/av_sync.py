"""How far sound and picture come apart over five minutes, for every container and rate.

    python benchmarks/av_sync.py [--moments 0.3,60,300] [--suffixes mp4,webm] [--rates 30000/1001,50]

Films with a flash and a click at each moment, the sound track beginning 0.13 s behind the pictures
(AVI: together), go through the intake, the renderer without a model and the encoder. One line of JSON
a film: milliseconds by which the click is late, after the intake and in the MP4.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.av_sync import CODECS, measure, write_film

RATES = ("24000/1001", "25", "30000/1001", "50", "60000/1001")
DELAY_S = 0.13


def main() -> int:
    """Measure; the exit status says whether all stay within 5 ms."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moments", default="0.3,60,300", help="seconds, with commas between")
    parser.add_argument("--suffixes", default=",".join(CODECS))
    parser.add_argument("--rates", default=",".join(RATES))
    chosen = parser.parse_args()
    moments_s = [float(moment) for moment in chosen.moments.split(",")]
    worst_ms = 0.0
    for suffix in chosen.suffixes.split(","):
        for rate in chosen.rates.split(","):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                delay_s = 0.0 if suffix == "avi" else DELAY_S
                film = write_film(folder / f"film.{suffix}", rate, moments_s, delay_s)
                found = measure(film, folder)
            taken_ms = [round(1000 * shift, 2) for shift in found.taken]
            made_ms = [round(1000 * shift, 2) for shift in found.made]
            worst_ms = max(worst_ms, *map(abs, taken_ms), *map(abs, made_ms))
            told = {"suffix": suffix, "rate": rate, "fps": round(found.fps, 6)}
            print(json.dumps({**told, "taken_ms": taken_ms, "made_ms": made_ms}), flush=True)
    print(json.dumps({"worst_ms": worst_ms}))
    return 0 if worst_ms <= 5.0 else 1


if __name__ == "__main__":
    sys.exit(main())
