"""Every test and recipe that a page names is there."""

import re
from pathlib import Path

import pytest

import fadiag

ROOT = Path(fadiag.__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_named_tests_and_recipes_are_there(page):
    named = re.findall(r"`((?:tests|hooks)/[\w./]+)`", page.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []
