"""The code of the page on figures runs as it is printed."""

import re
from pathlib import Path

import matplotlib.pyplot as plt

from fadiag.results import save_results
from tests.results.synthetic_results import synthetic

PAGE = Path(__file__).parents[2] / "docs" / "figures.md"


def test_the_snippets_of_the_page_run(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_results(synthetic(("bp", "fa", "fa+muon+bn"), layers=("fc1", "fc2", "fc3", "out")), "results.zarr")
    snippets = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(snippets) == 2
    try:
        for snippet in snippets:
            exec(compile(snippet, str(PAGE), "exec"), {})
    finally:
        plt.close("all")
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {
        "results.zarr",
        "own.png",
        *(f"fig1.{kind}" for kind in ("pdf", "svg", "png", "csv", "tex")),
    }
