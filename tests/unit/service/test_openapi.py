"""The OpenAPI document: current, and with an example for every answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from service.openapi import document
from service.schemas import examples
from service.schemas.job import JobPublic

ROOT = Path(__file__).resolve().parents[3]
DOCUMENT: dict[str, Any] = json.loads(document())


def responses() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, operations in DOCUMENT["paths"].items():
        for method, operation in operations.items():
            for status, response in operation["responses"].items():
                for kind, content in response.get("content", {}).items():
                    yield f"{method} {path} {status}", kind, content


def test_the_committed_document_is_current() -> None:
    assert (ROOT / "openapi.json").read_text() == document(), "run `make openapi`"


@pytest.mark.parametrize(
    ("content", "kind"),
    [pytest.param(content, kind, id=f"{name} {kind}") for name, kind, content in responses()],
)
def test_every_answer_has_an_example(content: dict[str, Any], kind: str) -> None:
    if kind in ("video/mp4", "image/jpeg"):
        assert content["schema"]["format"] == "binary"
        return
    name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
    schema = DOCUMENT["components"]["schemas"].get(name, {})
    assert content.get("example") or content.get("examples") or schema.get("examples")


@pytest.mark.parametrize("name", sorted(n for n in vars(examples) if n.endswith("_JOB")))
def test_example_jobs_are_jobs(name: str) -> None:
    example = getattr(examples, name)

    job = TypeAdapter(JobPublic).validate_python(example)

    # Nothing is missing and nothing is made up.
    assert job.model_dump(mode="json", exclude_unset=True) == json.loads(json.dumps(example))
    assert set(example) == set(JobPublic.model_fields)


def test_no_address_of_the_framework_is_among_the_answers() -> None:
    # FastAPI's own shape of a 422.
    assert "HTTPValidationError" not in DOCUMENT["components"]["schemas"]
