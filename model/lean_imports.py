"""Imports a library without those of its parts that nothing here uses: half of what a worker's start costs.

    with lean_imports("diffusers"):
        ...                          # the import, and what imports more of it later

Seconds of CPU time, measured: diffusers 3.0 of 4.0, mediapipe 0.5 of 0.7. What is left out is put back
afterwards: whoever imports it then gets it whole.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec, module_from_spec
from types import ModuleType, SimpleNamespace
from typing import Any, Final, Literal

Library = Literal["diffusers", "mediapipe"]

_COLLECTIONS: Final = (
    "diffusers.models.autoencoders",
    "diffusers.models.transformers",
    "diffusers.models.unets",
    "diffusers.hooks",
)
"""Packages that import all of theirs, dozens of models, where one of them is asked for."""


@contextmanager
def lean_imports(library: Library) -> Iterator[None]:
    """Leave out what nobody uses while `library` is imported.

    Modules that are imported already stay as they are, and so does what is imported here.

    Args:
        library: Which one.
    """
    if library == "mediapipe":
        # For its drawings and its recorder. The recorder would keep the error of a sounddevice that finds
        # no sound card, and with it the stack of whoever imports it first, a whole recording perhaps.
        names = ("matplotlib", "matplotlib.pyplot", "sounddevice")
        with _in_place_of({name: ModuleType(name) for name in names}):
            yield
        return
    # It marks functions for torch's compiler and knows what was compiled: nothing. It takes 1.2 s to import.
    dynamo: Any = ModuleType("torch._dynamo")
    dynamo.allow_in_graph = dynamo.disable = _unchanged
    dynamo.eval_frame = SimpleNamespace(OptimizedModule=type("OptimizedModule", (), {}))
    # Guiders are for other pipelines, and schedules that are not used need scipy.stats.
    others = {name: ModuleType(name) for name in ("diffusers.guiders", "scipy.stats")}
    with _in_place_of({"torch._dynamo": dynamo, **others}):
        importlib.import_module("diffusers.models")
        with _in_place_of({name: _bare(name) for name in _COLLECTIONS}):
            yield


@contextmanager
def _in_place_of(others: Mapping[str, ModuleType]) -> Iterator[None]:
    """Imports of these names find others, unless they are imported already."""
    put = {name: other for name, other in others.items() if name not in sys.modules}
    sys.modules.update(put)
    try:
        yield
    finally:
        for name in put:
            sys.modules.pop(name, None)


def _bare(name: str) -> ModuleType:
    """A package whose modules can be imported and whose own code has not run."""
    spec = find_spec(name)
    if spec is None:
        raise ModuleNotFoundError(f"no module named {name!r}", name=name)
    return module_from_spec(spec)


def _unchanged(function: Any = None, *_: Any, **__: Any) -> Any:
    """A decorator, with arguments or without."""
    return _unchanged if function is None else function
