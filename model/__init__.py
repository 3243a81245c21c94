"""Landmark-based talking-face diffusion: arrays in, arrays out; no environment, web or queue."""
