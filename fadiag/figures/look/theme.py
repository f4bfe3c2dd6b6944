"""Theme holds the labels, colors and order of conditions for figures drawn inside its block."""

import re
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from difflib import get_close_matches

from matplotlib.colors import is_color_like

from fadiag.errors import InputError
from fadiag.store.tools.printable import printable

__all__ = ["Theme", "current_theme", "label", "theme"]


#: Of names this alike, in the measure of `difflib`, one is probably the other, misspelled.
_CLOSE = 0.75


@dataclass(frozen=True)
class Theme:
    """Labels and colors by condition, and the order of conditions; use it as a context manager.

    Examples
    --------
    >>> with Theme(labels={"fa": "feedback alignment"}):
    ...     label("fa"), label("bp")
    ('feedback alignment', 'bp')
    """

    labels: Mapping[str, str] = field(default_factory=dict)
    colors: Mapping[str, str] = field(default_factory=dict)
    order: Sequence[str] = ()

    def __enter__(self) -> "Theme":
        outer = _STACK.get()
        last = outer[-1] if outer else Theme()
        inner = Theme(
            {**last.labels, **self.labels}, {**last.colors, **self.colors}, tuple(self.order or last.order)
        )
        _STACK.set((*outer, inner))
        return self

    def __exit__(self, *_: object) -> None:
        _STACK.set(_STACK.get()[:-1])

    def misspelled(self, conditions: Iterable[str]) -> dict[str, str]:
        """Return names that are none of the conditions, and the condition that each one probably means.

        A theme may name conditions of other results. So a name counts as misspelled only if it is close to a
        condition that the theme does not name, and has the same numbers in it.

        Examples
        --------
        >>> Theme(labels={"fa+bm": "batch norm", "dfa": "direct"}).misspelled(["bp", "fa+bn"])
        {'fa+bm': 'fa+bn'}
        """
        named = dict.fromkeys([*self.labels, *self.colors, *self.order])
        held = list(conditions)
        plain = {_plain(name): name for name in held if name not in named}
        found = {}
        for name in (name for name in named if name not in held):
            for near in get_close_matches(_plain(name), plain, n=1, cutoff=_CLOSE):
                if re.findall(r"\d+", near) == re.findall(r"\d+", name):
                    found[name] = plain[near]
        return found

    def ordered(self, conditions: Iterable[str]) -> list[str]:
        """Return conditions in the theme's order; others follow in their own order."""
        held = list(conditions)
        return [*(c for c in self.order if c in held), *(c for c in held if c not in self.order)]


def _plain(name: str) -> str:
    return re.sub(r"[\s_+-]+", "+", name.strip().casefold())


#: The themes of the blocks that this code runs in, the innermost last. Each thread and task has its own.
_STACK: ContextVar[tuple[Theme, ...]] = ContextVar("fadiag_theme", default=())


def theme(
    *,
    labels: Mapping[str, str] | None = None,
    colors: Mapping[str, str] | None = None,
    order: Sequence[str] = (),
) -> Theme:
    """Return a theme: how figures name, color and order conditions inside ``with theme(...):``.

    A theme may be used for several blocks. Blocks may be nested: the inner one adds to the outer one. A
    figure warns of a name that is close to one of its conditions, but is none of them.

    Parameters
    ----------
    labels : mapping, optional
        The text for readers, by condition. Other conditions keep their own name.
    colors : mapping, optional
        A color of matplotlib by condition. Other conditions take colors of the palette.
    order : sequence of str
        Conditions in the order of legends and rows. Others follow in the order of the results.

    Raises
    ------
    InputError
        A color is none of matplotlib's.

    Examples
    --------
    >>> mine = theme(labels={"fa+bn": "FA with batch norm"}, order=["bp", "fa", "fa+bn"])
    >>> with mine:
    ...     label("fa+bn")
    'FA with batch norm'
    """
    for condition, color in (colors or {}).items():
        if not is_color_like(color):
            raise InputError(
                f"the color {color!r} of '{condition}' is no color of matplotlib, such as '#d55e00'"
            )
    texts = list((labels or {}).values())
    for condition, text in (labels or {}).items():
        if not text.strip() or texts.count(text) > 1:
            what = "empty" if not text.strip() else f"{text!r}, as that of another condition"
            raise InputError(f"the label of '{condition}' is {what}; give each condition its own")
    if isinstance(order, str):
        raise InputError(f"order={order!r} is one text; give a list of conditions")
    return Theme(dict(labels or {}), dict(colors or {}), tuple(order))


def current_theme() -> Theme:
    """Return the theme of the innermost block; an empty theme outside all blocks."""
    stack = _STACK.get()
    return stack[-1] if stack else Theme()


def label(condition: str) -> str:
    r"""Return the name of a condition for readers: the theme's, else its own, without control characters.

    Examples
    --------
    >>> label("fa+bn"), label("a\x1bb")
    ('fa+bn', 'a\\x1bb')
    """
    return printable(current_theme().labels.get(condition, condition))
