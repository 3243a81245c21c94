"""Motion of a head that speaks or listens, made from the sound alone."""
