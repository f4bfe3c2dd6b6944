"""Every Python block of a page runs as it is printed, in order, in one namespace and an empty folder.

What a page takes for granted (a model, results in a file) is made first, by ``given/<page>.py``. A block
that begins with ``# not run: <reason>`` is only compiled. Code cells are executed by the build, not here.
"""

import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
GIVEN = Path(__file__).parent / "given"
BLOCK = re.compile(r"^( *)```python\n(.*?)^ *```", flags=re.M | re.S)
NOT_RUN = re.compile(r"\s*# not run(: \w+|$)", flags=re.M)


def blocks(page: Path) -> list[str]:
    """Return the Python blocks, each after as many empty lines as the page has before it."""
    text = page.read_text(encoding="utf-8")
    return [
        "\n" * (text.count("\n", 0, found.start()) + 1) + re.sub(rf"^{found[1]}", "", found[2], flags=re.M)
        for found in BLOCK.finditer(text)
    ]


def name_of(page: Path) -> str:
    return page.relative_to(DOCS if page.is_relative_to(DOCS) else ROOT).with_suffix("").as_posix()


PAGES = [
    page
    for page in (ROOT / "README.md", *sorted(DOCS.rglob("*.md")))
    if "_build" not in page.parts and blocks(page)
]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_blocks_of_a_page_run(page: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    if (given := GIVEN / f"{name_of(page)}.py").exists():
        exec(compile(given.read_text(encoding="utf-8"), str(given), "exec"), names)
    try:
        for block in blocks(page):
            code = compile(block, str(page), "exec")
            if (left_out := NOT_RUN.match(block)) is None:
                exec(code, names)
            else:
                assert left_out[1], f"{page}: say why a block is not run, # not run: <reason>"
    finally:
        plt.close("all")


def test_what_is_given_belongs_to_a_page_with_blocks() -> None:
    given = {path.relative_to(GIVEN).with_suffix("").as_posix() for path in GIVEN.rglob("*.py")}
    assert given <= {name_of(page) for page in PAGES}
