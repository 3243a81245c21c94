"""What the probes answer."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Health(BaseModel):
    """The process runs."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"status": "ok", "version": "0.3.0"}]}
    )

    status: str = "ok"
    version: str


class Readiness(BaseModel):
    """Jobs can be accepted and will be worked on."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "status": "ready",
                    "redis": True,
                    "durable": True,
                    "storage": True,
                    "live_workers": 1,
                    "live_inspectors": 1,
                    "live_validators": 1,
                    "live_reconcilers": 1,
                    "quarantined": 0,
                    "signer": True,
                }
            ]
        }
    )

    status: str = "ready"
    redis: bool
    durable: bool | None = Field(
        description="Whether Redis keeps each write on its disk; null where it does not tell."
    )
    storage: bool
    live_workers: int
    live_inspectors: int
    live_validators: int
    live_reconcilers: int
    quarantined: int = Field(
        description="Jobs that some process could not handle; the log says why."
    )
    signer: bool | None = Field(
        default=None, description="Whether the signer answers; null where videos are not signed."
    )
