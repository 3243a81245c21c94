"""deploy/kubernetes is what Kubernetes and KEDA accept, and fits what the processes read and serve."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from worker.contract.environment import PREFIX, SETTING_NAMES

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
EXAMPLE = FOLDER / "overlays" / "example"
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
# Sidecars that start first and end last are Kubernetes' own since 1.29.
VERSIONS = ("1.29.0", kubernetes_validate.latest_version())


def objects(folder: Path) -> list[dict[str, Any]]:
    """What the files of a kustomization's folder say, without the kustomization."""
    files = [path for path in sorted(folder.glob("*.yaml")) if path.stem != "kustomization"]
    return [one for path in files for one in yaml.safe_load_all(path.read_text())]


BASE = objects(FOLDER / "base")
(SCALED,) = objects(FOLDER / "components" / "keda")


def pods() -> dict[str, dict[str, Any]]:
    """Pod specifications by the name of what makes them."""
    return {
        one["metadata"]["name"]: one["spec"]["template"]["spec"]
        for one in BASE
        if one["kind"] in ("Deployment", "StatefulSet")
    }


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", ()), *pod["containers"]]


def environment(container: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container.get("env", ())}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("one", BASE, ids=lambda one: f"{one['kind']}-{one['metadata']['name']}")
def test_kubernetes_knows_every_field(one: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(one, version, strict=True)


def test_the_check_sees_a_field_that_does_not_exist() -> None:
    worker = next(one for one in BASE if one["metadata"]["name"] == "talkface-worker")
    broken = json.loads(json.dumps(worker))
    broken["spec"]["template"]["spec"]["terminationGraceSeconds"] = 1

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, VERSIONS[-1], strict=True)


def test_keda_knows_every_field_and_the_check_sees_a_wrong_one() -> None:
    schema = json.loads((ROOT / "tests" / "data" / "keda-scaled-object.json").read_text())
    jsonschema.validate(SCALED, schema)
    broken = {**SCALED, "spec": {**SCALED["spec"], "minReplicas": 1}}

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, schema)


def test_what_keda_asks_for_is_served_and_counts_what_waits_and_what_runs() -> None:
    (trigger,) = SCALED["spec"]["triggers"]
    metric, url = trigger["metadata"]["valueLocation"], trigger["metadata"]["url"]
    service = next(one for one in BASE if one["kind"] == "Service" and "api" in str(one))
    namespace = yaml.safe_load((EXAMPLE / "kustomization.yaml").read_text())["namespace"]
    (port,) = [each["port"] for each in service["spec"]["ports"] if each["name"] == "metrics"]

    assert url == f"http://{service['metadata']['name']}.{namespace}.svc:{port}/metrics"
    assert (
        f"| `{metric}` | gauge |  | Jobs that have not ended. |"
        in (ROOT / "docs" / "reference.md").read_text()
    )
    assert SCALED["spec"]["scaleTargetRef"]["name"] in pods()


def test_all_files_and_all_processes_of_compose_are_there() -> None:
    listed = yaml.safe_load((FOLDER / "base" / "kustomization.yaml").read_text())["resources"]
    names = {each["name"] for pod in pods().values() for each in containers(pod)}

    assert set(listed) == {path.name for path in (FOLDER / "base").glob("*.yaml")} - {
        "kustomization.yaml"
    }
    assert set(SERVICES) <= names


def test_every_setting_is_one_and_every_module_is_there() -> None:
    text = (FOLDER / "base" / "kustomization.yaml").read_text()
    literals = yaml.safe_load(text)["configMapGenerator"][0]["literals"]
    named = {literal.split("=")[0] for literal in literals}
    for pod in pods().values():
        for container in containers(pod):
            named |= set(environment(container))
            command = container.get("command", [])
            if command[:2] == ["python", "-m"]:
                assert importlib.util.find_spec(command[2]) is not None, command

    settings = {name.removeprefix(PREFIX).lower() for name in named if name.startswith(PREFIX)}
    assert settings <= SETTING_NAMES
    assert named - {f"{PREFIX}{name.upper()}" for name in settings} == {"OMP_NUM_THREADS"}


def test_a_worker_has_longer_to_end_than_it_takes() -> None:
    pod = pods()["talkface-worker"]
    (worker,) = pod["containers"]

    assert pod["terminationGracePeriodSeconds"] > float(environment(worker)["TALKFACE_GRACE_S"])


def test_what_decodes_has_neither_redis_nor_bucket_nor_secret() -> None:
    decoders = [
        each for pod in pods().values() for each in containers(pod) if each["name"] == "decoder"
    ]

    assert len(decoders) == 2
    for decoder in decoders:
        assert "envFrom" not in decoder
        assert {mount["name"] for mount in decoder["volumeMounts"]} == {"work", "tmp"}


def test_nobody_may_more_than_needed() -> None:
    for name, pod in pods().items():
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"]["runAsUser"] == 10001, name
        for container in containers(pod):
            allowed = container["securityContext"]
            assert allowed["readOnlyRootFilesystem"] is True, name
            assert allowed["capabilities"] == {"drop": ["ALL"]}, name
            assert "memory" in container["resources"]["limits"], name


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl here")
def test_the_example_is_built() -> None:
    built = subprocess.run(
        ["kubectl", "kustomize", str(EXAMPLE)], capture_output=True, text=True, check=True
    )
    found = list(yaml.safe_load_all(built.stdout))
    by_name = {f"{one['kind']}/{one['metadata']['name']}": one for one in found}
    worker = by_name["Deployment/talkface-worker"]["spec"]["template"]["spec"]["containers"][0]

    for one in found:
        if one["kind"] != "ScaledObject":
            kubernetes_validate.validate(one, VERSIONS[-1], strict=True)
        assert one["metadata"]["namespace"] == "talkface"
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert environment(worker)["TALKFACE_DEVICE"] == "cuda"
    assert worker["image"].startswith("talkface-worker-cuda")
    assert "ScaledObject/talkface-worker" in by_name
    (config,) = [one for one in found if one["kind"] == "ConfigMap"]
    assert worker["envFrom"][0]["configMapRef"]["name"] == config["metadata"]["name"]
