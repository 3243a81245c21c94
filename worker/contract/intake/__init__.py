"""The only door for bytes from outside.

Its modules, in the order in which a POST walks through them:

    file_checks    while a file arrives: its size, and its type by the first 64 bytes
    uploads        all files have come: whether they go together
    limits         how much is tolerated
    entry          takes the files in, the cheap ones first
      pictures       decoded at once, in a limited child (`picture_child`) ─▶ input.png
      sounds         decoded at once where no video is sent, by ffmpeg     ─▶ speech.flac, sound.flac
      probes         of a video, and of the voice beside it, only the head is read before the 202
      videos         decoded after the 202, by ffmpeg                      ─▶ input.mkv
    file_names     what the files are called in the store

Whatever decodes runs in `limited_child`: bounds on memory, processor time, file size and wall
clock. The parent never parses a byte beyond the first 64.

This file imports nothing: the child that decodes a picture starts through it and must be up within a
few hundredths of a second.
"""
