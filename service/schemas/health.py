"""What the probes answer."""

from __future__ import annotations

from pydantic import BaseModel


class Health(BaseModel):
    """The process runs."""

    status: str = "ok"
    version: str


class Readiness(BaseModel):
    """Jobs can be accepted and will be worked on."""

    status: str = "ready"
    redis: bool
    storage: bool
    live_workers: int
