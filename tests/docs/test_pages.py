"""The pages on figures have a section for each figure, in the catalog's order; links between pages arrive."""

import re
from pathlib import Path

import pytest

from fadiag.figures import FIGURES, ON_REQUEST

DOCS = Path(__file__).parents[2] / "docs"
NAMES = [figure.name for figure in (*FIGURES, *ON_REQUEST)]
PAGES = sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)
DASHES = str.maketrans(" _", "--")
LINK = re.compile(r"\]\(([^)#:\s]*)(?:#([^)\s]+))?\)")


def prose(page: Path) -> str:
    return re.sub(r"^(```|~~~).*?^\1", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as Sphinx makes them."""
    titles = re.findall(r"^#{1,3} (.+)$", prose(page), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().translate(DASHES) for title in titles}


def sections(page: Path) -> list[str]:
    return re.findall(r"^## `(\w+)`$", prose(page), flags=re.M)


def test_every_figure_is_explained() -> None:
    page = DOCS / "reading-figures.md"
    assert sections(page) == NAMES
    shown = re.findall(r'show\("(\w+)"\)', page.read_text(encoding="utf-8"))
    assert shown == NAMES
    for part in ("Drawn", "Look for", "It cannot show"):
        assert prose(page).count(f"- **{part}**") == len(NAMES)


def test_every_figure_is_in_the_gallery() -> None:
    assert [name for name in sections(DOCS / "gallery" / "index.md") if name != "overlap_matrix"] == NAMES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_links_between_pages_arrive(page: Path) -> None:
    for target, anchor in LINK.findall(prose(page)):
        other = (page.parent / target).resolve() if target else page
        assert other.exists(), f"{page.name} links to {target}"
        if anchor and other.suffix == ".md":
            assert anchor.translate(DASHES) in anchors(other), f"{page.name} links to {target}#{anchor}"
