"""Names that a store takes, and the folders that layers get."""

from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fadiag.errors import InputError
from fadiag.store import (
    RunWriter,
    layer_key,
    open_run,
)
from tests.store.runs import SPEC, values


@given(name=st.text(max_size=300).filter(lambda name: name != "(root)"))
def test_layer_keys_are_safe_and_distinct(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        return
    key = layer_key(name)
    assert 0 < len(key) <= 200
    assert key.isascii()
    assert "/" not in key
    assert key[0] not in "._"
    assert key not in {"step", "wall_time", "epoch", "rows_valid", "zarr.json", "c"}
    if "~" not in key:
        assert unquote(key.replace("(root)", "")) == name


def test_awkward_layer_names(tmp_path: Path) -> None:
    names = ["", "a/b", "..", "step", "ü", "x" * 500, "zarr.json", "a.b"]
    with RunWriter(tmp_path / "run.zarr", manifest={}) as writer:
        writer.declare_stream("s", attrs={})
        for name in names:
            writer.declare("s", name or "(root)", "x", SPEC)
        writer.append("s", 0, {(name or "(root)", "x"): values(0) for name in names})
    tree = open_run(tmp_path / "run.zarr")
    assert {child.attrs["name"] for child in tree["s"].children.values()} == set(names)


@pytest.mark.parametrize("name", ["c", "_aux", "__x"])
def test_a_name_that_no_reader_takes_is_refused_when_it_is_declared(tmp_path: Path, name: str) -> None:
    with RunWriter(tmp_path / "run.zarr", manifest={}) as writer:
        writer.declare_stream("log", attrs={})
        with pytest.raises(InputError, match=f"signal name '{name}': use letters, digits and underscores"):
            writer.append("log", 0, {}, extra={name: 1.0})
        with pytest.raises(InputError, match=f"stream name '{name}'"):
            writer.declare_stream(name, attrs={})
        writer.append("log", 1, {}, extra={"loss": 1.0})
    assert open_run(tmp_path / "run.zarr")["log/loss"].values == [1.0]
