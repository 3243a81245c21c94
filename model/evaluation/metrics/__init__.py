"""Figures of landmarks, pictures and mouths: arrays in, numbers out."""
