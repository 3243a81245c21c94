"""What docker-compose.yml promises: who reaches what, and the one variable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())[
    "services"
]


def test_what_decodes_has_neither_network_nor_redis_nor_secret() -> None:
    decoder = SERVICES["decoder"]

    assert decoder["network_mode"] == "none" and "networks" not in decoder
    assert "TALKFACE_REDIS_URL" not in decoder["environment"]
    assert [volume.split(":")[0] for volume in decoder["volumes"]] == ["artifacts"]
    for name in ("api", "validator"):
        socket = SERVICES[name]["environment"]["TALKFACE_DECODER_SOCKET"]
        assert socket == decoder["environment"]["TALKFACE_DECODER_SOCKET"]


def test_only_who_signs_has_the_secret() -> None:
    holders = {
        name
        for name, service in SERVICES.items()
        if any(volume.startswith("secrets:") for volume in service["volumes"])
    }

    assert holders == {"api", "reconciler"}


def test_who_marks_and_who_looks_have_the_watermarks_key_and_nobody_else() -> None:
    holders = {
        name
        for name, service in SERVICES.items()
        if any(volume.startswith("watermark:") for volume in service["volumes"])
    }
    files = {SERVICES[name]["environment"]["TALKFACE_WATERMARK_KEY_FILE"] for name in holders}

    assert holders == {"api", "worker"} and len(files) == 1
    assert SERVICES["worker"]["environment"]["TALKFACE_WATERMARK"] == "${TALKFACE_WATERMARK:-off}"


@pytest.mark.parametrize("name", ["api", "decoder", "validator", "worker"])
def test_whoever_decodes_insists_on_the_sandbox(name: str) -> None:
    assert SERVICES[name]["environment"]["TALKFACE_SANDBOX"] == "require"


def test_one_variable_closes_it_and_every_port_is_this_machines() -> None:
    environment = SERVICES["api"]["environment"]

    assert environment["TALKFACE_REQUIRE_KEYS"] == "${TALKFACE_REQUIRE_KEYS:-false}"
    assert "TALKFACE_ALLOW_ANONYMOUS" not in environment
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published and all(port.startswith("127.0.0.1:") for port in published)


def test_no_torch_where_nothing_is_drawn_and_no_cpu_where_a_gpu_was_asked_for() -> None:
    targets = {name: service["build"]["target"] for name, service in SERVICES.items()}
    gpu = yaml.safe_load((ROOT / "docker" / "compose.gpu.yml").read_text())["services"]["worker"]

    assert [name for name, target in targets.items() if target == "worker"] == ["worker"]
    assert gpu["environment"]["TALKFACE_DEVICE"] == "cuda"
    assert gpu["build"]["args"]["TORCH"] == "${TALKFACE_TORCH:-cu130}"
