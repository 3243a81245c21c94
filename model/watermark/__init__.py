"""A mark in the pictures that survives another encoding: who made the video, and in which job.

    embedder   frames before the encoder: adds one faint keyed pattern
    detector   frames of any video: is the pattern of this key in it, and what does it say
    pattern    what the key draws, and the grid that it repeats on
    payload    eight bytes as positions of patterns

docs/watermark.md says what it withstands and what it does not.
"""
