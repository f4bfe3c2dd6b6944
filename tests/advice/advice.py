"""Advice as a table: provoke a message, do what it says, see it work. And find all advice in the code."""

import ast
import re
import tomllib
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import fadiag
from fadiag.errors import FadiagError

PACKAGE = Path(fadiag.__file__).parent


@dataclass(frozen=True)
class Advice:
    """Words of a message, and a story: it provokes the message inside ``provoked()``, and then obeys it.

    A story appends a message that is neither error nor warning to the list that ``provoked()`` yields.
    """

    says: str
    story: Callable[[Path, Callable[[], object]], object]

    def follow(self, folder: Path) -> None:
        heard: list[str] = []

        @contextmanager
        def provoked() -> Iterator[list[str]]:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                try:
                    yield heard
                except FadiagError as error:
                    heard.append(str(error))
            heard.extend(str(warning.message) for warning in caught)
            assert any(self._is_in(message) for message in heard), f"{self.says!r} is not said: {heard}"

        self.story(folder, provoked)
        assert heard, f"the story of {self.says!r} provokes no message"

    def _is_in(self, message: str) -> bool:
        """Say whether a message has the words, with anything in the place of what the code fills in."""
        words = re.split(r"\{[^{}]*\}", self.says)
        return re.search(".*".join(map(re.escape, words)), message, re.DOTALL) is not None

    def __repr__(self) -> str:
        return self.says


class Table(list[Advice]):
    """The advice of one package, in rows (wrong call, then the right ones) and stories."""

    def row(self, says: str, wrong: Callable[[Path], object], *right: Callable[[Path], object]) -> None:
        """Add advice that one call provokes and that each other call follows, in a folder of its own."""

        def story(folder, provoked):
            with provoked():
                wrong(folder)
            for i, follow in enumerate(right):
                (folder / f"right{i}").mkdir()
                follow(folder / f"right{i}")

        self.append(Advice(says, story))

    def story(self, says: str) -> Callable:
        """Add a function ``story(folder, provoked)``."""

        def add(story):
            self.append(Advice(says, story))
            return story

        return add


#: What a message bids its reader to do.
_VERBS = (
    "add|analyze|attach|begin|build|call|cast|check|choose|close|compact|compare|convert|copy|declare|decode|delete|divide|"
    "draw|drop|fetch|fill|get|give|go|initialize|install|judge|keep|leave|let|load|lower|make|mend|move|name|"
    "open|pad|pass|pip|put|raise|record|redraw|remove|rename|repair|restart|restore|resume|return|run|save|say|"
    "select|set|start|stop|take|tell|train|turn|untie|update fadiag|upgrade|use|wait|wrap|write"
)
#: The verb begins a sentence or a clause. "run {label}", "check is" and "train.epochs" are nouns.
_BIDS = re.compile(
    rf"(?i)(?:^|[;:,.?(] |\b(?:or|and|then|so) )(?:{_VERBS})\b"
    r"(?!(?<=run|ame|ord) [{]| is\b| of\b| tail\b| __|[,='_]|\.\w)"
)


def texts_in(package: str) -> list[tuple[str, str]]:
    """Return (place, text) of each text in a package or module of fadiag; docstrings and help left out."""
    place = PACKAGE / package
    return [
        (f"{path.relative_to(PACKAGE.parent)}:{line}", text)
        for path in ([place] if place.is_file() else sorted(place.rglob("*.py")))
        for line, text in _texts(ast.parse(path.read_text()))
    ]


def bids(text: str) -> bool:
    """Say whether a text bids its reader to do something."""
    return " " in text and _BIDS.search(re.sub(r"\{[^{}]*\}", "{}", text)) is not None


def _texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    if isinstance(tree, ast.Expr) and isinstance(tree.value, ast.Constant):
        return
    if isinstance(tree, ast.keyword) and tree.arg in ("help", "short_help"):  # what a command does
        return
    if isinstance(tree, ast.Constant) and isinstance(tree.value, str):
        yield tree.lineno, tree.value
        return
    if isinstance(tree, ast.JoinedStr):
        shown = [
            v.value if isinstance(v, ast.Constant) else f"{{{ast.unparse(v.value)}}}" for v in tree.values
        ]
        yield tree.lineno, "".join(shown)
        return
    for child in ast.iter_child_nodes(tree):
        yield from _texts(child)


def extras() -> dict[str, list[str]]:
    """Return fadiag's optional dependencies, as ``pip install 'fadiag[...]'`` knows them."""
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    return project["optional-dependencies"]
