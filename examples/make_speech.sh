#!/bin/sh
# Make examples/speech.wav. Needs espeak-ng (apt install espeak-ng).
set -eu
exec espeak-ng -v en-us+f3 -s 160 -w "$(dirname "$0")/speech.wav" \
  "Maybe people would move home below the blue moon, but please be patient."
