"""Write what a study declares before its first run, and keep what is changed later."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from fadiag.errors import ConfigError
from fadiag.studies.declared.study import Study

__all__ = ["declare", "flat"]

#: Tables of a declaration that change no number, or that are compared on their own.
_ELSEWHERE = ("conditions", "figures", "theorems", "amendments")


def declare(study: Study, path: Path) -> None:
    """Write the declaration; refuse a folder with another question, and list all other changes in it.

    The list ``amendments`` has the date of each change, the conditions, the key, and both values.
    """
    now = msgspec.json.decode(msgspec.json.encode(study.declaration()), type=dict[str, Any])
    amendments: list[dict[str, Any]] = []
    if path.exists():
        try:
            before = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
            _refuse_other_question(before["primary"], now["primary"], path)
            amendments = [*before.get("amendments", ()), *_changes(before, now)]
        except (msgspec.DecodeError, msgspec.ValidationError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{path} is damaged: {error}; delete it or take another folder") from None
    path.write_bytes(msgspec.json.format(msgspec.json.encode(now | {"amendments": amendments})) + b"\n")


def _refuse_other_question(before: Mapping[str, Any], now: Mapping[str, Any], path: Path) -> None:
    for key in ("metric", "layer", "contrast", "tail"):
        if before.get(key) != now[key]:
            raise ConfigError(
                f"{path} declares primary.{key} {before.get(key)!r}, this study {now[key]!r}: "
                "the question is declared before the runs; take another folder"
            )


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the changes between two declarations; conditions with the same change share one."""
    found: dict[str, dict[str, Any]] = {}
    tables = {"": [{k: v for k, v in one.items() if k not in _ELSEWHERE} for one in (before, now)]}
    for name in before["conditions"] | now["conditions"]:
        tables[name] = [one["conditions"].get(name, {}) for one in (before, now)]
    date = datetime.now(UTC).date().isoformat()
    for name, (one, other) in tables.items():
        if one and other:
            old, new = flat(one), flat(other)
        else:
            old, new = (
                {"condition": "declared" if one else None},
                {"condition": "declared" if other else None},
            )
        for key in old | new:
            values = {"before": old.get(key), "after": new.get(key)}
            if values["before"] != values["after"]:
                change: dict[str, Any] = {
                    "date": date,
                    "conditions": [],
                    "key": key.removeprefix("config."),
                    **values,
                }
                found.setdefault(repr(change), change)["conditions"] += [name] if name else []
    return list(found.values())


def flat(table: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return nested tables as one, with dotted keys."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        found |= flat(value, f"{above}{key}.") if isinstance(value, Mapping) else {above + key: value}
    return found
