"""Programs that make what the stages read, and pack what they export.

`python -m model.training.builders.NAME key=value ...`; `--help` lists the keys.
"""
