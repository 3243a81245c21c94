"""The only door for bytes from outside.

Its modules, in the order in which a POST walks through them:

    file_checks    while a file arrives: its size
    sniffing       and what it is, by its first bytes or those behind tags and padding
      formats      every format that is taken, and how it is proven (`proofs`): one table
    uploads        all files have come: whether they go together
    limits         how much is tolerated
    entry          takes the files in, the cheap ones first
      pictures       decoded at once, in a limited child (`picture_child`) ─▶ input.png
      sounds         decoded at once where no video is sent, by ffmpeg     ─▶ speech.flac, sound.flac
        descriptions   what ffmpeg says of a file without decoding it: tracks, lengths, clocks
        sound_tracks   which track, and what its clock calls zero
        sound_lengths  whether all of a recording is there
        sound_measures levels of its channels, and what is done so that the speech is heard
      probes         of a video, and of the voice beside it, only the head is read before the 202
      videos         decoded after the 202, by ffmpeg                      ─▶ input.mkv
        rates          how many frames a second it has, exactly
        video_colours  HDR, missing tags, alpha and fields, and the filters for them
      fitting        a film and a voice of other lengths, or a voice for parts of a film
    file_names     what the files are called in the store

Whatever decodes runs in `limited_child`: bounds on memory, processor time, file size and wall
clock. The parent compares first bytes, skips tags by their length and reads the lengths in a WAV's
header; it decodes nothing.

This file imports nothing: the child that decodes a picture starts through it and must be up within a
few hundredths of a second.
"""
