"""What generate.py writes is what is committed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

CLIENT = Path(__file__).parents[3] / "clients" / "python"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", CLIENT / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_models_are_those_of_the_document(generate: ModuleType) -> None:
    assert generate.MODELS.read_text() == generate.models(), "run `make openapi`"


def test_both_clients_are_the_same_client(generate: ModuleType) -> None:
    text = generate.sync_client()

    assert generate.CLIENT.read_text() == text, "run `make openapi`"
    assert not any(word in text for word in ("async", "await", "__a", "aclose"))
