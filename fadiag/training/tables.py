"""Check the tables of a TOML file against a struct, and name near keys and choices in each error."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from fadiag.errors import ConfigError
from fadiag.paths import absolute_path

__all__ = ["check_keys", "convert_table", "copy_table", "near_names", "read_toml", "set_key"]

_Struct = TypeVar("_Struct", bound=msgspec.Struct)


def read_toml(path: str | Path, what: str) -> dict[str, Any]:
    """Read a TOML file, which the errors call by ``what`` it is.

    Raises
    ------
    ConfigError
        The file is missing, cannot be read, or is not TOML.
    """
    path = absolute_path(path)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no {what} {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{what} {path} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{what} {path} is not TOML: {error}") from error


def convert_table(table: Mapping[str, Any], struct: type[_Struct], source: str) -> _Struct:
    """Return a table as a struct.

    Raises
    ------
    ConfigError
        A key is unknown (the error names near keys), or a value is wrong (the error names the choices).
    """
    check_keys(table, struct, "", source)
    try:
        return msgspec.convert(table, struct)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{source}: {_explain(str(error), table, struct)}") from None


def check_keys(
    table: Mapping[str, Any], struct: type[msgspec.Struct], above: str, source: str, also: Iterable[str] = ()
) -> None:
    """Raise ConfigError for a key that is no field of the struct, here or in a table below."""
    fields = {field.encode_name: field.type for field in msgspec.structs.fields(struct)}
    for key, value in table.items():
        if key in also:
            continue
        if key not in fields:
            near = near_names(above + key, above, [*fields, *also])
            raise ConfigError(f"{source}: unknown key {(above + key)!r}; {near}")
        inner = _table_of(fields[key])
        if inner is not None and isinstance(value, Mapping):
            check_keys(value, inner, f"{above}{key}.", source)


def near_names(key: str, above: str, names: Iterable[str]) -> str:
    """Return a hint on a wrong name: the names that are near it, or else all of them."""
    names = list(names)
    near = get_close_matches(key.removeprefix(above), names, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(repr(above + name) for name in near)}?"
    return f"there are {', '.join(repr(above + name) for name in names)}"


def copy_table(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of nested tables, whose values are shared."""
    return {key: copy_table(value) if isinstance(value, Mapping) else value for key, value in table.items()}


def set_key(table: dict[str, Any], override: str) -> None:
    """Set a key of nested tables from ``key=value``, with a dotted key and a TOML value or a bare word."""
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


def _explain(message: str, table: Mapping[str, Any], struct: type[msgspec.Struct]) -> str:
    """Rewrite msgspec's message, which ends in a path, to name the key, the value and the choices."""
    complaint, _, path = message.partition(" - at `$.")
    key = path.rstrip("`")
    if not key:
        return f"{complaint[0].lower()}{complaint[1:]}"  # a required key is missing
    value: Any = table
    kind: Any = struct
    for part in re.findall(r"\w+|\[", key):
        if part == "[" or not isinstance(value, Mapping):
            break
        value = value.get(part)
        hints = get_type_hints(kind) if isinstance(kind, type) else {}
        kind = _table_of(hints[part]) or _without_none(hints[part]) if part in hints else None
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    if choices and isinstance(value, str):
        return f"{key!r} is {value!r}; {near_names(value, '', choices)}"
    if isinstance(value, Mapping) and not complaint.startswith("Expected"):
        return f"in {key!r}, {complaint}"  # the message is about the whole table
    if complaint.startswith("Expected"):  # in TOML's words
        complaint = complaint.replace("object", "table").replace("array", "list").replace(" | null", "")
    return f"{key!r} is {value!r}: {complaint[0].lower()}{complaint[1:]}"


def _table_of(kind: Any) -> type[msgspec.Struct] | None:
    """Return the class of a table that a key may hold, alone or among other types."""
    kinds = get_args(kind) if get_origin(kind) in (UnionType, Union) else (kind,)
    return next((one for one in kinds if isinstance(one, type) and issubclass(one, msgspec.Struct)), None)


def _without_none(kind: Any) -> Any:
    """Return the type of a key's value, without the None of an optional key."""
    if get_origin(kind) not in (UnionType, Union):
        return kind
    others = [one for one in get_args(kind) if one is not NoneType]
    return others[0] if len(others) == 1 else kind
