"""The base of everything that crosses a process border."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Message(BaseModel):
    """Base of all messages: frozen, and an unknown field is ignored."""

    # `protected_namespaces=()`: `model_name` is the field's own word here.
    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())
