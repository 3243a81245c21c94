"""Settings of a training run or a builder: a frozen dataclass from YAML plus `key=value`, types checked strictly.

    defaults of the dataclass  <  --config FILE  <  key=value

YAML is read by the 1.2 core rules: `1e-3` is a number, and `no` is the word that `mixed_precision`
knows, not false.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import math
import re
import types
import typing
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import yaml

from model.errors import ConfigError

ConfigT = TypeVar("ConfigT")


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2's scalars, refusing a key that is written twice."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 as PyYAML declares it: 1.1's rules are not inherited

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise ConfigError(f"{key}: stands twice in the file; keep one of them")
        return super().construct_mapping(node, deep)


_EXPONENT = r"(?:[eE][-+]?[0-9]+)"
for _tag, _pattern, _first in (
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^[-+]?[0-9]+$", list("-+0123456789")),
    (
        "float",
        rf"^[-+]?(?:[0-9]+\.[0-9]*{_EXPONENT}?|\.[0-9]+{_EXPONENT}?|[0-9]+{_EXPONENT})$",
        list("-+.0123456789"),
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)


def load_config(
    config_type: type[ConfigT], yaml_path: Path | None = None, words: Sequence[str] = ()
) -> ConfigT:
    """Build a config.

    Args:
        config_type: A dataclass whose fields are bool, int, float, str, Path, Literal, tuples of
            these, or one of these or None.
        yaml_path: File with a mapping of keys to values, or None.
        words: `key=value`, each over what the file says.
    Raises:
        ConfigError: Unknown key or a value of the wrong type (key, got and expected are named), or
            a file that is no mapping.
    """
    hints = typing.get_type_hints(config_type)
    declared = dataclasses.fields(config_type)  # type: ignore[arg-type]
    fields = {field.name: hints[field.name] for field in declared}
    values: dict[str, Any] = {}
    for key, value in (_read(yaml_path) if yaml_path is not None else {}).items():
        name = _known(key, fields, config_type)
        values[name] = _checked(name, value, fields[name])
    for word in words:
        key, equals, text = word.partition("=")
        _known(key, fields, config_type)
        if not equals:
            raise ConfigError(f"{key}: no value; expected {key}=VALUE")
        values[key] = _checked(key, _parsed(text, fields[key]), fields[key])
    for field in declared:
        if field.name not in values and _is_required(field):
            raise ConfigError(f"{field.name}: no value; expected {field.name}=VALUE")
    return config_type(**values)


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is field.default_factory is dataclasses.MISSING


def run_program(
    config_type: type[ConfigT], program: Callable[[ConfigT], object], description: str | None
) -> None:
    """The command line of every training and every builder: `--config FILE`, `key=value ...`.

    Args:
        config_type: What `load_config` builds.
        program: Called with it.
        description: The module's docstring.
    """
    fields = dataclasses.fields(config_type)  # type: ignore[arg-type]
    needed = "".join(f"{field.name}: needed\n" for field in fields if _is_required(field))
    defaults = _dump({field.name: field.default for field in fields if not _is_required(field)})
    parser = argparse.ArgumentParser(
        description=description,
        epilog=f"keys and defaults:\n{needed}{defaults}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, default=None, help="YAML file of keys and values")
    parser.add_argument("settings", nargs="*", metavar="key=value")
    words = parser.parse_args()
    try:
        program(load_config(config_type, words.config, words.settings))
    except ConfigError as error:
        parser.error(str(error))


def dump_config(config: Any) -> str:
    """The YAML that `load_config` reads back as the same config."""
    return _dump({f.name: getattr(config, f.name) for f in dataclasses.fields(config)})


def _dump(values: dict[str, Any]) -> str:
    def plain(value: Any) -> Any:
        if isinstance(value, tuple):
            return [plain(item) for item in value]
        return str(value) if isinstance(value, Path) else value

    return yaml.safe_dump({name: plain(x) for name, x in values.items()}, sort_keys=False)


def _read(path: Path) -> dict[Any, Any]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise ConfigError(f"cannot read the config {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected lines `key: value`, got {_say(content)}")
    return content


def _known(key: object, fields: dict[str, Any], config_type: type) -> str:
    if key not in fields:
        near = difflib.get_close_matches(str(key), fields, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        known = ", ".join(sorted(fields))
        raise ConfigError(f"unknown key {key!r}{hint}; {config_type.__name__} has: {known}")
    return str(key)


def _parsed(text: str, hint: Any) -> Any:
    """A command line's text as YAML; as it stands where the type is text."""
    kinds = _alternatives(hint)
    if type(None) in kinds and text.lower() in ("", "none", "null", "~"):
        return None
    if any(kind in (str, Path) or get_origin(kind) is Literal for kind in kinds):
        return text
    if any(get_origin(kind) is tuple for kind in kinds) and not text.startswith("["):
        text = f"[{text}]"
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError:
        return text  # fails as a string does


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


_NO_MATCH = object()


def _checked(key: str, value: Any, hint: Any) -> Any:
    """The value as `hint` wants it; ConfigError where it is of another type."""
    for kind in _alternatives(hint):
        converted = _converted(key, value, kind)
        if converted is not _NO_MATCH:
            return converted
    expected = " or ".join(_name(kind) for kind in _alternatives(hint))
    raise ConfigError(f"{key}: expected {expected}, got {_say(value)}")


def _converted(key: str, value: Any, kind: Any) -> Any:
    if get_origin(kind) is Literal:
        return value if value in get_args(kind) else _NO_MATCH  # words, all of them
    if get_origin(kind) is tuple:
        items = get_args(kind)
        if not isinstance(value, list):
            return _NO_MATCH
        items = (items[0],) * len(value) if items[-1] is Ellipsis else items
        if len(items) != len(value):
            return _NO_MATCH
        places = enumerate(zip(value, items, strict=True))
        return tuple(_checked(f"{key}[{place}]", item, kind) for place, (item, kind) in places)
    if kind is float and type(value) in (int, float):
        return float(value) if math.isfinite(value) else _NO_MATCH
    if kind is Path and type(value) is str and value:
        return Path(value)
    if kind in (bool, int, str, type(None)):
        return value if type(value) is kind else _NO_MATCH
    if kind in (float, Path):
        return _NO_MATCH
    raise TypeError(f"{key}: configs cannot hold {kind}")


def _name(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(repr(item) for item in get_args(kind))
    if get_origin(kind) is tuple:
        items = get_args(kind)
        if items[-1] is Ellipsis:
            return f"a list of {_name(items[0])}"
        return "[" + ", ".join(_name(item) for item in items) + "]"
    names = {float: "a finite number", int: "a whole number", bool: "true or false", str: "text"}
    names |= {Path: "a path", type(None): "null"}
    return names.get(kind, str(kind))


def _say(value: Any) -> str:
    return "null" if value is None else f"{value!r} ({type(value).__name__})"
