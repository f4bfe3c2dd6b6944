"""No sentence of a docstring, comment or page is longer than a reader can say in one breath."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

import fadiag

ROOT = Path(fadiag.__file__).parents[1]
CODE = sorted(path for room in ("fadiag", "hooks") for path in (ROOT / room).rglob("*.py"))
#: A study writes its page, with a caption for each figure.
WRITTEN = set((ROOT / "docs" / "studies").glob("*/page.md"))
PAGES = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")} - WRITTEN)
LONGEST = 35
#: Words that the project's English does without; a plainer word says the same.
AVOIDED = re.compile(r"\b(told|tells|whereof|thereof|beforehand|kept beside)\b", re.IGNORECASE)


def sentences(text: str) -> Iterator[str]:
    """Yield the sentences of prose in numpydoc or Markdown, without code, tables, headings and doctests."""
    text = re.sub(r"^(```|~~~).*?^\1", "\n\n", text, flags=re.M | re.S)
    text = re.sub(r"^\s*(>>>|\.\.\.|\||#|:|=|-{3,}).*$", "", text, flags=re.M)
    text = re.sub(r"``.*?``|`[^`]*`|\$[^$]*\$|<[^>]*>|\]\([^)]*\)", " x ", text, flags=re.S)
    for block in re.split(r"\n\s*\n|\n\s*[-*\d]+[.)]?\s+|:\n", text):
        yield from re.split(r"(?<=[.!?;])\s+", " ".join(block.split()))


def prose(path: Path) -> Iterator[str]:
    """Yield what a file says to a reader: docstrings and comments, or a page."""
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        yield source
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (
            said := ast.get_docstring(node)
        ):
            yield said
    comments: list[str] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            comments.append(token.string.lstrip("#: "))
        elif token.type != tokenize.NL and comments:
            yield " ".join(comments)
            comments = []


@pytest.mark.parametrize("path", [*CODE, *PAGES], ids=lambda path: str(path.relative_to(ROOT)))
def test_sentences_are_short(path: Path) -> None:
    long = [
        sentence
        for text in prose(path)
        for sentence in sentences(text)
        if len(re.findall(r"\w[\w'’.-]*", sentence)) > LONGEST
    ]
    assert not long
    assert not [found for text in prose(path) for found in AVOIDED.findall(text)]
