"""Read a `Config` from a TOML file and overrides, and raise a clear error for a wrong key or value."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from fadiag.errors import ConfigError
from fadiag.paths import absolute_path
from fadiag.rules import RULES
from fadiag.training.config import Config
from fadiag.training.datasets import DATASETS
from fadiag.training.models import MODELS

__all__ = ["load_config", "make_config"]


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Read a configuration from a TOML file.

    Parameters
    ----------
    path : str or Path
    overrides : iterable of str
        ``key=value`` with a dotted key (``optimizer.learning_rate=0.1``) and a TOML value or a plain string.

    Returns
    -------
    Config

    Raises
    ------
    ConfigError
        The file is missing or is not TOML, a key is unknown (the error names similar keys), or a value is
        wrong.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "run.toml"
    >>> _ = path.write_text("train.epochs = 5", encoding="utf-8")
    >>> load_config(path, ["rule=bp"]).train.epochs
    5
    """
    path = absolute_path(path)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no configuration {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration {path} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"configuration {path} is not TOML: {error}") from error
    return make_config(table, overrides, source=str(path))


def make_config(
    table: Mapping[str, Any], overrides: Iterable[str] = (), *, source: str = "configuration"
) -> Config:
    """Make a configuration from a nested table, such as a parsed TOML file.

    Examples
    --------
    >>> make_config({"optimizer": {"name": "muon"}}, ["optimizer.learning_rate=0.1"]).optimizer.learning_rate
    0.1
    >>> make_config({"train": {"epoch": 3}})
    Traceback (most recent call last):
    fadiag.errors.ConfigError: configuration: unknown key 'train.epoch'; did you mean 'train.epochs'?
    """
    merged = _copy(table)
    for override in overrides:
        _set(merged, override)
    _check_keys(merged, Config, "", source)
    try:
        config = msgspec.convert(merged, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{source}: {_explain(str(error), merged)}") from None
    for key, name, names in (
        ("rule", config.rule, [rule.name for rule in RULES]),
        ("data.name", config.data.name, DATASETS),
        ("model.name", config.model.name, MODELS),
    ):
        if name not in names:
            raise ConfigError(f"{source}: {key!r} is {name!r}; {_near(name, '', names)}")
    return config


def _explain(message: str, table: Mapping[str, Any]) -> str:
    """Rewrite msgspec's message, which ends in a path, to name the key, the value and the choices."""
    complaint, _, path = message.partition(" - at `$.")
    key = path.rstrip("`")
    value: Any = table
    kind: Any = Config
    for part in re.findall(r"\w+|\[", key):
        if part == "[" or not isinstance(value, Mapping):
            break
        value = value.get(part)
        hint = get_type_hints(kind)[part]
        kind = _table_of(hint) or _without_none(hint)
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    if choices and isinstance(value, str):
        return f"{key!r} is {value!r}; {_near(value, '', choices)}"
    if isinstance(value, Mapping) and not complaint.startswith("Expected"):
        return f"in {key!r}, {complaint}"  # the message is about the whole table
    if complaint.startswith("Expected"):  # in TOML's words
        complaint = complaint.replace("object", "table").replace("array", "list").replace(" | null", "")
    return f"{key!r} is {value!r}: {complaint[0].lower()}{complaint[1:]}"


def _without_none(kind: Any) -> Any:
    """Return the type of a key's value, without the None of an optional key."""
    if get_origin(kind) not in (UnionType, Union):
        return kind
    others = [one for one in get_args(kind) if one is not NoneType]
    return others[0] if len(others) == 1 else kind


def _copy(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, Mapping) else value for key, value in table.items()}


def _set(table: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError(f"override {override!r} is not key=value, as in optimizer.learning_rate=0.1")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()  # a bare word is a string
    for part in parts[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise ConfigError(f"override {override!r}: {part!r} is a value, not a table")
    table[parts[-1]] = value


def _check_keys(table: Mapping[str, Any], struct: type[msgspec.Struct], above: str, source: str) -> None:
    fields = {field.name: field.type for field in msgspec.structs.fields(struct)}
    for key, value in table.items():
        if key not in fields:
            raise ConfigError(f"{source}: unknown key {(above + key)!r}; {_near(above + key, above, fields)}")
        inner = _table_of(fields[key])
        if inner is not None and isinstance(value, Mapping):
            _check_keys(value, inner, f"{above}{key}.", source)


def _table_of(kind: Any) -> type[msgspec.Struct] | None:
    """Return the class of a table that a key may hold, alone or among other types."""
    kinds = get_args(kind) if get_origin(kind) in (UnionType, Union) else (kind,)
    return next((one for one in kinds if isinstance(one, type) and issubclass(one, msgspec.Struct)), None)


def _near(key: str, above: str, fields: Iterable[str]) -> str:
    fields = list(fields)
    near = get_close_matches(key.removeprefix(above), fields, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(repr(above + name) for name in near)}?"
    return f"there are {', '.join(repr(above + name) for name in fields)}"
