"""Attributes that a store takes."""

from pathlib import Path

import pytest

from fadiag.errors import InputError
from fadiag.store import (
    RunWriter,
    run_info,
)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ({"meta": {"data": "/caf\udce9"}}, r"'/caf\\udce9' at 'meta'\['data'\] has bytes that are not UTF-8"),
        ({"config": {"x": [0, {"y": "\ud800"}]}}, r"'\\ud800' at 'config'\['x'\]\[1\]\['y'\] has bytes"),
        ({"meta": {"\udce9": 1}}, r"'\\udce9' at 'meta' has bytes"),
        ({"\udce9": 1}, r"manifest is not plain JSON: '\\udce9' has bytes"),
    ],
)
def test_the_error_for_a_text_without_utf8_names_its_place(
    tmp_path: Path, manifest: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        RunWriter(tmp_path / "run.zarr", manifest=manifest)
    assert not (tmp_path / "run.zarr").exists()
    with (
        RunWriter(tmp_path / "run.zarr", manifest={"meta": {"data": "/café/𝄞"}}) as writer,
        pytest.raises(InputError, match=r"attributes of stream 's' is not plain JSON: '\\udce9' at 'x'"),
    ):
        writer.declare_stream("s", attrs={"x": "\udce9"})
    assert run_info(tmp_path / "run.zarr").manifest["meta"] == {"data": "/café/𝄞"}
