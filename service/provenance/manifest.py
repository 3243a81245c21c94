"""What a video says of itself; public for ever, so it names nobody and shows nobody."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Final

from worker.contract.signing import Ingredient, SigningRequest

NAME: Final = "talkface"
MEDIA_TYPE: Final = "video/mp4"
_SOURCE_TYPES: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/"
CONSENT: Final = "org.talkface.consent"


def manifest(request: SigningRequest) -> dict[str, Any]:
    """The definition of a manifest, as the library takes it.

    A drawn photograph was created; a dubbed film was opened and edited, so its first ingredient is
    what it was before.
    """
    software: dict[str, Any] = {"name": NAME, "version": version("talkface")}
    assertions: list[dict[str, Any]] = [
        {"label": "c2pa.actions.v2", "data": {"actions": _actions(request, software)}}
    ]
    if request.consent is not None:
        assertions.append({"label": CONSENT, "data": {"consent": request.consent}})
    return {
        "claim_generator_info": [software],
        "format": MEDIA_TYPE,
        "assertions": assertions,
        "ingredients": [_ingredient(number, one) for number, one in enumerate(request.ingredients)],
    }


def _actions(request: SigningRequest, software: dict[str, Any]) -> list[dict[str, Any]]:
    """What was done, in order; the terms are C2PA's and IPTC's."""
    drawing: dict[str, Any] = {
        "when": datetime.now(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z"),
        "softwareAgent": software,
        "digitalSourceType": _SOURCE_TYPES + request.source_type,
        "parameters": {"org.talkface.model": request.model_name},
    }
    if request.weights_sha256 is not None:
        drawing["parameters"]["org.talkface.weights_sha256"] = request.weights_sha256
    parents = [number for number, one in enumerate(request.ingredients) if one.is_parent]
    if not parents:
        return [{"action": "c2pa.created", **drawing}]
    opened = {"action": "c2pa.opened", "parameters": {"ingredientIds": [_id(parents[0])]}}
    return [opened, {"action": "c2pa.edited", **drawing}]


def _ingredient(number: int, one: Ingredient) -> dict[str, Any]:
    return {
        "title": one.title,
        "format": one.format,
        "relationship": "parentOf" if one.is_parent else "inputTo",
        # The library keeps this text as it is; a digest says more than a random number.
        "instance_id": f"urn:sha256:{one.sha256}",
        "label": _id(number),
    }


def _id(number: int) -> str:
    """How actions refer to an ingredient inside a definition."""
    return f"ingredient-{number}"
