"""`python -m talkface.reference`: every setting, error code and metric, as docs/reference.md has them.

Made from the code, so that none is forgotten; a test compares the page with what this prints.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from prometheus_client import Metric
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from service.metrics import Metrics, SnapshotCollector
from service.problems import STATUS
from service.provenance.settings import SignerSettings
from service.reconciler import ReconcilerSettings
from service.schemas.problem import EXAMPLE_DETAILS
from service.settings import ServiceSettings
from talkface.exits import EXIT_STATUS
from worker.contract.environment import PREFIX
from worker.contract.errors import ErrorCode
from worker.contract.intake.decoder_server import DecoderSettings
from worker.contract.statistics import Snapshot, Statistics
from worker.settings import WorkerSettings

_INTRODUCTION: Final = """# Reference

Made from the code by `make reference`; a test holds the two equal. What the settings are for together is in
[deployment.md](deployment.md) and [security.md](security.md), what the codes and fields mean in [api.md](api.md).

Settings are environment variables. A misspelt `TALKFACE_...` is told in the log; a wrong value ends the process with
status 78 and a sentence. `talkface up` and `talkface doctor` read those that concern them.
"""


def reference() -> str:
    """The page."""
    lines = [_INTRODUCTION]
    shared = _settings(ServiceSettings).keys() & _settings(WorkerSettings).keys()
    sections: tuple[tuple[str, type[BaseSettings], set[str]], ...] = (
        ("Settings of the service (`python -m service`)", ServiceSettings, set()),
        (
            "Settings of the reconciler alone (`python -m service.reconciler`); it reads the service's, too",
            ReconcilerSettings,
            set(_settings(ServiceSettings)),
        ),
        (
            "Settings of worker, validator and inspector "
            f"(and, as above, {', '.join(f'`{_variable(name)}`' for name in sorted(shared))})",
            WorkerSettings,
            shared,
        ),
        (
            "Settings of the decoder server (`python -m worker.contract.intake.decoder_server`)",
            DecoderSettings,
            set(),
        ),
        (
            "Settings of the signer (`python -m service.provenance`)",
            SignerSettings,
            set(_settings(ServiceSettings)),
        ),
    )
    for title, kind, known in sections:
        rows = [
            (f"`{_variable(name)}`", _cell(field.description), _default(field))
            for name, field in _settings(kind).items()
            if name not in known
        ]
        lines += [f"## {title}\n", *_table(("variable", "what", "default"), rows), ""]
    lines += [
        "## Error codes\n",
        *_table(("code", "HTTP status", "exit status", "such as"), _codes()),
    ]
    lines += ["", "## Metrics\n", *_table(("metric", "type", "labels", "what"), _metrics())]
    return "\n".join(lines) + "\n"


def _settings(kind: type[BaseSettings]) -> Mapping[str, FieldInfo]:
    return kind.model_fields


def _variable(name: str) -> str:
    return f"{PREFIX}{name.upper()}"


def _default(field: FieldInfo) -> str:
    value: Any = field.default
    if value is PydanticUndefined:
        return "required"
    if value is None or value == ():
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _codes() -> list[tuple[str, ...]]:
    return [
        (
            f"`{code.value}`",
            str(STATUS[code].value),
            str(EXIT_STATUS[code]),
            _cell(EXAMPLE_DETAILS.get(code, "of a job, in its `error`")),
        )
        for code in ErrorCode
    ]


def _metrics() -> list[tuple[str, ...]]:
    statistics = Statistics(
        jobs={("succeeded", ""): 1},
        webhooks={"delivered": 1},
        stages={"generating": Statistics().total},
    )
    snapshot = Snapshot(
        statistics, queue_depth={"render": 0}, live_workers={"workers": 1}, speeds={"fast": 1.0}
    )
    own = Metrics()
    own.request("GET", "/healthz", 200, 0.0)
    own.accepted("decode", 0.0)
    families: list[Metric] = [*own.collect(watchers=0), *SnapshotCollector(snapshot).collect()]
    return sorted(
        (f"`{_exposed(family)}`", family.type, _labels(family), _cell(family.documentation))
        for family in families
    )


def _exposed(family: Metric) -> str:
    return f"{family.name}_total" if family.type == "counter" else family.name


def _labels(family: Metric) -> str:
    names = {name for sample in family.samples for name in sample.labels} - {"le"}
    return ", ".join(f"`{name}`" for name in sorted(names))


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(head)} |",
        f"|{' --- |' * len(head)}",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(reference())
    else:
        sys.stdout.write(reference())
